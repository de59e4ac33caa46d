//! Runs a pipeline into a folder and prints which student was chosen.
//!
//! `cargo run --release --example compress -- pipelines/quickstart.yaml runs/example`

use std::path::PathBuf;
use std::sync::atomic::AtomicBool;

use anyhow::{Context, Result};
use cohort::jobs::{compress, prepare_process};
use cohort::ui::{Ui, out};

fn main() -> Result<()> {
    // SAFETY: this is the first thing the program does, so there is no other thread.
    unsafe { prepare_process() };
    let mut args = std::env::args().skip(1).map(PathBuf::from);
    let (pipeline, folder) = args.next().zip(args.next()).context("usage: compress PIPELINE.yaml FOLDER")?;
    let report = compress(&pipeline, &folder, &Ui::detect(false), &AtomicBool::new(false))?;
    let report = report.context("the pipeline has no stage `select`")?;
    out(format!("{}: {}", report.student, report.reason))
}
