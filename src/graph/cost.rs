//! What a graph costs: parameters, multiply-accumulates, activation memory.

use serde::{Deserialize, Serialize};

use super::build::{Graph, Node};
use super::op::Op;
use super::params::{Role, node_params};

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
    let trainable = node_params(graph, node).into_iter().filter(|spec| spec.role != Role::Buffer);
    let params = trainable.map(|spec| elements(&spec.shape)).sum();
    let channels_in = || graph.input_shapes(node)[0][0] as u64;
    let macs = match &node.op {
        Op::Conv2d(conv) => {
            let window = (conv.kernel[0] * conv.kernel[1]) as u64;
            elements(&node.shape) * window * (channels_in() / conv.groups as u64)
        }
        Op::Linear { .. } | Op::MatMul => {
            elements(&node.shape) * graph.input_shapes(node)[0].last().map_or(1, |&depth| depth as u64)
        }
        Op::Input { .. }
        | Op::Constant { .. }
        | Op::BatchNorm { .. }
        | Op::Relu
        | Op::Clip { .. }
        | Op::MaxPool(_)
        | Op::AvgPool { .. }
        | Op::GlobalAvgPool
        | Op::Flatten
        | Op::Add
        | Op::Concat { .. }
        | Op::Slice { .. }
        | Op::ChannelShuffle { .. }
        | Op::Unary(_)
        | Op::Binary(_)
        | Op::Softmax { .. }
        | Op::LayerNorm { .. }
        | Op::Mean { .. }
        | Op::Reshape { .. }
        | Op::Transpose { .. }
        | Op::Pad { .. } => 0,
    };
    LayerCost { params, macs }
}

fn elements(shape: &[usize]) -> u64 {
    shape.iter().map(|&dim| dim as u64).product()
}
