//! Replaces pipeline runs in a program that was built without libtorch.

#[path = "options.rs"]
mod options;

use anyhow::Result;

use crate::error::InputError;
use crate::folder::Lock;
use crate::plan::Plan;
use crate::report::Report;

pub use options::Options;

/// Refuses to run.
///
/// # Errors
/// Always [`InputError`].
pub fn execute(_plan: &Plan, _options: &Options<'_>, _lock: Lock) -> Result<Option<Report>> {
    Err(InputError::new("this program was built without libtorch and cannot train")
        .hint("build it with `cargo build --release`, without --no-default-features")
        .into())
}
