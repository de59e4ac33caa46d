//! How well a network does on a split: what training measures and every report shows.

use serde::{Deserialize, Serialize};

/// Accuracy and loss on a split, without augmentation.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Score {
    /// Share of images whose largest logit is the label's.
    pub accuracy: f64,
    /// Mean cross-entropy.
    pub loss: f64,
    pub images: usize,
}
