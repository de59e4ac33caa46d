//! `cohort study`: runs one pipeline with several settings and seeds, and compares the results.

use std::path::PathBuf;

use anyhow::Result;

use crate::config::load_study;
use crate::report::quoted;
use crate::study::{execute, screen};
use crate::ui::{out, out_json};

use super::Common;
use super::common::from_here;
use super::run::{STOP, watch_signals};

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Study file
    pub study: PathBuf,
    /// Override a key in all cells; a cell's own settings take precedence
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub overrides: Vec<String>,
    /// Folder for the runs [default: studies/NAME]
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
}

/// Runs a study and prints its table.
///
/// # Errors
/// The error that stopped the study; everything that was finished before it is kept.
pub fn run(args: &Args, common: &Common) -> Result<()> {
    let study = load_study(&args.study)?;
    let folder = args.out.clone().unwrap_or_else(|| PathBuf::from("studies").join(&study.spec.name));
    watch_signals();
    let mut resume = format!("cohort study {}", quoted(&args.study.display().to_string()));
    for text in &args.overrides {
        resume += &format!(" --set {}", quoted(text));
    }
    if let Some(out) = &args.out {
        resume += &format!(" --out {}", quoted(&out.display().to_string()));
    }
    let report = execute(&study, &from_here(&args.overrides), &folder, &common.ui(), &STOP, &resume)?;
    if common.json {
        return out_json(&report);
    }
    out(format!("\n{}\n\n{}", screen(&report), folder.join("study.md").display()))
}
