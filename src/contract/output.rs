//! The outputs of a network, and what their numbers mean.

use ndarray::{Array2, ArrayD, Axis, IxDyn};
use serde::Serialize;

use super::tensor::{Dim, Element, TensorInfo};

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
    /// The index of the class with the largest logit, one number per image.
    Decision,
    /// Features before the classifier.
    Embedding,
}

impl Output {
    /// How well an output suits as the one by which classes are decided, the smaller the better: a row of scores, then
    /// an output of unknown shape, one number per image, scores as integers, decisions; `None` for what is neither
    /// scores nor decisions.
    fn unsuitability(&self) -> Option<u8> {
        let sizes = self.tensor.dims.get(1..).unwrap_or_default();
        let axes = sizes.iter().filter(|dim| **dim != Dim::Fixed(1)).count();
        match (self.kind, self.tensor.element, axes) {
            (OutputKind::Decision, _, 0) => Some(4),
            (OutputKind::Embedding | OutputKind::Decision, ..) => None,
            (_, Element::Integer { .. }, 0 | 1) => Some(3),
            (_, Element::Integer { .. }, _) => None,
            (_, _, 1) => Some(0),
            (_, _, 0) if self.tensor.dims.is_empty() => Some(1),
            (_, _, 0) => Some(2),
            (_, _, _) => None,
        }
    }
}

/// Places of the outputs by which classes can be decided, the most suitable first: `logits` by name, then rows of scores
/// in the order of the outputs. If none suits, all outputs.
pub fn suitable(outputs: &[Output], logits: &str) -> Vec<usize> {
    let key =
        |place: usize| Some((outputs[place].unsuitability()?, outputs[place].tensor.name != logits, place));
    let mut found: Vec<(u8, bool, usize)> = (0..outputs.len()).filter_map(key).collect();
    found.sort_unstable();
    let least = found.first().map(|(least, ..)| *least);
    let places: Vec<usize> =
        found.into_iter().filter(|(value, ..)| Some(*value) == least).map(|(.., place)| place).collect();
    if places.is_empty() { (0..outputs.len()).collect() } else { places }
}

/// An output of `images` images as a matrix with one row per image, whatever axes of length 1 it has besides.
///
/// # Errors
/// A sentence, if it is not one row of numbers per image.
pub fn rows<T: Clone>(values: ArrayD<T>, images: usize) -> Result<Array2<T>, String> {
    let shape = values.shape().to_vec();
    let problem =
        || format!("an output of shape {shape:?} for {images} images, not a row of scores per image");
    // A file that takes one image may give its row without the batch's axis.
    let sample = match shape.split_first() {
        Some((&first, rest)) if first == images && (images != 1 || rest.iter().any(|&size| size > 1)) => rest,
        _ if images == 1 => &shape[..],
        Some((&first, rest)) if first == images => rest,
        _ => return Err(problem()),
    };
    if sample.iter().filter(|&&size| size != 1).count() > 1 {
        return Err(problem());
    }
    let row = sample.iter().product::<usize>();
    let flat = values.as_standard_layout().into_owned().into_shape_with_order(IxDyn(&[images, row]));
    flat.and_then(ArrayD::into_dimensionality).map_err(|_| problem())
}

impl OutputKind {
    /// Converts logits `[batch, classes]` to an output of this kind; decisions are `[batch, 1]`. An embedding is not
    /// computed from logits, so the argument is returned as it is.
    pub fn of_logits(self, mut logits: ArrayD<f64>) -> ArrayD<f64> {
        let finish: fn(f64, f64, f64) -> f64 = match self {
            OutputKind::Logits | OutputKind::Embedding => return logits,
            OutputKind::Probabilities => |logit, largest, sum| (logit - largest).exp() / sum,
            OutputKind::LogProbabilities => |logit, largest, sum| logit - largest - sum.ln(),
            OutputKind::Decision => {
                let largest = |row: ndarray::ArrayViewD<'_, f64>| {
                    let better =
                        |best: (usize, f64), next: (usize, f64)| if next.1 > best.1 { next } else { best };
                    row.iter().copied().enumerate().reduce(better).map_or(0.0, |(class, _)| class as f64)
                };
                let decisions: Vec<f64> = logits.outer_iter().map(largest).collect();
                let shape = IxDyn(&[decisions.len(), 1]);
                return ArrayD::from_shape_vec(shape, decisions).unwrap_or(logits);
            }
        };
        for mut row in logits.lanes_mut(Axis(1)) {
            let largest = row.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let sum: f64 = row.iter().map(|&logit| (logit - largest).exp()).sum();
            row.mapv_inplace(|logit| finish(logit, largest, sum));
        }
        logits
    }

    /// The probability of each class if `row` is an output of this kind. A decision says 1 for its class; classes above
    /// it are left out.
    pub fn probabilities(self, row: &[f64]) -> Vec<f64> {
        match self {
            OutputKind::Probabilities => row.to_vec(),
            OutputKind::LogProbabilities => row.iter().map(|value| value.exp()).collect(),
            OutputKind::Decision => {
                let class = row.first().map_or(0, |class| class.clamp(0.0, 1e6) as usize);
                (0..=class).map(|other| if other == class { 1.0 } else { 0.0 }).collect()
            }
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
        assert_eq!(given(OutputKind::Decision), [1.0]);
        assert_eq!(OutputKind::Decision.probabilities(&[1.0]), [0.0, 1.0]);
    }

    #[test]
    fn a_row_per_image_is_found_in_any_shape() {
        let row = |shape: &[usize], images: usize| {
            let count: usize = shape.iter().product();
            let values = ArrayD::from_shape_vec(shape, (0..count).collect()).unwrap();
            rows(values, images).map(|rows| rows.dim())
        };
        for shape in [&[3, 5][..], &[3, 5, 1, 1], &[3, 1, 1, 5], &[3, 1, 5]] {
            assert_eq!(row(shape, 3), Ok((3, 5)), "{shape:?}");
        }
        assert_eq!((row(&[3], 3), row(&[3, 1], 3)), (Ok((3, 1)), Ok((3, 1))));
        // A single image, with and without its axis.
        for shape in [&[1, 5][..], &[5], &[1, 5, 1, 1]] {
            assert_eq!(row(shape, 1), Ok((1, 5)), "{shape:?}");
        }
        assert_eq!((row(&[1], 1), row(&[], 1), row(&[1, 1], 1)), (Ok((1, 1)), Ok((1, 1)), Ok((1, 1))));
        for (shape, images) in [(&[3, 5][..], 2), (&[3, 2, 2], 3), (&[5], 3), (&[], 2), (&[2, 5], 1)] {
            let problem = row(shape, images).unwrap_err();
            assert!(problem.contains("not a row of scores per image"), "{shape:?}: {problem}");
        }
    }

    #[test]
    fn scores_are_found_among_other_outputs() {
        let output = |name: &str, element, dims: &[usize], kind| {
            let tensor = TensorInfo { element, ..TensorInfo::batched(name, dims) };
            Output { tensor, kind }
        };
        let integer = Element::Integer { least: i64::MIN, most: i64::MAX };
        let label = output("label", integer, &[], OutputKind::Decision);
        let scores = output("scores", Element::Float32, &[5, 1, 1], OutputKind::Logits);
        let map = output("map", Element::Float32, &[5, 7, 7], OutputKind::Logits);
        let named = output("logits", Element::Float32, &[5], OutputKind::Logits);
        let features = output("embedding", Element::Float32, &[64], OutputKind::Embedding);
        let found = |outputs: &[&Output]| {
            let outputs: Vec<Output> = outputs.iter().map(|output| (*output).clone()).collect();
            suitable(&outputs, "logits")
        };
        assert_eq!(found(&[&label, &map, &scores]), [2]);
        assert_eq!(found(&[&features, &scores, &named]), [2, 1], "a named one comes first");
        assert_eq!(found(&[&map, &label]), [1], "decisions where there are no scores");
        assert_eq!(found(&[&map, &features]), [0, 1], "nothing suits");
        let bytes = output("bytes", Element::Integer { least: 0, most: 255 }, &[5], OutputKind::Logits);
        assert_eq!(found(&[&bytes, &scores]), [1], "floats before integers");
        assert_eq!(found(&[&label, &bytes]), [1], "scores before decisions");
        let unknown =
            Output { tensor: TensorInfo { dims: Vec::new(), ..scores.tensor.clone() }, kind: scores.kind };
        assert_eq!(found(&[&unknown, &label, &scores]), [2]);
        assert_eq!(found(&[&label, &unknown]), [1]);
    }
}
