//! Scores of engines on a labelled split, and how two engines differ in their right decisions. Knows engines only as
//! functions from images to logits.

use anyhow::Result;
use ndarray::{Array2, ArrayViewD};

use crate::contract::Preparation;
use crate::data::{Split, prepared_batches};
use crate::task::{Paired, decision, paired};

use super::report::{PairedScore, ScoreReport};
use super::tolerance::Tolerance;

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
    ScoreReport {
        split: scoring.name.to_string(),
        images,
        accuracy: share(right),
        reference,
        paired: other.map(|(with, other)| {
            let Paired { only_here, only_there, difference, interval } = paired(right, other);
            PairedScore { with: with.to_string(), only_here, only_there, difference, interval }
        }),
        passed: tolerance.excuses(difference, images),
    }
}
