//! Residual blocks, and a network without some of them.

use std::collections::HashSet;

use super::super::build::{Graph, NodeId};
use super::super::model::{Model, ModelError};
use super::super::op::Op;
use super::super::params::params;
use super::super::weights::Weights;

/// A sum of a value and of what a branch makes of it, which has the same shape: without the branch, the value itself
/// goes on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Block {
    /// The name of the sum.
    pub name: String,
    sum: NodeId,
    shortcut: NodeId,
}

/// The residual blocks of a graph, in its order.
pub fn residual_blocks(graph: &Graph) -> Vec<Block> {
    let nodes = graph.nodes().iter().enumerate();
    let block = |(index, node): (usize, &super::super::build::Node)| {
        let (Op::Add, &[a, b]) = (&node.op, &node.inputs[..]) else { return None };
        let (shortcut, branch) = if a < b { (a, b) } else { (b, a) };
        let found = starts_at(graph, branch, shortcut);
        found.then(|| Block { name: node.name.clone(), sum: graph.id(index), shortcut })
    };
    nodes.filter_map(block).collect()
}

/// Whether all that a value is computed from, except for constants, comes from another one.
fn starts_at(graph: &Graph, value: NodeId, start: NodeId) -> bool {
    let mut seen = HashSet::from([value]);
    let mut next = vec![value];
    let mut reached = false;
    while let Some(id) = next.pop() {
        if id == start {
            reached = true;
            continue;
        }
        let node = graph.node(id);
        if id < start && !matches!(node.op, Op::Constant { .. }) {
            return false;
        }
        next.extend(node.inputs.iter().copied().filter(|input| seen.insert(*input)));
    }
    reached && value != start
}

/// The network without the branches of these blocks.
///
/// # Errors
/// [`ModelError`] if the weights are not those of the graph.
pub fn without_blocks(model: &Model, blocks: &[Block]) -> Result<Model, ModelError> {
    let graph = model.graph();
    let goes_on = |id: NodeId| blocks.iter().find(|block| block.sum == id).map(|block| block.shortcut);
    let mut live = vec![false; graph.nodes().len()];
    let mut next: Vec<NodeId> = graph.outputs().iter().map(|output| output.node).collect();
    while let Some(id) = next.pop() {
        if !std::mem::replace(&mut live[id.index()], true) {
            match goes_on(id) {
                Some(shortcut) => next.push(shortcut),
                None => next.extend(&graph.node(id).inputs),
            }
        }
    }
    let mut written: Vec<Option<NodeId>> = vec![None; graph.nodes().len()];
    let shorter = graph.rewritten(&mut |builder, id, inputs| {
        let new = match goes_on(id) {
            _ if !live[id.index()] => graph.id(0),
            Some(shortcut) => written[shortcut.index()].unwrap_or(graph.id(0)),
            None => builder.add(&graph.node(id).name, graph.node(id).op.clone(), inputs)?,
        };
        written[id.index()] = Some(new);
        Ok(new)
    })?;
    let mut weights = Weights::new();
    for spec in params(&shorter) {
        if let Some(array) = model.weights().get(&spec.name) {
            weights.insert(spec.name, array.clone());
        }
    }
    Ok(Model::new(shorter, weights)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::{Builder, Conv2d};

    fn three_blocks() -> Graph {
        let (mut builder, image) = Builder::new(vec![4, 6, 6]).unwrap();
        let mut last = image;
        for block in ["a", "b", "c"] {
            // The block in the middle has a convolution in its shortcut.
            let conv =
                builder.add(format!("{block}.conv"), Op::Conv2d(Conv2d::square(4, 3, 1)), &[last]).unwrap();
            let relu = builder.add(format!("{block}.relu"), Op::Relu, &[conv]).unwrap();
            if block == "b" {
                last = builder.add("b.down", Op::Conv2d(Conv2d::square(4, 1, 1)), &[last]).unwrap();
            }
            last = builder.add(format!("{block}.sum"), Op::Add, &[relu, last]).unwrap();
        }
        builder.finish(&[(Graph::LOGITS, last)])
    }

    #[test]
    fn a_block_without_its_branch_is_its_shortcut() {
        let model = Model::untrained(three_blocks(), 1);
        let blocks = residual_blocks(model.graph());
        let names: Vec<&str> = blocks.iter().map(|block| block.name.as_str()).collect();
        assert_eq!(names, ["a.sum", "c.sum"]);
        let shorter = without_blocks(&model, &blocks[1..]).unwrap();
        let names: Vec<&str> = shorter.graph().nodes().iter().map(|node| node.name.as_str()).collect();
        assert_eq!(names, ["image", "a.conv", "a.relu", "a.sum", "b.conv", "b.relu", "b.down", "b.sum"]);
        assert_eq!(
            shorter.graph().output(Graph::LOGITS).map(|id| shorter.graph().node(id).name.as_str()),
            Some("b.sum")
        );
        assert_eq!(without_blocks(&model, &[]).unwrap(), model);
        let none = without_blocks(&model, &blocks).unwrap();
        assert_eq!(none.graph().nodes().len(), 5);
    }
}
