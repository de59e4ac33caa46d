//! `cohort predict`.

use anyhow::Result;

use crate::cli::Common;

#[derive(Debug, clap::Args)]
pub struct Args {}

pub fn run(_args: &Args, _common: &Common) -> Result<()> {
    anyhow::bail!("to be written")
}
