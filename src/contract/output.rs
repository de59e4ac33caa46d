//! The outputs of a network, and what their numbers mean.

use ndarray::{ArrayD, Axis};
use serde::Serialize;

use super::tensor::TensorInfo;

/// One output of a network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Output {
    pub tensor: TensorInfo,
    pub kind: OutputKind,
}

/// What the numbers of an output mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum OutputKind {
    /// One number per class, without a softmax.
    Logits,
    /// Softmax of the logits.
    Probabilities,
    /// Logarithms of the probabilities.
    LogProbabilities,
    /// Features before the classifier.
    Embedding,
}

impl OutputKind {
    /// Converts logits `[batch, classes]` to an output of this kind. An embedding is not computed from
    /// logits, so the argument is returned as it is.
    pub fn of_logits(self, mut logits: ArrayD<f64>) -> ArrayD<f64> {
        let finish: fn(f64, f64, f64) -> f64 = match self {
            OutputKind::Logits | OutputKind::Embedding => return logits,
            OutputKind::Probabilities => |logit, largest, sum| (logit - largest).exp() / sum,
            OutputKind::LogProbabilities => |logit, largest, sum| logit - largest - sum.ln(),
        };
        for mut row in logits.lanes_mut(Axis(1)) {
            let largest = row.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let sum: f64 = row.iter().map(|&logit| (logit - largest).exp()).sum();
            row.mapv_inplace(|logit| finish(logit, largest, sum));
        }
        logits
    }

    /// The probability of each class if `row` is an output of this kind.
    pub fn probabilities(self, row: &[f64]) -> Vec<f64> {
        match self {
            OutputKind::Probabilities => row.to_vec(),
            OutputKind::LogProbabilities => row.iter().map(|value| value.exp()).collect(),
            OutputKind::Logits | OutputKind::Embedding => {
                let largest = row.iter().copied().fold(f64::NEG_INFINITY, f64::max);
                let weights: Vec<f64> = row.iter().map(|logit| (logit - largest).exp()).collect();
                let total: f64 = weights.iter().sum();
                weights.into_iter().map(|weight| weight / total).collect()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_their_formulas() {
        let logits = ArrayD::from_shape_vec(vec![1, 2], vec![1000.0, 1000.0 + 3f64.ln()]).unwrap();
        let near = |found: &[f64], expected: [f64; 2]| {
            found.iter().zip(expected).for_each(|(a, b)| assert!((a - b).abs() < 1e-12, "{a} is not {b}"));
        };
        let given = |kind: OutputKind| kind.of_logits(logits.clone()).into_raw_vec_and_offset().0;
        near(&given(OutputKind::Probabilities), [0.25, 0.75]);
        near(&given(OutputKind::LogProbabilities), [0.25f64.ln(), 0.75f64.ln()]);
        assert_eq!(given(OutputKind::Logits), logits.iter().copied().collect::<Vec<f64>>());
        for kind in [OutputKind::Logits, OutputKind::Probabilities, OutputKind::LogProbabilities] {
            near(&kind.probabilities(&given(kind)), [0.25, 0.75]);
        }
    }
}
