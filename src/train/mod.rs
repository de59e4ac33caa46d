//! The cohort loop: losses, optimiser, schedule, checkpoint, evaluation.
//!
//! One loop trains any number of students on the same batches; a method is a set of loss weights,
//! and training alone is the loop with cross-entropy only. A teacher whose file cannot be imported answers through an
//! engine. Knows no pipeline file and no protobuf.

mod answers;
mod augment;
mod blocks;
mod checkpoint;
mod cohort;
mod contrast;
mod distillation;
mod evaluate;
mod feed;
mod losses;
mod metrics;
mod optimizer;
mod part;
mod relations;
mod schedule;
mod step;

pub use answers::{Answerer, Answering};
pub use blocks::block_divergences;
pub use checkpoint::CheckpointError;
pub use cohort::{Outcome, Start, Trained, Training, prepare_precision, train};
pub use evaluate::{Evaluation, decide, evaluate, evaluate_model, labelled_by};
pub use losses::Targets;
pub use optimizer::OptimizerState;
pub use part::{Measured, take_part};
pub use schedule::{Iteration, learning_rate};
pub use step::{Learner, Teaching, step};
