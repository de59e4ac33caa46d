//! The jobs as a library does them: run a pipeline, compress a trained file, validate an exported file, measure latency.
//!
//! They are what the commands `run`, `verify` and `bench` do with their default settings, and report to a
//! [`Progress`] instead of a terminal. Every other module is internal: it serves the program and its tests, and may change
//! with any version.

use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use anyhow::Result;

use crate::bench::{BenchReport, Benchmark, bench, judge};
use crate::commands::bench::{names, subject};
#[cfg(feature = "train")]
pub use crate::compress::{Given, Job, Length, Target};
use crate::config::{Bench, Mode, OutOfRange, load_pipeline};
use crate::error::InputError;
use crate::folder::RunFolder;
use crate::onnx::OnnxFile;
use crate::plan::plan;
use crate::progress::Progress;
use crate::report::Report;
use crate::run::{Options, execute};
use crate::validate::Request;
use crate::verify::VerifyReport;

/// Prepares this process for [`compress`], as the program itself does: MKL is asked for reproducible sums, and memory is
/// kept from step to step. Without it, a run trains more slowly and to other weights than `cohort run`.
///
/// # Safety
/// It must come first in `main`: no other thread may run yet, because environment and heap belong to the whole process.
pub unsafe fn prepare_process() {
    // SAFETY: the caller's promise is the same.
    #[cfg(feature = "train")]
    unsafe {
        crate::torch::prepare_process();
    }
}

/// Runs the pipeline file `pipeline` in the run folder `folder`, and returns its report: `None` if the pipeline has no
/// stage `select`. Stages that the folder already has are reused. Set `stop` from another thread to interrupt the run.
///
/// # Errors
/// [`InputError`] for what the user must change,
/// [`GateFailed`](crate::error::GateFailed) if a student, a file or a latency misses what the pipeline asks for, and
/// [`Interrupted`](crate::error::Interrupted).
pub fn compress(
    pipeline: &Path,
    folder: &Path,
    progress: &dyn Progress,
    stop: &AtomicBool,
) -> Result<Option<Report>> {
    let resume = format!("compress({}, {})", pipeline.display(), folder.display());
    let plan = plan(&load_pipeline(pipeline, &[])?)?;
    let options = Options { out: folder.to_path_buf(), progress, stop, resume, siblings: Vec::new() };
    let lock = RunFolder::new(folder).lock()?;
    execute(&plan, &options, lock)
}

/// Compresses the trained classifier in an ONNX file as `cohort compress` does: finds smaller networks that meet the target,
/// writes a pipeline that trains them into the run folder `folder`, and runs it. If the same was asked for in this folder
/// before, its pipeline goes on.
///
/// # Errors
/// As [`compress`], and [`InputError`] if the file, the images or the target cannot be used.
#[cfg(feature = "train")]
pub fn compress_file(
    job: &Job,
    folder: &Path,
    progress: &dyn Progress,
    stop: &AtomicBool,
) -> Result<Option<Report>> {
    let lock = RunFolder::new(folder).lock()?;
    if !job.is_prepared(folder)? {
        job.prepare(folder, &mut |_| Ok(()), progress, stop)?;
    }
    let plan = plan(&load_pipeline(&Job::pipeline(folder), &[])?)?;
    let resume = format!("compress_file of {} in {}", job.given.model.display(), folder.display());
    let options = Options { out: folder.to_path_buf(), progress, stop, resume, siblings: Vec::new() };
    execute(&plan, &options, lock)
}

/// Compares what every engine computes from the ONNX file `model` with a reference in float64: the checkpoint of the run
/// folder that the file lies in, else the file's own nodes. If an engine fails, the case is kept in a folder
/// `MODEL.case` in the working directory, which a warning names.
///
/// # Errors
/// [`InputError`] if the file cannot be read. That an engine fails is in the report.
pub fn validate(model: &Path, progress: &dyn Progress) -> Result<VerifyReport> {
    crate::validate::validate(&Request::of(model.to_path_buf()), progress)
}

/// Measures the latency of ONNX files whose input sizes are fixed; speed-ups are relative to the first. Budgets are judged in
/// the report.
///
/// # Errors
/// [`InputError`] if there is no file, if a file or an engine cannot be used, if a setting is out of range, or if the settings
/// ask for what only the program does: the mode end-to-end, cold starts and memory.
pub fn measure(
    models: &[PathBuf],
    settings: &Bench,
    progress: &dyn Progress,
    stop: &AtomicBool,
) -> Result<BenchReport> {
    if let Some(OutOfRange { key, found, expected }) = settings.out_of_range().into_iter().next() {
        return Err(InputError::new(format!("{key}: found {found}"))
            .hint(format!("expected {expected}"))
            .into());
    }
    if settings.modes.contains(&Mode::EndToEnd) || settings.cold_starts > 0 || settings.memory {
        let problem = "the library does not measure the mode end-to-end, cold starts and memory";
        return Err(InputError::new(problem).hint("measure these with `cohort bench`").into());
    }
    let files = models.iter().map(|path| OnnxFile::load(path)).collect::<Result<Vec<_>>>()?;
    let names = names(models);
    let Some(baseline) = names.first().cloned() else {
        return Err(InputError::new("there is no file to measure")
            .hint("give at least one ONNX file")
            .into());
    };
    let subjects = files.iter().zip(&names).map(|(file, name)| subject(file, name, None, None, progress));
    let subjects = subjects.collect::<Result<Vec<_>>>()?;
    let benchmark = Benchmark { baseline: baseline.clone(), seed: 0, progress, stop, program: None };
    let mut report = bench(&subjects, settings, &benchmark)?;
    report.budgets = judge(&settings.budgets, &report.cells, &baseline, |_| true);
    Ok(report)
}
