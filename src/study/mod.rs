//! A study: one pipeline with several settings and seeds, and the differences between them.
//!
//! Each cell and seed is a run like any other, in its own folder; finished ones are reused, and stages with
//! the same key, such as pre-training, are done once and shared. The module knows runs only by their files.

mod compare;
mod execute;
mod report;

pub use compare::{Paired, mean_and_deviation, paired};
pub use execute::execute;
pub use report::{CellReport, StudentReport, StudyReport, markdown, screen};
