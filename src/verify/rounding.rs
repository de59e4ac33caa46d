//! The second leg of a tolerance: how far honest evaluations in float32 are from the reference on a sample.
//!
//! Where a network is ill-conditioned on a sample (logits that cancel, many layers), float32 itself may be further from
//! float64 than a fixed limit allows. Whether it is shows when the reference network itself is evaluated in float32
//! several times with different roundings. A fault in a file or an engine is not in the reference network, so it does not
//! widen anything. Knows evaluations as functions from images to logits.

use anyhow::{Result, ensure};
use ndarray::{Array2, ArrayD, ArrayView2, ArrayViewD, Axis};
use serde::{Deserialize, Serialize};

use crate::contract::rows;

use super::compare::exceeding;
use super::tolerance::Tolerance;

/// Evaluates the reference network in float32 several times.
pub type Evaluations<'a> = dyn Fn(ArrayViewD<'_, f32>) -> Result<Vec<ArrayD<f64>>> + 'a;

/// How many times further from the reference than these evaluations an engine may be. Sums in another order and fused
/// operations differ from them by small factors.
pub const FACTOR: f64 = 4.0;

/// Samples per evaluation.
const BATCH: usize = 8;

/// Samples of a set on which rounding alone exceeds the fixed limits.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Rounded {
    pub samples: usize,
    /// The largest distance of a float32 evaluation from the reference on these samples.
    pub spread: f64,
    /// The largest error as a multiple of the fixed limits.
    pub fixed_limit_used: f64,
}

/// For each sample, the largest distance of an evaluation from the truth, or 0 for samples within the fixed limits, which
/// need none. `None` if the worst sample is beyond what rounding explains: then the others are not evaluated.
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
            for logits in &found_by {
                ensure!(logits.ncols() == truth.ncols(), "an evaluation gives another number of classes");
                let (float32, float64) = (logits.row(row), truth.row(sample));
                let distances = float32.iter().zip(float64).map(|(a, b)| (a - b).abs());
                spreads[sample] = distances.fold(spreads[sample], f64::max);
            }
        }
        if start == 0 && exceeding(truth, found, tolerance, &spreads).contains(&samples[0]) {
            return Ok(None);
        }
        start = end;
    }
    Ok(Some(spreads))
}
