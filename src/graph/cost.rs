//! What a graph costs: parameters, multiply-accumulates, activation memory.

use serde::{Deserialize, Serialize};

use super::build::{Graph, Node};
use super::facts::{Role, elements};
use super::params::node_params;

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

/// Bytes that one image needs at the most: all weights, and at each node the activations that are still to be read, in
/// float32. An engine that reuses buffers within a node, or lays weights out twice, needs less or more.
pub fn memory_bytes(graph: &Graph) -> u64 {
    let nodes = graph.nodes();
    let mut last_reader: Vec<usize> = (0..nodes.len()).collect();
    for (place, node) in nodes.iter().enumerate() {
        node.inputs.iter().for_each(|input| last_reader[input.index()] = place);
    }
    for output in graph.outputs() {
        last_reader[output.node.index()] = nodes.len();
    }
    let mut released = vec![0u64; nodes.len() + 1];
    let (mut live, mut most) = (0, 0);
    for (place, node) in nodes.iter().enumerate() {
        let bytes = 4 * elements(&node.shape);
        live += bytes;
        released[last_reader[place]] += bytes;
        most = most.max(live);
        live -= released[place];
    }
    let stored = graph.nodes().iter().flat_map(|node| node_params(graph, node));
    most + stored.map(|param| 4 * elements(&param.shape)).sum::<u64>()
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

#[cfg(test)]
mod tests {
    use super::super::build::Builder;
    use super::super::op::{Binary, Conv2d, Op, Unary};
    use super::*;

    /// A value lives until its last reader is done, an output to the end.
    #[test]
    fn memory_is_what_lives_at_once() {
        let (mut builder, image) = Builder::new(vec![1, 4, 4]).unwrap();
        let conv = builder.add("conv", Op::Conv2d(Conv2d::square(8, 3, 1)), &[image]).unwrap();
        let gate = builder.add("gate", Op::Unary(Unary::Sigmoid), &[conv]).unwrap();
        let sum = builder.add("sum", Op::Binary(Binary::Add), &[gate, conv]).unwrap();
        let flat = builder.add("flat", Op::Flatten, &[sum]).unwrap();
        let logits = builder.add("logits", Op::Linear { out_features: 2, bias: true }, &[flat]).unwrap();
        let graph = builder.finish(&[(Graph::LOGITS, logits)]);
        let (weights, plane) = (8 * 9 + 2 * 128 + 2, 8 * 16);
        // At the sum, convolution, sigmoid and sum are there; the image is not any more.
        assert_eq!(memory_bytes(&graph), 4 * (weights + 3 * plane));
    }
}
