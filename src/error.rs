//! Exit codes, and the errors that carry them.
//!
//! Errors are lowercase fragments chained with `anyhow` context. The outermost of these types in a chain decides
//! the exit code; a chain without any of them is a fault of the program.

use std::fmt;

/// Exit codes of the program.
pub mod exit_code {
    /// Everything was done.
    pub const DONE: u8 = 0;
    /// A gate failed: parity, score, budget.
    pub const GATE: u8 = 1;
    /// The input is wrong: a file, an option, or a machine that lacks what was asked for.
    pub const INPUT: u8 = 2;
    /// A fault of the program.
    pub const FAULT: u8 = 3;
    /// Interrupted; the checkpoint is written.
    pub const INTERRUPTED: u8 = 130;
}

/// Something that the user gave is wrong. The hint is the remedy, as a fragment of a sentence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InputError {
    /// What is wrong, and where.
    pub message: String,
    /// What the user can do about it.
    pub hint: Option<String>,
}

impl InputError {
    /// An error without a remedy so far.
    pub fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), hint: None }
    }

    /// Adds the remedy.
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

impl fmt::Display for InputError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for InputError {}

/// A gate of the pipeline failed; everything that it judged is on disk.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct GateFailed(pub String);

/// The user asked to stop.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("interrupted; go on with: {resume}")]
pub struct Interrupted {
    /// The command that resumes.
    pub resume: String,
}

/// The exit code for an error chain.
pub fn exit_code_of(error: &anyhow::Error) -> u8 {
    for cause in error.chain() {
        if cause.is::<Interrupted>() {
            return exit_code::INTERRUPTED;
        }
        if cause.is::<GateFailed>() {
            return exit_code::GATE;
        }
        if cause.is::<InputError>() {
            return exit_code::INPUT;
        }
    }
    exit_code::FAULT
}

/// The remedy in an error chain, if one is known.
pub fn hint_of(error: &anyhow::Error) -> Option<&str> {
    error.chain().find_map(|cause| cause.downcast_ref::<InputError>()?.hint.as_deref())
}
