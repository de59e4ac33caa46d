//! Options of a run.

use std::path::PathBuf;
use std::sync::atomic::AtomicBool;

use crate::progress::Progress;

/// Where a run works, and how it is stopped.
#[derive(Clone)]
pub struct Options<'a> {
    /// The run folder.
    pub out: PathBuf,
    pub progress: &'a dyn Progress,
    /// Set when the user asks to stop.
    pub stop: &'a AtomicBool,
    /// The command that resumes after an interruption.
    pub resume: String,
    /// Other run folders; a stage that one of them has done with the same key is copied instead of run again.
    pub siblings: Vec<PathBuf>,
}
