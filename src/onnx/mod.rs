//! ONNX files: the only place that names protobuf.
//!
//! Emission reads the graph's node list; reading a foreign file checks its structure before any
//! runtime sees it. Knows no runtime.

mod emit;
mod metadata;
mod proto;
mod read;
mod summary;

pub use emit::{EmitOptions, IR_VERSION, OPSET, emit};
pub use metadata::Metadata;
pub use read::{Dim, OnnxFile, TensorInfo};
pub use summary::{LayerRow, Summary, Totals, graph_rows};
