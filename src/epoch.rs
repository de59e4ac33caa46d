//! What an epoch of training measured: the record that `metrics.jsonl` has a line of, and that progress shows.
//!
//! Plain numbers, so that a program built without libtorch reads them too. Knows no tensor and no file.

use serde::{Deserialize, Serialize};

use crate::score::Score;

/// One line of `metrics.jsonl`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EpochRecord {
    /// From 1.
    pub epoch: usize,
    /// Learning rate of the epoch's last step.
    pub lr: f64,
    pub students: Vec<StudentRecord>,
}

/// One student's epoch. Losses are means over batches, without their weights; a term that is off is
/// `null`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StudentRecord {
    pub name: String,
    pub cross_entropy: Option<f64>,
    pub distance: Option<f64>,
    pub angle: Option<f64>,
    pub response: Option<f64>,
    pub self_distillation: Option<f64>,
    pub teacher: Option<f64>,
    pub teacher_distance: Option<f64>,
    pub teacher_angle: Option<f64>,
    pub smooth_teacher: Option<f64>,
    /// The weighted sum that was minimised.
    pub total: f64,
    /// On the augmented training images, while learning.
    pub train_accuracy: f64,
    /// `null` in an epoch that was not validated.
    pub validation: Option<Score>,
}
