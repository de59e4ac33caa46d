//! From an ONNX file to the node list: a foreign image classifier as a graph with its weights.
//!
//! The file's nodes are walked through once, in order. Each tensor is either known (an initializer, a
//! constant, a shape), and then what is computed from known tensors is known too, or it differs from
//! image to image, and then it stands for a node of the graph under construction (`draft.rs`). Shapes may
//! hold the batch size, which is a symbol. Operators that have no operation of their own are written with
//! those there are: Gelu as its formula, asymmetric padding as a padding before. What cannot be said is
//! collected and refused in one message.
//!
//! Nothing here recurses, every size is checked before memory is taken for it, and what folding may
//! make is bounded (`value.rs`). Knows no runtime.

mod arguments;
mod constant;
mod draft;
mod fold;
mod known;
mod layers;
mod node;
mod pointwise;
mod rearrange;
mod shapes;
mod softmax;
mod strided;
mod value;
mod walk;
mod windows;

#[cfg(test)]
mod hostile;
#[cfg(test)]
mod operators;

pub use walk::import;

use crate::contract::Contract;
use crate::graph::{Model, NodeId};

/// A file as a graph.
#[derive(Debug, Clone, PartialEq)]
pub struct Import {
    /// Nodes carry the names of the file's nodes where those are unique. The image is `[channels, height,
    /// width]` in the file's own order; whole numbers are taken as they are.
    pub model: Model,
    /// The file's own interface. The model's logits are its answer before any softmax: the answer's kind says
    /// whether the file has one.
    pub contract: Contract,
    /// For each node of the graph, the node of the file it comes from; for constants the tensor.
    pub origins: Vec<String>,
    /// The file's tensors that nodes of the graph stand for, in the graph's order.
    pub tensors: Vec<(String, NodeId)>,
    /// The file's tensor that holds the logits, where a softmax follows and such a tensor is there.
    pub before_softmax: Option<String>,
}
