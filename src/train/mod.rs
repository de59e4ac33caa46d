//! The cohort loop: losses, optimiser, schedule, checkpoint, evaluation.
//!
//! One loop trains any number of students on the same batches; a method is a set of loss weights,
//! and training alone is the loop with cross-entropy only. Knows no pipeline file and no ONNX.

mod augment;
mod checkpoint;
mod cohort;
mod evaluate;
mod feed;
mod losses;
mod metrics;
mod optimizer;
mod relations;
mod schedule;
mod step;

pub use checkpoint::CheckpointError;
pub use cohort::{Job, Outcome, Start, Trained, train};
pub use evaluate::{evaluate, evaluate_model};
pub use losses::Targets;
pub use metrics::Term;
pub use optimizer::OptimizerState;
pub use schedule::{Moment, learning_rate};
pub use step::{Student, Teaching, step};
