//! What a graph costs: parameters, multiply-accumulates, activation memory.

use serde::{Deserialize, Serialize};

use super::build::{Graph, Node};
use super::facts::{Role, elements};

/// Cost of a whole graph for one image.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cost {
    /// Trainable parameters; running statistics are not counted, as in published tables.
    pub params: u64,
    /// Multiply-accumulates of convolutions, linear layers and matrix products for one image.
    pub macs: u64,
    /// Bytes of all activations of one image in float32, each kept once.
    pub activation_bytes: u64,
}

/// Cost of one node for one image.
#[derive(Debug, Clone, PartialEq)]
pub struct LayerCost {
    pub params: u64,
    pub macs: u64,
}

/// Sums over all nodes.
pub fn cost(graph: &Graph) -> Cost {
    let mut total = Cost::default();
    for (node, layer) in graph.nodes().iter().zip(layer_costs(graph)) {
        total.params += layer.params;
        total.macs += layer.macs;
        total.activation_bytes += 4 * elements(&node.shape);
    }
    total
}

/// Cost of every node, in node order.
pub fn layer_costs(graph: &Graph) -> Vec<LayerCost> {
    graph.nodes().iter().map(|node| layer_cost(graph, node)).collect()
}

fn layer_cost(graph: &Graph, node: &Node) -> LayerCost {
    let facts = node.op.facts(&graph.input_shapes(node), &node.shape);
    let trainable = facts.params.iter().filter(|param| param.role != Role::Buffer);
    LayerCost { params: trainable.map(|param| elements(&param.shape)).sum(), macs: facts.macs }
}
