//! The three jobs as a library does them: compress a model, validate an exported file, measure latency.
//!
//! They are what the commands `run`, `verify` and `bench` do with their default settings, and report to a
//! [`Progress`] in place of a terminal. Every other module is internal: it serves the program
//! and its tests, and may change with any version.

use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use anyhow::Result;

use crate::bench::{BenchReport, Benchmark, Subject, bench};
use crate::commands::verify::{Args, compared};
use crate::config::{Bench, load_pipeline};
use crate::engine::open;
use crate::folder::RunFolder;
use crate::onnx::OnnxFile;
use crate::plan::plan;
use crate::progress::Progress;
use crate::report::Report;
use crate::run::{Options, execute};
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
/// stage `select`. Stages that the folder already holds are reused. Sets `stop` to interrupt it from another thread.
///
/// # Errors
/// [`InputError`](crate::error::InputError) for what the user must change,
/// [`GateFailed`](crate::error::GateFailed) if a student, a file or a latency misses what the pipeline asks for, and
/// [`Interrupted`](crate::error::Interrupted).
pub fn compress(
    pipeline: &Path,
    folder: &Path,
    progress: &dyn Progress,
    stop: &AtomicBool,
) -> Result<Option<Report>> {
    let plan = plan(&load_pipeline(pipeline, &[])?)?;
    let resume = format!("compress {} in {}", pipeline.display(), folder.display());
    let options = Options { out: folder.to_path_buf(), progress, stop, resume, siblings: Vec::new() };
    let lock = RunFolder::new(folder).lock()?;
    execute(&plan, &options, lock)
}

/// Compares what every engine computes from the ONNX file `model` with a reference in float64: the checkpoint of the run
/// folder that the file lies in, else the file's own nodes. If an engine fails, the case is kept in a folder beside the
/// working directory, which a warning names.
///
/// # Errors
/// [`InputError`](crate::error::InputError) if the file cannot be read. That an engine fails is in the report.
pub fn validate(model: &Path, progress: &dyn Progress) -> Result<VerifyReport> {
    compared(&Args::of(model.to_path_buf()), &OnnxFile::load(model)?, progress)
}

/// Measures the latency of ONNX files whose input sizes are fixed; speed-ups are over the first.
///
/// # Errors
/// [`InputError`](crate::error::InputError) if a file or an engine cannot be used.
pub fn measure(
    models: &[PathBuf],
    settings: &Bench,
    progress: &dyn Progress,
    stop: &AtomicBool,
) -> Result<BenchReport> {
    let files = models.iter().map(|path| OnnxFile::load(path)).collect::<Result<Vec<_>>>()?;
    let names = crate::commands::bench::names(models);
    let mut subjects = Vec::new();
    for (file, name) in files.iter().zip(&names) {
        let model =
            crate::bench::ModelFacts::of(file, name.clone(), crate::commands::bench::sample(file, None)?);
        let open = Box::new(move |engine, options: &_| open(file, engine, options));
        subjects.push(Subject { file, model, pictures: None, open });
    }
    let baseline = names.first().cloned().unwrap_or_default();
    bench(&subjects, settings, &Benchmark { baseline, seed: 0, progress, stop, program: None })
}
