//! Pairwise distances between all readings of a model, including the truth.

use ndarray::{Array2, ArrayView2, s};
use serde::{Deserialize, Serialize};

/// Relative distances between readings, on the inputs that decide the verdict.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Distances {
    /// The truth first, then the engines.
    pub names: Vec<String>,
    /// `‖a − b‖ / ‖truth‖` over the samples that both were run on, with rows and columns in the order of
    /// `names`; `null` where one of them failed.
    pub relative_l2: Vec<Vec<Option<f64>>>,
}

/// Logits of one reading per set of inputs; `None` where it failed. A slow engine has only the first samples
/// of a set.
pub(super) struct Reading {
    pub name: String,
    pub sets: Vec<Option<Array2<f64>>>,
}

/// Compares all pairs; the first reading is the truth.
pub(super) fn distances(readings: &[Reading]) -> Distances {
    let row = |one: &Reading| {
        readings.iter().map(|other| distance(&readings[0], one, other)).collect::<Vec<Option<f64>>>()
    };
    Distances {
        names: readings.iter().map(|reading| reading.name.clone()).collect(),
        relative_l2: readings.iter().map(row).collect(),
    }
}

fn distance(truth: &Reading, one: &Reading, other: &Reading) -> Option<f64> {
    let (mut difference, mut length) = (0.0, 0.0);
    for ((truth, one), other) in truth.sets.iter().zip(&one.sets).zip(&other.sets) {
        let (truth, one, other) = (truth.as_ref()?, one.as_ref()?, other.as_ref()?);
        let samples = truth.nrows().min(one.nrows()).min(other.nrows());
        if one.ncols() != other.ncols() || one.ncols() != truth.ncols() {
            return None;
        }
        let first = |logits: &Array2<f64>| logits.slice(s![..samples, ..]).to_owned();
        difference += square((first(one) - first(other)).view());
        length += square(first(truth).view());
    }
    let distance = difference.sqrt() / length.sqrt().max(f64::MIN_POSITIVE);
    distance.is_finite().then_some(distance)
}

fn square(values: ArrayView2<'_, f64>) -> f64 {
    values.iter().map(|value| value * value).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::array;

    #[test]
    fn distances_are_over_what_both_have_seen() {
        let reading =
            |name: &str, logits: Option<Array2<f64>>| Reading { name: name.into(), sets: vec![logits] };
        let found = distances(&[
            reading("truth", Some(array![[3.0, 4.0], [6.0, 8.0]])),
            reading("exact", Some(array![[3.0, 4.0], [6.0, 8.0]])),
            reading("slow", Some(array![[3.0, 4.5]])),
            reading("failed", None),
            reading("infinite", Some(array![[f64::INFINITY, 4.0]])),
        ]);
        assert_eq!(found.relative_l2[0][1], Some(0.0));
        assert_eq!((found.relative_l2[0][2], found.relative_l2[2][1]), (Some(0.1), Some(0.1)));
        assert_eq!((found.relative_l2[0][3], found.relative_l2[4][1]), (None, None));
    }
}
