//! Compresses a trained classifier to a quarter of its parameters.
//!
//! `cargo run --release --example compress_file -- model.onnx images/ runs/small`

use std::path::PathBuf;
use std::sync::atomic::AtomicBool;

use anyhow::{Context, Result, anyhow};
use cohort::jobs::{Given, Job, compress_file, prepare_process};
use cohort::ui::{Ui, out};

fn main() -> Result<()> {
    // SAFETY: this is the first thing the program does, so there is no other thread.
    unsafe { prepare_process() };
    let mut args = std::env::args().skip(1).map(PathBuf::from);
    let mut next = || args.next().context("usage: compress_file MODEL.onnx IMAGES FOLDER");
    let (model, data, folder) = (next()?, next()?, next()?);
    let target = "params<=25%".parse().map_err(|problem: String| anyhow!(problem))?;
    let job = Job::of(Given { model, data, ..Given::default() }, target);
    let report = compress_file(&job, &folder, &Ui::detect(false), &AtomicBool::new(false))?;
    let report = report.context("a pipeline of a compression selects")?;
    out(format!("{}: {}", report.student, report.reason))
}
