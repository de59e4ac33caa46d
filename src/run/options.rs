//! How a plan is run.

use std::path::PathBuf;
use std::sync::atomic::AtomicBool;

use crate::progress::Progress;

/// Where a run works, and how it is stopped.
pub struct Options<'a> {
    /// The run folder.
    pub out: PathBuf,
    pub progress: &'a dyn Progress,
    /// Set when the user asks to stop.
    pub stop: &'a AtomicBool,
    /// The command that goes on after an interruption.
    pub resume: String,
    /// Other run folders; what they have done with the same key is copied instead of done again.
    pub siblings: Vec<PathBuf>,
}
