//! `cohort verify`: compares an ONNX file with its checkpoint, another file or recorded outputs, or its engines
//! with each other.

mod against;
mod controls;
mod inputs;
mod numpy;

use std::path::PathBuf;

use anyhow::Result;

use crate::bench::usable_threads;
use crate::config::EngineName;
use crate::engine::{EngineOptions, engine_names, open, ort};
use crate::error::GateFailed;
use crate::onnx::OnnxFile;
use crate::progress::Progress;
use crate::report::{verify_row, verify_screen};
use crate::ui::{out, out_json};
use crate::verify::{
    Adversary, Examination, InputSet, ReferenceKind, Scoring, Truths, VerifyReport, examine, noise_pool,
};

use super::Common;
use super::common::runtime;
use against::{
    ExpectedModel, Reference, candidates, checkpoint, file_truth, imported, network_truth, run_folder,
};
use inputs::Images;

/// Default number of validation images that are compared.
const IMAGES: usize = 256;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// An ONNX file
    pub model: PathBuf,
    /// Run folder with the checkpoint [default: the one that contains the file]
    #[arg(long, value_name = "DIR", conflicts_with_all = ["reference", "inputs"])]
    pub run: Option<PathBuf>,
    /// Another ONNX file that must compute the same outputs
    #[arg(long, value_name = "FILE", conflicts_with = "inputs")]
    pub reference: Option<PathBuf>,
    /// Recorded inputs: .npy with --expected, or .npz with inputs and outputs by tensor name
    #[arg(long, value_name = "FILE", conflicts_with = "data")]
    pub inputs: Option<PathBuf>,
    /// Recorded outputs for --inputs, .npy
    #[arg(long, value_name = "FILE", requires = "inputs")]
    pub expected: Option<PathBuf>,
    /// Pipeline whose data set provides images and labels [default: the run folder's, else seeded noise]
    #[arg(long, value_name = "PIPELINE")]
    pub data: Option<PathBuf>,
    /// Number of validation images of --data to compare
    #[arg(long, default_value_t = IMAGES)]
    pub images: usize,
    /// Engines: torch (with a run folder), ort-cpu, ort-cuda, tract [default: all available]
    #[arg(long, value_delimiter = ',')]
    pub engine: Vec<String>,
    /// Seed for noise inputs
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    /// Folder for a failing case: model, inputs, expected outputs [default: MODEL.case]
    #[arg(long, value_name = "DIR")]
    pub case: Option<PathBuf>,
    /// Plant faults in copies of the model instead and count how many are found
    #[arg(long, conflicts_with_all = ["reference", "inputs", "data"])]
    pub self_test: bool,
}

/// Compares the engines and prints the result.
///
/// # Errors
/// [`GateFailed`] if an engine is not within its tolerance; [`crate::error::InputError`] if something cannot be
/// read.
pub fn run(args: &Args, common: &Common) -> Result<()> {
    let file = OnnxFile::load(&args.model)?;
    if args.self_test {
        return controls::run(args, &file, common);
    }
    let report = compared(args, &file, &common.ui())?;
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

impl Args {
    /// The arguments of `cohort verify MODEL`.
    pub fn of(model: PathBuf) -> Self {
        Self {
            model,
            run: None,
            reference: None,
            inputs: None,
            expected: None,
            data: None,
            images: IMAGES,
            engine: Vec::new(),
            seed: 0,
            case: None,
            self_test: false,
        }
    }
}

/// Compares a file with the reference that the arguments name, and keeps a failing case.
///
/// # Errors
/// The errors of [`run`], except that an engine out of tolerance is recorded in the report.
pub fn compared(args: &Args, file: &OnnxFile, progress: &dyn Progress) -> Result<VerifyReport> {
    let mut network = network(args, file, progress)?;
    let mut reference = args.reference.as_ref().map(|path| Reference::load(path, file)).transpose()?;
    let shorter = cut(args, file, network.as_mut(), reference.as_mut())?;
    let whole = file;
    let file = shorter.as_ref().unwrap_or(whole);
    let with_torch = network.as_ref().is_some_and(ExpectedModel::ends_alike);
    let engines = engines(args, file, with_torch, progress)?;
    let images = images(args, file, progress)?;
    let references = (network.as_ref(), reference.as_ref());
    let (inputs, truths) = inputs_and_truths(args, file, &engines, references, images.as_ref())?;
    if let (Some(images), Some(logits)) = (&images, truths.logits.first())
        && images.classes() != logits.ncols()
    {
        progress.warn(format!(
            "the data set has {} classes and the file {}: the accuracy compares class indices",
            images.classes(),
            logits.ncols()
        ));
    }
    let other = reference.as_ref().and_then(|reference| reference.network.as_ref());
    let true_network = match truths.kind {
        ReferenceKind::Checkpoint | ReferenceKind::File => network.as_ref(),
        ReferenceKind::Reference => other,
        ReferenceKind::Recorded | ReferenceKind::Engine => None,
    };
    let adversary = match true_network.filter(|network| network.ends_alike()) {
        Some(network) => {
            let image = inputs::image_input(file, images.as_ref())?;
            let pool = match &images {
                Some(images) => images.pool()?,
                None => noise_pool(&image, args.seed),
            };
            Some(Adversary { model: &network.model, pool, image })
        }
        None => None,
    };
    let scoring = images.as_ref().map(|images| {
        let (name, split) = images.labelled();
        let written = file.metadata.as_ref().and_then(|metadata| metadata.score);
        let scored = written.or(network.as_ref().and_then(|network| network.scored));
        let known = scored.filter(|scored| (scored.split, scored.images) == (name, split.len()));
        let (preparation, own) = (&images.preparation, images.own.as_ref());
        Scoring { name: name.name(), split, preparation, own, reference: known.map(|scored| scored.share()) }
    });
    let another = true_network.filter(|_| truths.kind != ReferenceKind::File);
    let case = case_folder(args);
    let threads = usable_threads();
    let examined = examine(Examination {
        file,
        whole,
        candidates: candidates(file, &engines, network.as_ref(), threads)?,
        inputs,
        truths,
        adversary,
        reference: another.map(ExpectedModel::reference),
        scoring,
        case: Some(&case),
        open: &open,
        threads,
        progress,
    });
    match &examined.case {
        Ok(files) if files.is_empty() => {}
        Ok(_) => {
            progress.warn(format!("the failing case is in {}; its command.txt reproduces it", case.display()))
        }
        Err(error) => progress
            .warn(format!("the failing case is not kept: {error:#}; choose another folder with --case")),
    }
    Ok(examined.report)
}

/// The folder in which a failing case is kept.
fn case_folder(args: &Args) -> PathBuf {
    let stem = args.model.file_stem().unwrap_or_default().to_string_lossy();
    args.case.clone().unwrap_or_else(|| PathBuf::from(format!("{stem}.case")))
}

/// The file without its final softmax, for the engines, if the reference can also be taken before that
/// softmax.
fn cut(
    args: &Args,
    file: &OnnxFile,
    network: Option<&mut ExpectedModel>,
    reference: Option<&mut Reference>,
) -> Result<Option<OnnxFile>> {
    let Some(network) = network.filter(|_| args.inputs.is_none()) else { return Ok(None) };
    let Some(reference) = reference else { return network.cut(file) };
    match &mut reference.network {
        Some(other) if network.cut_alike(other) => {
            other.cut(&reference.file)?;
            network.cut(file)
        }
        Some(_) | None => Ok(None),
    }
}

/// The named data set, else that of the run folder that contains the file.
fn images(args: &Args, file: &OnnxFile, progress: &dyn Progress) -> Result<Option<Images>> {
    if let Some(pipeline) = &args.data {
        return Images::open(pipeline, file).map(Some);
    }
    let Some(folder) = run_folder(file, args.run.as_ref()) else { return Ok(None) };
    if args.reference.is_some() || args.inputs.is_some() {
        return Ok(None);
    }
    progress.note(format!("reading the images of {}", folder.root().display()));
    match Images::of_run(&folder, file)? {
        Ok(images) => Ok(Some(images)),
        Err(problem) => {
            progress.warn(format!(
                "using noise in place of the run's images: {problem}; give a pipeline that has them with --data"
            ));
            Ok(None)
        }
    }
}

/// The network that the file should compute: its checkpoint's if it is known, else that of its own nodes.
fn network(args: &Args, file: &OnnxFile, progress: &dyn Progress) -> Result<Option<ExpectedModel>> {
    if args.reference.is_none()
        && args.inputs.is_none()
        && let Some(checkpoint) = checkpoint(file, args.run.as_ref())?
    {
        return Ok(Some(checkpoint));
    }
    if !cfg!(feature = "train") {
        return Ok(None);
    }
    match imported(file, ReferenceKind::File) {
        Ok(network) => Ok(Some(network)),
        Err(error) => {
            progress.warn(format!("no float64 reference from the file's own nodes: {error:#}"));
            Ok(None)
        }
    }
}

fn inputs_and_truths(
    args: &Args,
    file: &OnnxFile,
    engines: &[EngineName],
    (network, reference): (Option<&ExpectedModel>, Option<&Reference>),
    images: Option<&Images>,
) -> Result<(Vec<InputSet>, Truths)> {
    if let Some(recorded) = &args.inputs {
        let (set, logits) = inputs::recorded(file, recorded, args.expected.as_ref())?;
        let name = format!("outputs of {}", args.expected.as_ref().unwrap_or(recorded).display());
        return Ok((vec![set], Truths { name, kind: ReferenceKind::Recorded, logits: vec![logits] }));
    }
    let sets = match images {
        Some(images) => images.sets(file, args.images, args.seed)?,
        None => inputs::noise(file, args.seed)?,
    };
    let reader = engines.iter().copied().find(|engine| *engine != EngineName::Torch);
    let reader = reader.unwrap_or(EngineName::Tract);
    let truths = match (network, reference) {
        (_, Some(Reference { file, network: Some(network) })) => network_truth(network, &sets, file)?,
        (_, Some(Reference { file, network: None })) => {
            file_truth(file, reader, ReferenceKind::Reference, &sets, usable_threads())?
        }
        (Some(network), None) => network_truth(network, &sets, file)?,
        (None, None) => file_truth(file, reader, ReferenceKind::Engine, &sets, usable_threads())?,
    };
    Ok((sets, truths))
}

/// The named engines, or all that are available.
fn engines(
    args: &Args,
    file: &OnnxFile,
    with_network: bool,
    progress: &dyn Progress,
) -> Result<Vec<EngineName>> {
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
    if let Some(facts) = runtime(progress)? {
        engines.push(EngineName::OrtCpu);
        if facts.cuda {
            match open(file, EngineName::OrtCuda, &EngineOptions::default()) {
                Ok(_) => engines.push(EngineName::OrtCuda),
                Err(error) => progress.warn(format!("continuing without CUDA: {error:#}")),
            }
        }
    }
    engines.push(EngineName::Tract);
    Ok(engines)
}
