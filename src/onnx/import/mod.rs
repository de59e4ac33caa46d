//! Imports an ONNX file: a foreign image classifier as a graph with its weights.
//!
//! The file's nodes are visited once, in order. Each tensor is either known (an initializer, a constant, a
//! shape), in which case everything computed from known tensors is known too, or it is data that differs from
//! image to image, in which case it corresponds to a node of the graph under construction (`draft.rs`). Shapes
//! may contain the batch size as a symbol. Operators without an operation of their own are written with others:
//! Gelu as its formula, asymmetric padding as a padding before. Everything that cannot be expressed is collected
//! and refused in one message.
//!
//! Nothing here recurses, every size is checked before memory is allocated for it, and the size of folded
//! constants is bounded (`value.rs`). Knows no runtime.

mod activations;
mod arguments;
mod arrays;
mod attention;
mod booleans;
mod constant;
mod draft;
mod einsum;
mod fold;
mod indexing;
mod known;
mod layers;
mod node;
mod norms;
mod pointwise;
mod quantized;
mod rearrange;
mod reductions;
mod repeated;
mod resize;
mod shapes;
mod softmax;
mod strided;
mod value;
mod views;
mod walk;
mod windows;

#[cfg(test)]
mod hostile;
#[cfg(test)]
mod operators;
#[cfg(test)]
mod placing;

pub use walk::import;

use crate::contract::Contract;
use crate::graph::{Model, NodeId};

/// A file as a graph.
#[derive(Debug, Clone, PartialEq)]
pub struct Import {
    /// The model. Nodes carry the names of the file's nodes where those are unique. The image is `[channels,
    /// height, width]` in the file's own channel order; integers are taken unchanged.
    pub model: Model,
    /// The file's own interface. The model's logits are its answer before any softmax; the answer's kind says
    /// whether the file has one.
    pub contract: Contract,
    /// For each node of the graph, the file's node from which it comes; for constants, the tensor.
    pub origins: Vec<String>,
    /// The file's tensors that correspond to nodes of the graph, in the graph's order.
    pub tensors: Vec<(String, NodeId)>,
    /// The file's tensor that holds the logits, if a softmax or an ArgMax follows and there is such a tensor.
    pub logits_tensor: Option<String>,
}
