//! The score of a network on a split, and when two scores are different.

use std::cmp::Ordering;
use std::fmt;

use serde::{Deserialize, Serialize};

/// Name of the score in messages.
pub const SCORE: &str = "accuracy";

/// Two-sided 95 % quantile of the normal distribution.
pub(super) const Z_95: f64 = 1.959_963_984_540_054;

/// Standard errors by which a score must differ from another to be called clearly different.
const CLEARLY: f64 = 2.0;

/// Accuracy and loss on a split, without augmentation.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Score {
    /// Share of images whose largest logit is the label's.
    accuracy: f64,
    /// Mean cross-entropy.
    pub loss: f64,
    pub images: usize,
}

impl Score {
    /// The score of `right` right decisions among `images` images, with the mean loss.
    pub fn new(right: f64, loss: f64, images: usize) -> Self {
        Self { accuracy: right / images.max(1) as f64, loss, images }
    }

    /// What selection goes by, from 0 to 1; more is better.
    pub fn value(&self) -> f64 {
        self.accuracy
    }

    /// Number of right decisions.
    pub fn right(&self) -> usize {
        (self.accuracy * self.images as f64).round() as usize
    }

    /// Orders scores from worse to better.
    pub fn compare(&self, other: &Self) -> Ordering {
        self.accuracy.total_cmp(&other.accuracy)
    }

    /// Whether two scores differ by more than the 95 % interval of their difference, taken as if they came from
    /// different images.
    pub fn differs_from(&self, other: &Self) -> bool {
        let variance = |score: &Score| variance(score.accuracy, score.images);
        (self.accuracy - other.accuracy).abs() > Z_95 * (variance(self) + variance(other)).sqrt()
    }

    /// Whether the network is not clearly better than one that decides the same for every image, which is right with
    /// the share `chance`. Of a few images nothing is clear; a score well on the way to 1 is then not called chance.
    pub fn is_at_chance(&self, chance: f64) -> bool {
        let clearly = CLEARLY * standard_error(chance, self.images);
        self.accuracy <= chance + clearly.min((1.0 - chance) / 4.0)
    }

    /// Whether this score is worse than another on the same images by more than two standard errors.
    pub fn is_clearly_worse_than(&self, other: &Self) -> bool {
        let middle = (self.accuracy + other.accuracy) / 2.0;
        let error = std::f64::consts::SQRT_2 * standard_error(middle, self.images);
        self.accuracy < other.accuracy - CLEARLY * error
    }
}

impl fmt::Display for Score {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.2} %", 100.0 * self.accuracy)
    }
}

/// Variance of a share that is taken of independent images.
fn variance(share: f64, images: usize) -> f64 {
    share * (1.0 - share) / images.max(1) as f64
}

fn standard_error(share: f64, images: usize) -> f64 {
    variance(share, images).sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn score(accuracy: f64) -> Score {
        Score { accuracy, loss: 1.0, images: 1_000 }
    }

    #[test]
    fn only_clear_differences_count() {
        assert!(score(0.1).is_at_chance(0.1) && score(0.11).is_at_chance(0.1));
        assert!(!score(0.2).is_at_chance(0.1));
        let few = |right: f64| Score::new(right, 0.0, 4);
        assert!(!few(4.0).is_at_chance(0.5) && !few(3.0).is_at_chance(0.5));
        assert!(few(2.0).is_at_chance(0.5) && few(1.0).is_at_chance(0.5));
        assert!(score(0.80).is_clearly_worse_than(&score(0.90)));
        assert!(!score(0.89).is_clearly_worse_than(&score(0.90)));
        assert!(!score(0.95).is_clearly_worse_than(&score(0.90)));
        // The interval of 0.9 − p is ± 1.96 · √((0.9 · 0.1 + p · (1 − p)) / 1000): 0.0278 at 0.872, 0.0247 at 0.926.
        assert!(score(0.9).differs_from(&score(0.872)) && score(0.9).differs_from(&score(0.926)));
        assert!(!score(0.9).differs_from(&score(0.873)) && !score(0.9).differs_from(&score(0.924)));
    }

    #[test]
    fn a_score_is_a_share_and_is_written_as_one() {
        let found = Score::new(359.0 * 0.75, 0.5, 359);
        assert_eq!((found.to_string().as_str(), found.right()), ("75.00 %", 269));
        assert_eq!(
            serde_json::to_string(&score(0.5)).unwrap(),
            r#"{"accuracy":0.5,"loss":1.0,"images":1000}"#
        );
    }
}
