//! Right answers on a labelled split, and how two engines differ in them. Knows engines only as functions from
//! images to logits.

use anyhow::Result;
use ndarray::{ArrayD, ArrayViewD};

use crate::contract::Preparation;
use crate::data::{Split, prepared_batches};

use super::report::{AccuracyReport, PairedAccuracy};
use super::tolerance::Tolerance;

/// Two-sided 95 % of the normal distribution.
const TWO_SIDED_95: f64 = 1.959_963_984_540_054;

/// A labelled split, and what the run reported on it.
pub struct Accuracy<'a> {
    pub name: &'a str,
    pub split: &'a Split,
    /// How the file says its images are prepared.
    pub preparation: &'a Preparation,
    /// How the data set itself would have them, where that can be held against the file's word.
    pub own: Option<&'a Preparation>,
    /// Share of right answers, where it is known; otherwise the first engine's.
    pub reference: Option<f64>,
}

/// Which images of a split are answered rightly.
///
/// # Errors
/// If an image cannot be read or `logits` fails.
pub(super) fn right_answers(
    split: &Split,
    preparation: &Preparation,
    batch: usize,
    mut logits: impl FnMut(ArrayViewD<'_, f32>) -> Result<ArrayD<f32>>,
) -> Result<Vec<bool>> {
    let mut right = Vec::with_capacity(split.len());
    for batch in prepared_batches(preparation, split, batch) {
        let batch = batch?;
        for (row, &label) in logits(batch.images.view())?.outer_iter().zip(&batch.labels) {
            let best = row.iter().enumerate().reduce(|best, next| if next.1 > best.1 { next } else { best });
            right.push(best.is_some_and(|(class, _)| class as i64 == label));
        }
    }
    Ok(right)
}

/// An engine's score beside the checkpoint's, and beside another engine's image by image.
pub(super) fn score(
    accuracy: &Accuracy<'_>,
    right: &[bool],
    other: Option<(&str, &[bool])>,
    tolerance: &Tolerance,
) -> AccuracyReport {
    let images = right.len();
    let count = |right: &[bool]| right.iter().filter(|right| **right).count();
    let share = |right: &[bool]| count(right) as f64 / images.max(1) as f64;
    let reference = accuracy.reference.or(other.map(|(_, other)| share(other)));
    let difference = reference.map_or(0.0, |share| (count(right) as f64 - share * images as f64).abs());
    let allowed = tolerance.accuracy_samples.max(tolerance.accuracy_share * images as f64);
    AccuracyReport {
        split: accuracy.name.to_string(),
        images,
        accuracy: share(right),
        reference,
        paired: other.map(|(with, other)| paired(with, right, other)),
        // Shares are rounded; half a sample is no difference.
        passed: difference <= allowed + 0.5,
    }
}

/// The difference of two shares of right answers on the same images, with the interval that McNemar's test (1947)
/// belongs to: only images on which the two differ count.
fn paired(with: &str, right: &[bool], other: &[bool]) -> PairedAccuracy {
    let count = |here: bool| right.iter().zip(other).filter(|(one, two)| one != two && **one == here).count();
    let (only_here, only_there) = (count(true), count(false));
    let images = right.len().max(1) as f64;
    let (here, there) = (only_here as f64, only_there as f64);
    let difference = (here - there) / images;
    let error = ((here + there) - (here - there).powi(2) / images).max(0.0).sqrt() / images;
    let reach = TWO_SIDED_95 * error;
    PairedAccuracy {
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
        // 20 images are right here alone and 5 there alone: 1.5 points, ± 1.96 · √(25 - 15²/1000) / 1000.
        let differs = paired("x", &right(20..45), &right(0..40));
        assert_eq!((differs.only_here, differs.only_there), (20, 5));
        assert!((differs.difference - 0.015).abs() < 1e-12);
        assert!((differs.interval[0] - 0.005_244).abs() < 1e-5, "{:?}", differs.interval);
        assert!((differs.interval[1] - 0.024_756).abs() < 1e-5, "{:?}", differs.interval);
    }
}
