//! `cohort verify`: an ONNX file against its checkpoint, another file, recorded outputs, or its engines against
//! each other.

mod against;
mod inputs;

use std::path::PathBuf;

use anyhow::Result;

use crate::bench::usable_threads;
use crate::config::EngineName;
use crate::engine::{EngineOptions, engine_names, open, ort};
use crate::error::{GateFailed, InputError};
use crate::onnx::{OnnxFile, findings};
use crate::report::{verify_row, verify_screen};
use crate::ui::{Ui, out, out_json};
use crate::verify::{Accuracy, Evidence, InputSet, Job, Standing, Truths, VerifyReport, blame, verify};

use super::Common;
use against::{Network, candidates, checkpoint, file_truth, imported, network_truth};
use inputs::Images;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// An ONNX file
    pub model: PathBuf,
    /// Run folder with the checkpoint [default: the one the file lies in]
    #[arg(long, value_name = "DIR", conflicts_with_all = ["reference", "inputs"])]
    pub run: Option<PathBuf>,
    /// Another ONNX file that must compute the same
    #[arg(long, value_name = "FILE", conflicts_with = "inputs")]
    pub reference: Option<PathBuf>,
    /// Recorded inputs: .npy with --expected, or .npz with inputs and outputs by tensor name
    #[arg(long, value_name = "FILE", conflicts_with = "data")]
    pub inputs: Option<PathBuf>,
    /// Recorded outputs for --inputs, .npy
    #[arg(long, value_name = "FILE", requires = "inputs")]
    pub expected: Option<PathBuf>,
    /// Pipeline whose data set gives images and labels [default: seeded noise]
    #[arg(long, value_name = "PIPELINE")]
    pub data: Option<PathBuf>,
    /// Validation images of --data that are compared
    #[arg(long, default_value_t = 256)]
    pub images: usize,
    /// Engines: torch (with a run folder), ort-cpu, ort-cuda, tract [default: all there are]
    #[arg(long, value_delimiter = ',')]
    pub engine: Vec<String>,
    /// Seed of the noise
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
}

/// Compares and prints.
///
/// # Errors
/// [`GateFailed`] if an engine is not within its tolerance; [`InputError`] if something cannot be
/// read.
pub fn run(args: &Args, common: &Common) -> Result<()> {
    let file = OnnxFile::load(&args.model)?;
    let report = compared(args, &file, common.ui())?;
    let problems = (!report.passed).then(|| report.problems());
    if common.json {
        out_json(&report)?
    } else {
        out(verify_screen(&verify_row(report)))?
    }
    match problems {
        None => Ok(()),
        Some(problems) => Err(GateFailed(format!("{} failed{problems}", args.model.display())).into()),
    }
}

fn compared(args: &Args, file: &OnnxFile, ui: Ui) -> Result<VerifyReport> {
    let network = network(args, file, ui)?;
    let with_torch = network.as_ref().is_some_and(Network::ends_alike);
    let engines = engines(args, file, with_torch, ui)?;
    let images = args.data.as_ref().map(|pipeline| Images::open(pipeline, file)).transpose()?;
    let Basis { inputs, truths, reference } = basis(args, file, &engines, network.as_ref(), images.as_ref())?;
    let threads = usable_threads();
    let candidates = candidates(file, &engines, network.as_ref(), threads)?;
    let mut report = verify(&mut Job {
        model: file.path.display().to_string(),
        findings: findings(file),
        truths: &truths,
        engines: candidates,
        inputs: &inputs,
        accuracy: images.as_ref().map(|images| {
            let (name, split) = images.labelled();
            let score = network.as_ref().and_then(|network| network.test);
            let known = score.filter(|score| name == "test" && score.images == split.len());
            let reference = known.map(|score| score.accuracy);
            Accuracy { name, split, normalization: &images.normalization, reference }
        }),
        fixed_batch: file.fixed_batch(),
        ui,
    });
    if !report.passed && cfg!(feature = "train") {
        let checkpoint = network.as_ref().filter(|_| truths.standing == Standing::Checkpoint);
        let reference = reference.as_ref().or(checkpoint).map(|network| (&network.graph, &network.weights));
        let evidence = Evidence { file, reference, inputs: &inputs, truths: &truths, open: &open, threads };
        match blame(&report, &evidence) {
            Ok(blame) => report.blame = blame,
            Err(error) => ui.warn(format!("no node can be blamed: {error:#}")),
        }
    }
    Ok(report)
}

/// What a file is held against.
struct Basis {
    inputs: Vec<InputSet>,
    truths: Truths,
    /// The network behind another file that it must agree with.
    reference: Option<Network>,
}

/// The network that the file should compute: its checkpoint's where that is known, else its own.
fn network(args: &Args, file: &OnnxFile, ui: Ui) -> Result<Option<Network>> {
    if args.reference.is_none()
        && args.inputs.is_none()
        && let Some(checkpoint) = checkpoint(file, args.run.as_ref())?
    {
        return Ok(Some(checkpoint));
    }
    if !cfg!(feature = "train") {
        return Ok(None);
    }
    match imported(file, Standing::File) {
        Ok(network) => Ok(Some(network)),
        Err(error) => {
            ui.warn(format!("no float64 truth from the file's own nodes: {error:#}"));
            Ok(None)
        }
    }
}

fn basis(
    args: &Args,
    file: &OnnxFile,
    engines: &[EngineName],
    network: Option<&Network>,
    images: Option<&Images>,
) -> Result<Basis> {
    if let Some(recorded) = &args.inputs {
        let (set, logits) = inputs::recorded(file, recorded, args.expected.as_ref())?;
        let name = format!("outputs of {}", args.expected.as_ref().unwrap_or(recorded).display());
        let truths = Truths { name, standing: Standing::Recorded, logits: vec![logits] };
        return Ok(Basis { inputs: vec![set], truths, reference: None });
    }
    let sets = match images {
        Some(images) => images.sets(args.images, args.seed)?,
        None => inputs::noise(file, args.seed)?,
    };
    let reader = engines.iter().copied().find(|engine| *engine != EngineName::Torch);
    let reader = reader.unwrap_or(EngineName::Tract);
    let (truths, reference) = match (network, &args.reference) {
        (_, Some(path)) => {
            let reference = OnnxFile::load(path)?;
            if reference.image_shape() != file.image_shape() {
                let (one, other) = (args.model.display(), path.display());
                return Err(InputError::new(format!("{one} and {other} take images of different size"))
                    .hint("compare files of the same input")
                    .into());
            }
            match cfg!(feature = "train").then(|| imported(&reference, Standing::Reference)) {
                Some(Ok(network)) => (network_truth(&network, &sets, &reference)?, Some(network)),
                Some(Err(_)) | None => {
                    (file_truth(&reference, reader, Standing::Reference, &sets, usable_threads())?, None)
                }
            }
        }
        (Some(network), None) => (network_truth(network, &sets, file)?, None),
        (None, None) => (file_truth(file, reader, Standing::Engine, &sets, usable_threads())?, None),
    };
    Ok(Basis { inputs: sets, truths, reference })
}

/// The engines that are asked for, or all that are there.
fn engines(args: &Args, file: &OnnxFile, with_network: bool, ui: Ui) -> Result<Vec<EngineName>> {
    if !args.engine.is_empty() {
        let engines = engine_names(&args.engine)?;
        if engines.iter().any(|engine| matches!(engine, EngineName::OrtCpu | EngineName::OrtCuda)) {
            ort::facts()?;
        }
        return Ok(engines);
    }
    let mut engines = Vec::new();
    if with_network {
        engines.push(EngineName::Torch);
    }
    match ort::facts() {
        Ok(facts) => {
            engines.push(EngineName::OrtCpu);
            if facts.cuda {
                match open(file, EngineName::OrtCuda, &EngineOptions::default()) {
                    Ok(_) => engines.push(EngineName::OrtCuda),
                    Err(error) => ui.warn(format!("without CUDA: {error:#}")),
                }
            }
        }
        Err(missing) if ort::is_named() => return Err(missing.into()),
        Err(missing) => ui.warn(format!("without ONNX Runtime: {missing}")),
    }
    engines.push(EngineName::Tract);
    Ok(engines)
}
