//! What an epoch of training measured: the record that is one line of `metrics.jsonl`, and that progress shows.
//!
//! Plain numbers, so that a program built without libtorch reads them too. Knows no tensor and no file.

use serde::{Deserialize, Serialize};

use crate::task::Score;

/// One line of `metrics.jsonl`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EpochRecord {
    /// Number of the epoch, from 1.
    pub epoch: usize,
    /// Learning rate of the epoch's last step.
    pub lr: f64,
    pub students: Vec<StudentRecord>,
}

/// Defines the measured terms of the loss, one line each: a variant of `Term` and a field of `StudentRecord`.
macro_rules! terms {
    ($($(#[$doc:meta])* $term:ident $column:ident,)*) => {
        /// A term of the loss, as it is measured: without its weight.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Term {
            $($(#[$doc])* $term,)*
        }

        impl Term {
            pub const ALL: &[Term] = &[$(Term::$term,)*];

            /// The term's key in `metrics.jsonl`.
            pub fn name(self) -> &'static str {
                match self { $(Term::$term => stringify!($column),)* }
            }
        }

        /// One student's epoch. Losses are means over batches, without their weights; a term that is off is `null`.
        #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
        pub struct StudentRecord {
            pub name: String,
            $($(#[$doc])* pub $column: Option<f64>,)*
            /// The weighted sum that was minimised.
            pub total: f64,
            /// Share of right decisions on the augmented training images, measured while learning.
            #[serde(rename = "train_accuracy")]
            pub train_score: f64,
            /// `null` in an epoch that was not validated.
            pub validation: Option<Score>,
        }

        impl StudentRecord {
            /// A record whose terms are what `term` says of each.
            pub fn new(name: &str, term: impl Fn(Term) -> Option<f64>, total: f64, train_score: f64, validation: Option<Score>) -> Self {
                Self { name: name.to_string(), $($column: term(Term::$term),)* total, train_score, validation }
            }
        }
    };
}

terms! {
    /// Cross-entropy with the labels.
    CrossEntropy cross_entropy,
    /// Distance relations with the peers.
    Distance distance,
    /// Angle relations with the peers.
    Angle angle,
    /// Divergence from the peers' responses.
    Response response,
    /// Divergence from the responses of the student's frozen copy.
    SelfDistillation self_distillation,
    /// Divergence from the frozen teacher's responses.
    Teacher teacher,
    /// Distance relations with the teacher.
    TeacherDistance teacher_distance,
    /// Angle relations with the teacher.
    TeacherAngle teacher_angle,
    /// Divergence from a smoothed label.
    SmoothTeacher smooth_teacher,
    /// Contrast of the batch's images with the peers.
    Contrast contrast,
    /// Divergence from the teacher's decision between the label and all other classes.
    TeacherTarget teacher_target,
    /// Divergence from the teacher's shares of the classes other than the label.
    TeacherOthers teacher_others,
    /// Correlation of each image's classes with the teacher's.
    TeacherClasses teacher_classes,
    /// Correlation of each class's images with the teacher's.
    TeacherImages teacher_images,
    /// Weighted divergence from the teacher's transformed probabilities.
    TeacherTransformed teacher_transformed,
    /// Mean square of the difference from the teacher's feature maps.
    TeacherFeatures teacher_features,
}
