//! What an exit code means, and the errors that carry one.
//!
//! Errors are lowercase fragments chained with `anyhow` context. The outermost of these types found
//! in a chain decides the exit code; a chain without any of them is our fault.

use std::fmt;

/// Exit codes of the program.
pub mod exit_code {
    pub const DONE: u8 = 0;
    /// A gate failed: parity, accuracy, budget.
    pub const GATE: u8 = 1;
    /// The input is wrong: a file, an option, a machine without what was asked for.
    pub const INPUT: u8 = 2;
    /// Our fault.
    pub const FAULT: u8 = 3;
    /// Interrupted; the checkpoint is written.
    pub const INTERRUPTED: u8 = 130;
}

/// Something the user gave is wrong. The hint is the remedy, a full sentence fragment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InputError {
    pub message: String,
    pub hint: Option<String>,
}

impl InputError {
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

/// A gate of the pipeline did not hold; everything it rests on is on disk.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct GateFailed(pub String);

/// The user asked to stop. `resume` is the command that goes on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("interrupted; go on with: {resume}")]
pub struct Interrupted {
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
