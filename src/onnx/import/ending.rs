//! What a file ends with, and which of its tensors are logits and embedding.

use ndarray::{ArrayD, Axis};
use serde::Serialize;

use crate::graph::{Op, Unary};

use super::draft::Draft;

/// What a file does with its logits before it gives them out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Ending {
    Logits,
    /// Probabilities. The graph ends before, so that errors are seen in full.
    Softmax,
    /// Logarithms of probabilities.
    LogSoftmax,
}

impl Ending {
    /// The graph's logits `[batch, classes]` as the file would give them.
    pub fn apply(self, logits: ArrayD<f64>) -> ArrayD<f64> {
        let by_row = |mut logits: ArrayD<f64>, change: fn(f64, f64, f64) -> f64| {
            for mut row in logits.lanes_mut(Axis(1)) {
                let largest = row.iter().copied().fold(f64::NEG_INFINITY, f64::max);
                let sum: f64 = row.iter().map(|&logit| (logit - largest).exp()).sum();
                row.mapv_inplace(|logit| change(logit, largest, sum));
            }
            logits
        };
        match self {
            Ending::Logits => logits,
            Ending::Softmax => by_row(logits, |logit, largest, sum| (logit - largest).exp() / sum),
            Ending::LogSoftmax => by_row(logits, |logit, largest, sum| logit - largest - sum.ln()),
        }
    }
}

/// The node before a softmax over the classes, if the last one is that, whatever shape it is then given.
pub fn before_softmax(draft: &Draft, last: usize) -> (usize, Ending) {
    let end = through_shapes(draft, last);
    if let Some(before) = softmax_input(draft, end) {
        return (before, Ending::Softmax);
    }
    // LogSoftmax is written as the logarithm of a softmax.
    if let Op::Unary(Unary::Log) = draft.node(end).op
        && let Some(before) = softmax_input(draft, draft.node(end).inputs[0])
    {
        return (before, Ending::LogSoftmax);
    }
    (last, Ending::Logits)
}

fn through_shapes(draft: &Draft, mut node: usize) -> usize {
    while let Op::Flatten | Op::Reshape { .. } = draft.node(node).op {
        node = draft.node(node).inputs[0];
    }
    node
}

/// What a softmax over all values of an image reads.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endings_are_their_formulas() {
        let logits = ArrayD::from_shape_vec(vec![1, 2], vec![1000.0, 1000.0 + 3f64.ln()]).unwrap();
        let near = |found: ArrayD<f64>, expected: [f64; 2]| {
            found.iter().zip(expected).for_each(|(a, b)| assert!((a - b).abs() < 1e-12, "{a} is not {b}"));
        };
        near(Ending::Softmax.apply(logits.clone()), [0.25, 0.75]);
        near(Ending::LogSoftmax.apply(logits.clone()), [0.25f64.ln(), 0.75f64.ln()]);
        assert_eq!(Ending::Logits.apply(logits.clone()), logits);
    }
}
