//! Scores of engines on a labelled split, and how two engines differ in their right decisions. Knows engines only as
//! functions from images to logits.

use anyhow::Result;
use ndarray::{Array2, ArrayViewD};

use crate::contract::Preparation;
use crate::data::{Split, prepared_batches};
use crate::task::decision;

use super::report::{PairedScore, ScoreReport};
use super::tolerance::Tolerance;

/// Two-sided 95 % quantile of the normal distribution.
const TWO_SIDED_95: f64 = 1.959_963_984_540_054;

/// A labelled split, and the score that a run reported on it.
pub struct Scoring<'a> {
    pub name: &'a str,
    pub split: &'a Split,
    /// How the file says its images are prepared.
    pub preparation: &'a Preparation,
    /// How the data set itself prepares them, where the file's word can be compared with that.
    pub own: Option<&'a Preparation>,
    /// Share of right decisions, where it is known; otherwise the first engine's is taken.
    pub reference: Option<f64>,
}

/// Whether each image of a split is decided as its label says.
///
/// # Errors
/// If an image cannot be read or `logits` fails.
pub(super) fn right_decisions(
    split: &Split,
    preparation: &Preparation,
    batch: usize,
    mut logits: impl FnMut(ArrayViewD<'_, f32>) -> Result<Array2<f32>>,
) -> Result<Vec<bool>> {
    let mut right = Vec::with_capacity(split.len());
    for batch in prepared_batches(preparation, split, batch) {
        let batch = batch?;
        for (row, &label) in logits(batch.images.view())?.outer_iter().zip(&batch.labels) {
            right.push(decision(row.iter()).is_some_and(|class| class as i64 == label));
        }
    }
    Ok(right)
}

/// An engine's score compared with the reference, and with another engine's image by image.
pub(super) fn score(
    scoring: &Scoring<'_>,
    right: &[bool],
    other: Option<(&str, &[bool])>,
    tolerance: &Tolerance,
) -> ScoreReport {
    let images = right.len();
    let count = |right: &[bool]| right.iter().filter(|right| **right).count();
    let share = |right: &[bool]| count(right) as f64 / images.max(1) as f64;
    let reference = scoring.reference.or(other.map(|(_, other)| share(other)));
    let difference = reference.map_or(0.0, |share| (count(right) as f64 - share * images as f64).abs());
    let allowed = tolerance.score_samples.max(tolerance.score_share * images as f64);
    ScoreReport {
        split: scoring.name.to_string(),
        images,
        accuracy: share(right),
        reference,
        paired: other.map(|(with, other)| paired(with, right, other)),
        // Reported shares are rounded, so half a sample does not count as a difference.
        passed: difference <= allowed + 0.5,
    }
}

/// The difference of two shares of right decisions on the same images, with the interval that belongs to McNemar's
/// test (1947): only images on which the two differ count.
fn paired(with: &str, right: &[bool], other: &[bool]) -> PairedScore {
    let count = |here: bool| right.iter().zip(other).filter(|(one, two)| one != two && **one == here).count();
    let (only_here, only_there) = (count(true), count(false));
    let images = right.len().max(1) as f64;
    let (here, there) = (only_here as f64, only_there as f64);
    let difference = (here - there) / images;
    let error = ((here + there) - (here - there).powi(2) / images).max(0.0).sqrt() / images;
    let reach = TWO_SIDED_95 * error;
    PairedScore {
        with: with.to_string(),
        only_here,
        only_there,
        difference,
        interval: [difference - reach, difference + reach],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_images_that_differ_count() {
        let right =
            |wrong: std::ops::Range<usize>| (0..1_000).map(|at| !wrong.contains(&at)).collect::<Vec<_>>();
        let same = paired("x", &right(0..50), &right(0..50));
        assert_eq!((same.only_here, same.only_there, same.interval), (0, 0, [0.0, 0.0]));
        // 20 images are right only here and 5 only there: 1.5 points, ± 1.96 · √(25 - 15²/1000) / 1000.
        let differs = paired("x", &right(20..45), &right(0..40));
        assert_eq!((differs.only_here, differs.only_there), (20, 5));
        assert!((differs.difference - 0.015).abs() < 1e-12);
        assert!((differs.interval[0] - 0.005_244).abs() < 1e-5, "{:?}", differs.interval);
        assert!((differs.interval[1] - 0.024_756).abs() < 1e-5, "{:?}", differs.interval);
    }
}
