//! The second leg of a tolerance: how far honest evaluations in float32 are from one another on a sample.
//!
//! Where a network is ill-conditioned on a sample (logits that cancel, many layers), float32 itself may be further from
//! float64 than a fixed limit allows. Whether it is shows when the reference network itself is evaluated in float32
//! several times with different roundings. A fault in a file or an engine is not in the reference network, so it does not
//! widen anything. Knows evaluations as functions from images to logits.

use std::cell::OnceCell;

use anyhow::Result;
use ndarray::{Array2, ArrayD, ArrayView2, ArrayViewD, Axis};

use crate::contract::rows;
use crate::engine::torch::Rounding;
use crate::graph::Model;

use super::compare::exceeding;
use super::tolerance::Tolerance;

/// Evaluates the reference network in float32 several times.
pub type Evaluations<'a> = dyn Fn(ArrayViewD<'_, f32>) -> Result<Vec<ArrayD<f64>>> + 'a;

/// Samples per evaluation.
const BATCH: usize = 8;

/// Evaluations of a network, which is prepared when they are first needed.
pub fn evaluations(model: &Model) -> impl Fn(ArrayViewD<'_, f32>) -> Result<Vec<ArrayD<f64>>> {
    let prepared = OnceCell::new();
    move |images: ArrayViewD<'_, f32>| {
        let rounding = match prepared.get() {
            Some(rounding) => rounding,
            None => {
                let rounding = Rounding::new(model)?;
                prepared.get_or_init(|| rounding)
            }
        };
        rounding.logits(images)
    }
}

/// For each sample, the largest distance between two evaluations of a logit, or 0 for samples within the fixed limits,
/// which need none. That distance owes nothing to the reference, which may be wrong itself. `None` if the worst sample is
/// beyond what rounding explains: then the others are not evaluated.
///
/// # Errors
/// If an evaluation fails.
pub fn spreads(
    images: ArrayViewD<'_, f32>,
    truth: ArrayView2<'_, f64>,
    found: ArrayView2<'_, f32>,
    tolerance: &Tolerance,
    evaluations: &Evaluations<'_>,
) -> Result<Option<Vec<f64>>> {
    let mut spreads = vec![0.0; truth.nrows()];
    let samples = exceeding(truth, found, tolerance, &spreads);
    let mut start = 0;
    while start < samples.len() {
        // The worst sample comes first and alone.
        let end = if start == 0 { 1 } else { (start + BATCH).min(samples.len()) };
        let some = &samples[start..end];
        let found_by: Vec<Array2<f64>> = evaluations(images.select(Axis(0), some).view())?
            .into_iter()
            .map(|logits| rows(logits, some.len()).map_err(anyhow::Error::msg))
            .collect::<Result<_>>()?;
        for (row, &sample) in some.iter().enumerate() {
            for class in 0..truth.ncols() {
                let values = || found_by.iter().filter_map(|logits| logits.get((row, class)).copied());
                let (low, high) =
                    (values().fold(f64::INFINITY, f64::min), values().fold(f64::NEG_INFINITY, f64::max));
                spreads[sample] = f64::max(spreads[sample], high - low);
            }
        }
        if start == 0 && exceeding(truth, found, tolerance, &spreads).contains(&samples[0]) {
            return Ok(None);
        }
        start = end;
    }
    Ok(Some(spreads))
}

#[cfg(test)]
mod tests {
    use ndarray::{IxDyn, array};

    use super::*;
    use crate::config::EngineName;
    use crate::contract::Precision;
    use crate::engine::EngineOptions;

    /// Three samples of one pixel, whose value is how much rounding moves the logits of that sample.
    fn evaluations(images: ArrayViewD<'_, f32>) -> Result<Vec<ArrayD<f64>>> {
        let logits = |sign: f64| {
            let row = |pixel: &f32| [1.0 + sign * f64::from(*pixel), 2.0];
            let all: Vec<f64> = images.iter().flat_map(row).collect();
            ArrayD::from_shape_vec(IxDyn(&[images.len(), 2]), all).unwrap()
        };
        Ok(vec![logits(0.0), logits(1.0), logits(-1.0)])
    }

    #[test]
    fn only_what_rounding_explains_is_excused() {
        let tolerance = Tolerance::of(EngineName::OrtCpu, &EngineOptions::default(), Precision::Float32);
        let truth = array![[1.0, 2.0], [1.0, 2.0], [1.0, 2.0]];
        let spreads_of = |pixels: [f32; 3], errors: [f32; 3]| {
            let images = ArrayD::from_shape_vec(IxDyn(&[3, 1, 1, 1]), pixels.to_vec()).unwrap();
            let found = ndarray::Array2::from_shape_fn((3, 2), |(sample, class)| {
                truth[[sample, class]] as f32 + if class == 0 { errors[sample] } else { 0.0 }
            });
            spreads(images.view(), truth.view(), found.view(), &tolerance, &evaluations).unwrap()
        };
        // Errors of 1e-3 where the evaluations are 1e-3 apart are rounding.
        let excused = spreads_of([0.0, 5e-4, 5e-4], [0.0, 1e-3, -1e-3]).unwrap();
        assert_eq!(excused[0], 0.0, "a sample within the limits is not evaluated");
        assert!(excused[1..].iter().all(|spread| (spread - 1e-3).abs() < 1e-6), "{excused:?}");
        // The same error where they agree is a fault, and one such sample is enough.
        assert_eq!(spreads_of([0.0, 5e-4, 0.0], [0.0, 1e-3, -2e-3]), None);
    }
}
