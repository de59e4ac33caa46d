//! `cohort bench`: measures the latency of ONNX files.

use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use anyhow::{Context, Result};

use crate::bench::{
    BenchReport, Benchmark, ModelFacts, Pictures, Request, Subject, bench, compare, judge, measure_start,
};
use crate::config::{Bench, Budget, ConvSearch, CudaSettings, Mode, OutOfRange, Scenario};
use crate::contract::Dim;
use crate::data::prepared_bytes;
use crate::engine::open;
use crate::error::{GateFailed, InputError};
use crate::onnx::OnnxFile;
use crate::progress::Progress;
use crate::report::{bench_failures, bench_screen, write_bench};
use crate::ui::{out, out_json};
use crate::validate::fix_batch;

use super::common::{Common, Shape, choice};
use super::images::image_files;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// ONNX files; speed-ups are relative to the first
    #[arg(required = true)]
    pub models: Vec<PathBuf>,
    /// Engines: ort-cpu, ort-cuda, tract [default: ort-cpu if available, and tract]
    #[arg(long, value_delimiter = ',')]
    pub engine: Vec<String>,
    /// Batch sizes
    #[arg(long, value_delimiter = ',', default_value = "1,8")]
    pub batch: Vec<usize>,
    /// Intra-op threads; 0 uses all
    #[arg(long, value_delimiter = ',', default_value = "1")]
    pub threads: Vec<usize>,
    /// Timed part: device (run only), host (with copies), end-to-end (from image files)
    #[arg(long, value_delimiter = ',', default_value = "device", value_parser = mode)]
    pub mode: Vec<Mode>,
    /// Arrival of queries: single-stream, offline, server
    #[arg(long, value_delimiter = ',', default_value = "single-stream", value_parser = scenario)]
    pub scenario: Vec<Scenario>,
    /// Image files or folders of them, for end-to-end
    #[arg(long, value_name = "PATH", value_delimiter = ',')]
    pub image: Vec<PathBuf>,
    /// Shape of one sample, required if the file leaves sizes free
    #[arg(long, value_name = "CxHxW", value_parser = Shape::parse)]
    pub shape: Option<Shape>,
    /// Minimum runs per cell
    #[arg(long, default_value_t = Bench::default().min_samples)]
    pub min_samples: usize,
    /// Minimum seconds per cell [default: 5, or the maximum if that is less]
    #[arg(long)]
    pub min_seconds: Option<f64>,
    /// Maximum seconds per cell
    #[arg(long, default_value_t = Bench::default().max_seconds)]
    pub max_seconds: f64,
    /// Queries per second in the server scenario
    #[arg(long, value_delimiter = ',', value_name = "PER_SECOND")]
    pub rate: Vec<f64>,
    /// Search for the highest server rate whose p99 stays within this many ms
    #[arg(long, value_name = "MS")]
    pub p99_target: Option<f64>,
    /// Time library load, session and first run in fresh processes per cell
    #[arg(long, value_name = "PROCESSES", num_args = 0..=1, require_equals = true, default_value_t = 0, default_missing_value = "5")]
    pub cold_start: usize,
    /// Measure memory in a fresh process per cell
    #[arg(long)]
    pub memory: bool,
    /// Show the time of every node
    #[arg(long)]
    pub profile: bool,
    /// Latency budget, such as ort-cpu:p95<2ms@1 (engine, percentile, batch)
    #[arg(long, value_name = "BUDGET", value_parser = str::parse::<Budget>)]
    pub budget: Vec<Budget>,
    /// Fail if a cell is slower than in this file, written by --out
    #[arg(long, value_name = "OLD.json")]
    pub compare: Option<PathBuf>,
    /// Percentage by which --compare allows a cell to be slower
    #[arg(long, value_name = "PERCENT", default_value_t = 5.0)]
    pub allow: f64,
    /// Fail if a cell is unstable
    #[arg(long)]
    pub strict: bool,
    /// How cuDNN chooses convolution algorithms: exhaustive, heuristic, default
    #[arg(long, default_value = "exhaustive", value_parser = conv_search)]
    pub conv_search: ConvSearch,
    /// Let CUDA compute float32 products in TF32
    #[arg(long)]
    pub tf32: bool,
    /// Record a run as a CUDA graph and replay it
    #[arg(long)]
    pub cuda_graph: bool,
    /// Seed for inputs, run order and arrival times
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    /// Output files: everything to .json, cells to .csv, plots to .svg
    #[arg(long, value_name = "FILE", value_delimiter = ',')]
    pub out: Vec<PathBuf>,
}

/// Measures the files and prints the result.
///
/// # Errors
/// [`InputError`] if a model or an engine cannot be used, [`GateFailed`] if a budget or a comparison does not hold.
pub fn run(args: &Args, common: &Common) -> Result<()> {
    let settings = settings(args, common)?;
    let old = args.compare.as_deref().map(old_report).transpose()?;
    args.out.iter().try_for_each(|path| write_bench(path, None))?;
    let files = args.models.iter().map(|path| OnnxFile::load(path)).collect::<Result<Vec<_>>>()?;
    let names = names(&args.models);
    let mut subjects = Vec::new();
    for (file, name) in files.iter().zip(&names) {
        let shape = args.shape.as_ref().map(|shape| shape.0.as_slice());
        let images = args.mode.contains(&Mode::EndToEnd).then_some(args.image.as_slice());
        subjects.push(subject(file, name, shape, images, &common.ui())?);
    }
    let benchmark = Benchmark {
        baseline: names[0].clone(),
        seed: args.seed,
        progress: &common.ui(),
        stop: &AtomicBool::new(false),
        program: Some(std::env::current_exe()?),
    };
    let mut report = bench(&subjects, &settings, &benchmark)?;
    report.budgets = judge(&settings.budgets, &report.cells, &names[0], |_| true);
    if let (Some(path), Some(old)) = (&args.compare, &old) {
        let against = path.display().to_string();
        report.comparison =
            Some(compare(&report.side(), &old.side(), against, args.allow / 100.0, args.seed)?);
    }
    args.out.iter().try_for_each(|path| write_bench(path, Some(&report)))?;
    if common.json {
        out_json(&report)?
    } else {
        out(bench_screen(&report))?
    }
    bench_failures(&report).map_or(Ok(()), |failures| Err(GateFailed(failures).into()))
}

/// The request to a fresh process, which measures its own start and prints it as one line.
#[derive(Debug, clap::Args)]
pub struct FreshStart {
    pub request: String,
}

/// Measures this process's start.
///
/// # Errors
/// The errors of [`measure_start`].
pub fn fresh_start(args: &FreshStart) -> Result<()> {
    let request: Request = serde_json::from_str(&args.request).context("cannot read the request")?;
    out(serde_json::to_string(&measure_start(&request)?)?)
}

/// A file to measure. `shape` has the sizes that the file leaves free, `images` the files and folders for the mode
/// end-to-end.
///
/// # Errors
/// [`InputError`] if a size is free or does not fit, or if there is no image to decode.
pub fn subject<'a>(
    file: &'a OnnxFile,
    name: &str,
    shape: Option<&[usize]>,
    images: Option<&[PathBuf]>,
    progress: &dyn Progress,
) -> Result<Subject<'a>> {
    let sample = sample(file, shape)?;
    let batch = match file.contract.batch() {
        Some(fixed) => Some(fixed),
        None => single_image(file, &sample, progress)?,
    };
    Ok(Subject {
        file,
        batch,
        model: ModelFacts::of(file, name.to_string(), sample),
        pictures: images.map(|images| pictures(file, images, progress)).transpose()?,
        open: Box::new(move |engine, options| open(file, engine, options)),
    })
}

/// The batch of a file that declares a free one and takes single images only, with a warning. The file is measured as it
/// is; only this question is answered with its sizes fixed.
fn single_image(file: &OnnxFile, sample: &[usize], progress: &dyn Progress) -> Result<Option<usize>> {
    let settled = fix_batch(file.clone().with_sizes(None, sample)?)?;
    let Some(finding) = settled.finding else { return Ok(None) };
    progress.warn(format!("{}: {}\n  hint: {}", file.path.display(), finding.problem, finding.remedy));
    Ok(settled.file.contract.batch())
}

/// Sizes of a sample's axes: those fixed in the file, and the user's where the file leaves them free.
fn sample(file: &OnnxFile, given: Option<&[usize]>) -> Result<Vec<usize>, InputError> {
    let path = file.path.display();
    let axes = file.contract.input.dims.get(1..).unwrap_or_default();
    let Some(given) = given else {
        return file.contract.sample_shape().ok_or_else(|| {
            InputError::new(format!("{path}: the sizes of its input are not fixed in the file"))
                .hint("give them with --shape, such as --shape 3x224x224")
        });
    };
    let fits = |(axis, &size): (&Dim, &usize)| match axis {
        Dim::Fixed(fixed) => *fixed == size,
        Dim::Symbolic(_) => true,
    };
    if axes.is_empty() {
        return Ok(given.to_vec());
    }
    if axes.len() != given.len() || !axes.iter().zip(given).all(fits) {
        let wanted: Vec<String> = axes
            .iter()
            .map(|axis| match axis {
                Dim::Fixed(size) => size.to_string(),
                Dim::Symbolic(_) => "?".into(),
            })
            .collect();
        let problem = format!("--shape does not fit {path}, whose samples are {}", wanted.join("x"));
        return Err(InputError::new(problem)
            .hint("give every axis except the batch, with the sizes that the file fixes"));
    }
    Ok(given.to_vec())
}

fn pictures(file: &OnnxFile, images: &[PathBuf], progress: &dyn Progress) -> Result<Pictures> {
    if images.is_empty() {
        let problem = "--mode end-to-end decodes images, but none are given";
        return Err(InputError::new(problem).hint("name files or folders with --image").into());
    }
    let read = |path: PathBuf| {
        let bytes = std::fs::read(&path).map_err(|error| {
            InputError::new(format!("cannot read {}: {error}", path.display()))
                .hint("check the path after --image")
        })?;
        Ok((path.display().to_string(), bytes))
    };
    let files = image_files(images, progress)?.into_iter().map(read).collect::<Result<Vec<_>>>()?;
    let pictures = Pictures::of(file, files).ok_or_else(|| {
        InputError::new(format!("{}: its input is not an image of a fixed size", file.path.display()))
            .hint("end-to-end is for images; measure it with --mode device,host")
    })?;
    for (name, bytes) in &pictures.files {
        prepared_bytes(&pictures.preparation, bytes, name, pictures.shape)?;
    }
    Ok(pictures)
}

/// File names without their extensions if they are distinct, else whole paths.
pub fn names(paths: &[PathBuf]) -> Vec<String> {
    let stem = |path: &PathBuf| path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let stems: Vec<String> = paths.iter().map(stem).collect();
    let distinct: std::collections::HashSet<&String> = stems.iter().collect();
    if distinct.len() == stems.len() {
        return stems;
    }
    paths.iter().map(|path| path.display().to_string()).collect()
}

fn settings(args: &Args, common: &Common) -> Result<Bench> {
    let settings = Bench {
        engines: common.engines(&args.engine)?,
        batch: args.batch.clone(),
        threads: args.threads.clone(),
        modes: args.mode.clone(),
        scenarios: args.scenario.clone(),
        min_samples: args.min_samples,
        min_seconds: args.min_seconds.unwrap_or_else(|| Bench::default().min_seconds.min(args.max_seconds)),
        max_seconds: args.max_seconds,
        rates: args.rate.clone(),
        p99_target_ms: args.p99_target,
        cold_starts: args.cold_start,
        memory: args.memory,
        profile: args.profile,
        budgets: args.budget.clone(),
        strict: args.strict,
        cuda: CudaSettings { conv_search: args.conv_search, tf32: args.tf32, graph: args.cuda_graph },
    };
    if !(args.allow >= 0.0 && args.allow.is_finite()) {
        return Err(InputError::new(format!("--allow: found {}", args.allow))
            .hint("expected a percentage from 0")
            .into());
    }
    match settings.out_of_range().into_iter().next() {
        None => Ok(settings),
        Some(OutOfRange { key, found, expected }) => {
            Err(InputError::new(format!("--{}: found {found}", flag(key)))
                .hint(format!("expected {expected}"))
                .into())
        }
    }
}

/// The option that sets a key.
fn flag(key: &str) -> String {
    match key {
        "modes" => "mode".into(),
        "scenarios" => "scenario".into(),
        "rates" => "rate".into(),
        "p99_target_ms" => "p99-target".into(),
        "cold_starts" => "cold-start".into(),
        other => other.replace('_', "-"),
    }
}

/// Reads a measurement that `--out` wrote.
fn old_report(path: &Path) -> Result<BenchReport, InputError> {
    let fail = |problem: String| {
        InputError::new(format!("--compare {}: {problem}", path.display()))
            .hint("give a .json file that `cohort bench --out` wrote")
    };
    let bytes = std::fs::read(path).map_err(|error| fail(error.to_string()))?;
    BenchReport::from_json(&bytes).map_err(fail)
}

fn mode(text: &str) -> Result<Mode, String> {
    choice(text, &Mode::ALL, Mode::key)
}

fn scenario(text: &str) -> Result<Scenario, String> {
    choice(text, &Scenario::ALL, Scenario::key)
}

fn conv_search(text: &str) -> Result<ConvSearch, String> {
    choice(text, &ConvSearch::ALL, ConvSearch::key)
}
