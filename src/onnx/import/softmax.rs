//! Finds the softmax in which a file may end, and the tensors that are logits and embedding.

use crate::contract::OutputKind;
use crate::graph::{Op, Unary};

use super::draft::Draft;

/// The node before a final softmax over the classes, if there is one; changes of shape after it are allowed.
pub fn before_softmax(draft: &Draft, last: usize) -> (usize, OutputKind) {
    let end = through_shapes(draft, last);
    if let Some(before) = softmax_input(draft, end) {
        return (before, OutputKind::Probabilities);
    }
    // LogSoftmax is written as the logarithm of a softmax.
    if let Op::Unary(Unary::Log) = draft.node(end).op
        && let Some(before) = softmax_input(draft, draft.node(end).inputs[0])
    {
        return (before, OutputKind::LogProbabilities);
    }
    (last, OutputKind::Logits)
}

fn through_shapes(draft: &Draft, mut node: usize) -> usize {
    while let Op::Flatten | Op::Reshape { .. } = draft.node(node).op {
        node = draft.node(node).inputs[0];
    }
    node
}

/// The input of a softmax over all values of an image.
fn softmax_input(draft: &Draft, node: usize) -> Option<usize> {
    let node = draft.node(node);
    let Op::Softmax { axis } = node.op else { return None };
    (node.shape.iter().product::<usize>() == node.shape[axis]).then(|| node.inputs[0])
}

/// The features that the last linear layer turns into logits.
pub fn embedding(draft: &Draft, logits: usize) -> Option<usize> {
    let node = draft.node(logits);
    let Op::Linear { .. } = node.op else { return None };
    (node.shape.len() == 1).then(|| node.inputs[0])
}
