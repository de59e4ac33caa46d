//! A network as data: a list of nodes in topological order, over a closed set of operations.
//!
//! Everything else is a reading of that one list: shapes, parameters, cost, the libtorch forward pass, ONNX
//! emission, BatchNorm folding. This folder knows no runtime, no file format except safetensors, and no data set.

mod build;
mod canonical;
mod cost;
mod facts;
mod fingerprint;
mod fold;
mod head;
mod init;
mod layout;
mod model;
mod normalize;
mod op;
mod params;
mod quantize;
mod resize;
mod shape;
mod slim;
mod unfold;
mod weights;

pub use build::{Builder, Graph, GraphError, Node, NodeId, Output, Write};
pub use cost::{Cost, LayerCost, cost, layer_costs, memory_bytes};
pub use facts::{Facts, Init, Param, Role};
pub use fingerprint::fingerprint;
pub use fold::fold_batch_norm;
pub use head::{Head, with_head_of};
pub use init::initial_weights;
pub use layout::{with_channels_first, with_channels_last, with_reversed_channels};
pub use model::{Model, ModelError};
pub use normalize::{fold_normalization, normalizing};
pub use op::{Binary, Conv2d, Op, Pool, Shape, Unary};
pub use params::{ParamSpec, node_params, params};
pub use quantize::Quantize;
pub use resize::{Coordinates, Filter, Resize, Rounding};
pub use slim::{Block, Coupling, Group, Whole, residual_blocks, without_blocks};
pub use unfold::{Statistics, bare_convolutions, unfold_batch_norm};
pub use weights::{Weights, WeightsError};
