//! Turns a plan into a finished run folder: stages in order, reused where they are done.
//!
//! Knows stages and files; each stage's own work is done elsewhere.

mod choose;
mod execute;
mod key;
mod options;
mod stages;

pub use execute::execute;
pub use options::Options;
