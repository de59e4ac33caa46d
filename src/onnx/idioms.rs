//! Patterns that runtimes compute faster when they are written in a known form, found in a graph for emission.

use std::collections::HashSet;

use crate::graph::{Binary, Graph, Node, NodeId, Op, Unary};

/// The gates of products that import made from a HardSwish: they are written as one node again, which runtimes
/// compute in one step.
pub fn hard_swish_gates(graph: &Graph) -> HashSet<NodeId> {
    let uses = graph.uses();
    let gate = |product: &Node| {
        let (Op::Binary(Binary::Mul), &[x, gate]) = (&product.op, &product.inputs[..]) else { return None };
        let part = graph.node(gate);
        let swish = part.op == Op::Unary(hard_swish()) && part.inputs == [x];
        let alone = uses[gate.index()] == 1 && part.name == format!("{}.gate", product.name);
        (swish && alone).then_some(gate)
    };
    graph.nodes().iter().filter_map(gate).collect()
}

/// Scalar constants that only functions of two elements and choices read, for which the number of axes does not matter:
/// runtimes recognise patterns such as Gelu by scalars without axes.
pub fn numbers(graph: &Graph) -> HashSet<NodeId> {
    let single = |node: &Node| matches!(&node.op, Op::Constant { values } if values.len() == 1);
    let mut numbers: HashSet<NodeId> = graph
        .nodes()
        .iter()
        .enumerate()
        .filter(|(_, node)| single(node))
        .map(|(index, _)| graph.id(index))
        .collect();
    for node in graph.nodes().iter().filter(|node| !matches!(node.op, Op::Binary(_) | Op::Where)) {
        node.inputs.iter().for_each(|input| {
            numbers.remove(input);
        });
    }
    numbers
}

/// Constants that only choices and functions of booleans read, as conditions.
pub fn conditions(graph: &Graph) -> HashSet<NodeId> {
    let asks = |node: &Node, place: usize| {
        let of_booleans = matches!(node.op, Op::Unary(Unary::Not) | Op::Binary(Binary::And | Binary::Or));
        of_booleans || (node.op == Op::Where && place == 0)
    };
    let read = |asked: bool| -> HashSet<NodeId> {
        let of_node = |node: &Node| -> Vec<NodeId> {
            let inputs = node.inputs.iter().enumerate();
            inputs.filter(|(place, _)| asks(node, *place) == asked).map(|(_, id)| *id).collect()
        };
        graph.nodes().iter().flat_map(of_node).collect()
    };
    let constant = |id: &&NodeId| matches!(graph.node(**id).op, Op::Constant { .. });
    read(true).difference(&read(false)).filter(constant).copied().collect()
}

/// `min(max(x / 6 + 1/2, 0), 1)`, with its numbers in float32, as in a file.
pub fn hard_swish() -> Unary {
    Unary::HardSigmoid { alpha: f64::from(1.0f32 / 6.0), beta: 0.5 }
}
