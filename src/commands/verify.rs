//! `cohort verify`: an ONNX file against its checkpoint, or its engines against each other.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::bench::usable_threads;
use crate::config::{Device, EngineName, Pipeline, parse};
use crate::engine::torch::{TorchEngine, Truth};
use crate::engine::{Engine, EngineOptions, engine_names, open};
use crate::error::{GateFailed, InputError};
use crate::folder::RunFolder;
use crate::graph::{Graph, Weights};
use crate::onnx::OnnxFile;
use crate::report::{verify_row, verify_table};
use crate::ui::{Ui, out, out_json};
use crate::verify::{InputSet, Job, VerifyReport, input_sets, verify};
use crate::zoo;

use super::Common;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// An ONNX file
    pub model: PathBuf,
    /// Run folder with the checkpoint [default: the one the file lies in]
    #[arg(long, value_name = "DIR")]
    pub run: Option<PathBuf>,
    /// Engines: torch (with a run folder), ort-cpu, ort-cuda, tract
    #[arg(long, value_delimiter = ',', default_value = "ort-cpu,tract")]
    pub engine: Vec<String>,
    /// Seed of the noise
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
}

/// A student's network and weights, as a run folder has them.
struct Checkpoint {
    graph: Graph,
    weights: Weights,
}

/// Compares and prints.
///
/// # Errors
/// [`GateFailed`] if an engine is not within its tolerance; [`InputError`] if something cannot be
/// read.
pub fn run(args: &Args, common: &Common) -> Result<()> {
    let file = OnnxFile::load(&args.model)?;
    let engines = engine_names(&args.engine)?;
    let inputs = inputs(&file, args.seed)?;
    let report = match checkpoint(args, &file)? {
        Some(checkpoint) => against_checkpoint(&file, &engines, &inputs, &checkpoint, common.ui())?,
        None => against_each_other(&file, &engines, &inputs, common.ui())?,
    };
    let passed = report.passed;
    let problems = report.problems();
    if common.json {
        out_json(&report)?
    } else {
        out(verify_table(&verify_row(report)))?
    }
    if passed {
        Ok(())
    } else {
        Err(GateFailed(format!("{} failed{}", args.model.display(), problems)).into())
    }
}

fn inputs(file: &OnnxFile, seed: u64) -> Result<Vec<InputSet>> {
    let shape = file.image_shape().ok_or_else(|| {
        InputError::new(format!("{}: the image size is not fixed in the file", file.path.display()))
            .hint("export it with fixed channels, height and width; the batch may be free")
    })?;
    let range = match &file.metadata {
        Some(metadata) => (-metadata.mean[0] / metadata.std[0], (1.0 - metadata.mean[0]) / metadata.std[0]),
        None => (0.0, 1.0),
    };
    Ok(input_sets(None, shape, range, seed))
}

/// The checkpoint a file was exported from, if a run folder is named or the file lies in one.
fn checkpoint(args: &Args, file: &OnnxFile) -> Result<Option<Checkpoint>> {
    let root = match &args.run {
        Some(root) => root.clone(),
        None => match around(&args.model) {
            Some(root) if cfg!(feature = "train") => root,
            Some(_) | None => return Ok(None),
        },
    };
    let folder = RunFolder::new(root);
    let metadata = file.metadata.as_ref().ok_or_else(|| {
        InputError::new(format!("{} does not say which student it is", args.model.display()))
            .hint("a file that `cohort run` exported says so in its metadata")
    })?;
    let path = folder.resolved_pipeline();
    let text = std::fs::read_to_string(&path).map_err(|error| {
        InputError::new(format!("cannot read {}: {error}", path.display())).hint("--run names a run folder")
    })?;
    let pipeline: Pipeline = parse(&text, &path.display().to_string())?;
    let student = pipeline.cohort.iter().find(|student| student.name == metadata.student);
    let student =
        student.with_context(|| format!("{} has no student '{}'", path.display(), metadata.student))?;
    let base = folder.root();
    let model = zoo::find_model(&student.model, base)?;
    let graph = zoo::build(&model, metadata.input, metadata.classes.len())?;
    let trained = ["collaborate", "pretrain"].map(|stage| folder.weights(stage, &student.name));
    let weights = trained.iter().find(|path| path.exists()).context("the run folder holds no weights")?;
    Ok(Some(Checkpoint { graph, weights: Weights::load(weights)? }))
}

/// The run folder whose export a file is.
fn around(model: &Path) -> Option<PathBuf> {
    let absolute = std::fs::canonicalize(model).ok()?;
    let root = absolute.parent()?.parent()?;
    root.join("manifest.json").exists().then(|| root.to_path_buf())
}

fn against_checkpoint(
    file: &OnnxFile,
    engines: &[EngineName],
    inputs: &[InputSet],
    checkpoint: &Checkpoint,
    ui: Ui,
) -> Result<VerifyReport> {
    let truth = Truth::new(&checkpoint.graph, &checkpoint.weights)?;
    let options = EngineOptions { threads: usable_threads(), ..EngineOptions::default() };
    let mut opened: Vec<(EngineName, Box<dyn Engine>)> = Vec::new();
    for &engine in engines {
        let loaded: Box<dyn Engine> = match engine {
            EngineName::Torch => Box::new(TorchEngine::new(
                &checkpoint.graph,
                &checkpoint.weights,
                Device::Cpu,
                options.threads,
            )?),
            EngineName::OrtCpu | EngineName::OrtCuda | EngineName::Tract => open(file, engine, &options)?,
        };
        opened.push((engine, loaded));
    }
    verify(&mut Job {
        model: file.path.display().to_string(),
        truth_name: "checkpoint, unfolded, libtorch float64".into(),
        truth: &|images| truth.logits(images),
        from_checkpoint: true,
        engines: opened,
        inputs,
        accuracy: None,
        fixed_batch: file.fixed_batch(),
        ui,
    })
}

/// Without a checkpoint the first engine, with its optimiser off, is what the others are held to.
fn against_each_other(
    file: &OnnxFile,
    engines: &[EngineName],
    inputs: &[InputSet],
    ui: Ui,
) -> Result<VerifyReport> {
    let options = EngineOptions { threads: usable_threads(), ..EngineOptions::default() };
    let first = *engines.first().context("clap gives at least one engine")?;
    let reference = open(file, first, &EngineOptions { optimize: false, ..options.clone() })?;
    let truth_name = format!("{}, not optimised", reference.name());
    let place = reference.outputs().iter().position(|name| name == Graph::LOGITS).unwrap_or(0);
    let reference = std::cell::RefCell::new(reference);
    let mut opened = Vec::new();
    for &engine in engines {
        opened.push((engine, open(file, engine, &options)?));
    }
    verify(&mut Job {
        model: file.path.display().to_string(),
        truth_name,
        truth: &|images| {
            let outputs = reference.borrow_mut().run(images)?;
            let logits = outputs.into_iter().nth(place).context("the engine gives no output")?;
            Ok(logits.mapv(f64::from))
        },
        from_checkpoint: false,
        engines: opened,
        inputs,
        accuracy: None,
        fixed_batch: file.fixed_batch(),
        ui,
    })
}
