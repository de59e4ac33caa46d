//! Replaces `cohort compress` in a program that was built without libtorch.

use anyhow::Result;

use crate::error::InputError;

use super::Common;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Arguments of the command in a program with libtorch
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    pub anything: Vec<String>,
}

/// Refuses to compress.
///
/// # Errors
/// Always [`InputError`].
pub fn run(_args: &Args, _common: &Common) -> Result<()> {
    Err(InputError::new("this program was built without libtorch and cannot train")
        .hint("build it with `cargo build --release`, without --no-default-features")
        .into())
}
