//! The job itself.

use std::path::{Path, PathBuf};
use std::rc::Rc;

use anyhow::Result;

use crate::bench::usable_threads;
use crate::config::EngineName;
use crate::contract::OutputKind;
use crate::engine::{EngineOptions, open, ort};
use crate::error::InputError;
use crate::graph::{Model, cost};
use crate::onnx::{Finding, Import, OnnxFile};
use crate::progress::Progress;
use crate::verify::{
    Adversary, Amount, Effort, Examination, InputSet, ReferenceKind, Scoring, Truths, VerifyReport, examine,
    noise_pool,
};

use super::against::{
    ExpectedModel, Reference, candidates, checkpoint, file_truth, imported, network_truth, run_folder,
};
use super::first::first_look;
use super::inputs::{self, Images, PipelineData, Recorded, dataset};
use super::settle::{Batched, fix_batch, fix_sizes, probe_batch, structure};
use super::sizes::{another_size, check_size};

/// What is to be validated, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// An ONNX file.
    pub model: PathBuf,
    /// Run folder with the checkpoint; without one, the folder that contains the file, if that is a run's.
    pub run: Option<PathBuf>,
    /// Another ONNX file that must compute the same outputs.
    pub reference: Option<PathBuf>,
    /// Recorded inputs, and their recorded outputs if those are in another file.
    pub inputs: Option<PathBuf>,
    pub expected: Option<PathBuf>,
    /// Pipeline whose data set provides images and labels.
    pub data: Option<PathBuf>,
    /// Number of validation images to compare, if not by the effort.
    pub images: Option<usize>,
    pub effort: Effort,
    /// Engines; without any, all that are available.
    pub engines: Vec<EngineName>,
    /// Output with the scores; without one, the file's first row of scores.
    pub output: Option<String>,
    /// Size of one image without the batch, where the file leaves it free.
    pub shape: Option<Vec<usize>>,
    /// Seed for noise.
    pub seed: u64,
    /// Folder for a failing case; by default `MODEL.case` in the working directory.
    pub case: Option<PathBuf>,
}

impl Request {
    /// Validates a file with what lies around it.
    pub fn of(model: PathBuf) -> Self {
        Self {
            model,
            run: None,
            reference: None,
            inputs: None,
            expected: None,
            data: None,
            images: None,
            effort: Effort::default(),
            engines: Vec::new(),
            output: None,
            shape: None,
            seed: 0,
            case: None,
        }
    }

    /// The folder in which a failing case is kept.
    fn case_folder(&self) -> PathBuf {
        let stem = self.model.file_stem().unwrap_or_default().to_string_lossy();
        self.case.clone().unwrap_or_else(|| PathBuf::from(format!("{stem}.case")))
    }
}

/// Compares a file with its reference, and keeps a failing case.
///
/// # Errors
/// [`InputError`] if something cannot be read. That an engine is out of tolerance is recorded in the report.
pub fn validate(request: &Request, progress: &dyn Progress) -> Result<VerifyReport> {
    let Settled { file, import, findings, recorded, data } = settled(request)?;
    let mut network = network(request, &file, import, progress)?;
    let mut reference = request.reference.as_ref().map(|path| Reference::load(path, &file)).transpose()?;
    let shorter = cut(request, &file, network.as_mut(), reference.as_mut())?;
    let whole = Rc::new(file);
    let file = &shorter.map_or_else(|| Rc::clone(&whole), Rc::new);
    let with_torch = network.as_ref().is_some_and(ExpectedModel::ends_alike);
    let engines = engines(request, file, with_torch, progress)?;
    let images = match (data, &request.data) {
        (Some(data), Some(pipeline)) => Some(Images::of(data, pipeline, file)?),
        _ => images_of_run(request, file, progress)?,
    };
    let references = (network.as_ref(), reference.as_ref());
    let macs = network.as_ref().map(|network| cost(network.model.graph()).macs);
    let by_effort = request.effort.amount(macs);
    let amount = Amount { images: request.images.unwrap_or(by_effort.images), ..by_effort };
    let threads = usable_threads();
    let mut candidates = candidates(file, &engines, network.as_ref(), threads)?;
    let (inputs, truths) = match (recorded, &images) {
        (Some(recorded), _) => recorded.truth(file)?,
        (None, images) => {
            let sets = match images {
                Some(images) => images.sets(file, request.seed, &amount)?,
                None => inputs::noise(file, request.seed, &amount)?,
            };
            let expected =
                reference.as_ref().map_or(network.as_ref(), |reference| reference.network.as_ref());
            if let (Some(network), Some(macs)) = (expected, macs) {
                first_look(file, (network, macs), &sets, &mut candidates, amount, progress)?;
            }
            let truths = truths(file, &engines, references, &sets)?;
            (sets, truths)
        }
    };
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
        ReferenceKind::Unquantized | ReferenceKind::Recorded | ReferenceKind::Engine => None,
    };
    let recorded = truths.kind == ReferenceKind::Recorded;
    let evaluated = if recorded { network.as_ref() } else { true_network };
    let adversary = match true_network.filter(|network| network.ends_alike()) {
        Some(_) if amount.pool > 0 => {
            let image = inputs::image_input(file, images.as_ref())?;
            let pool = match &images {
                Some(images) => images.pool(&amount)?,
                None => noise_pool(&image, request.seed, &amount),
            };
            Some(Adversary { pool, image })
        }
        Some(_) | None => None,
    };
    let scored_images = images.as_ref().filter(|images| images.have_labels());
    let scoring =
        scored_images.filter(|_| file.contract.answer().kind != OutputKind::Decision).map(|images| {
            let (name, split) = images.labelled();
            let written = file.metadata.as_ref().and_then(|metadata| metadata.score);
            let scored = written.or(network.as_ref().and_then(|network| network.scored));
            let known = scored.filter(|scored| (scored.split, scored.images) == (name, split.len()));
            let (preparation, own) = (&images.preparation, images.own.as_ref());
            Scoring {
                name: name.name(),
                split,
                preparation,
                own,
                reference: known.map(|scored| scored.share()),
            }
        });
    let another = true_network.filter(|_| truths.kind != ReferenceKind::File);
    let case = request.case_folder();
    let examined = examine(Examination {
        file,
        whole: &whole,
        findings,
        candidates,
        inputs,
        truths,
        network: evaluated.filter(|network| network.ends_alike()).map(|network| &network.model),
        adversary,
        reference: another.map(ExpectedModel::reference),
        scoring,
        amount,
        case: Some(&case),
        open: &open,
        threads,
        progress,
    });
    tell_case(examined.case.as_deref(), &case, progress);
    let mut report = examined.report;
    if report.passed {
        check_another_size(&mut report, request, &whole, &engines, progress)?;
    }
    Ok(report)
}

/// A file with its sizes fixed, and what it is run on.
struct Settled {
    file: OnnxFile,
    import: Result<Import>,
    findings: Vec<Finding>,
    recorded: Option<Recorded>,
    data: Option<PipelineData>,
}

/// Reads what is asked for, and fixes the sizes that the file leaves free: as given, else those of the inputs.
fn settled(request: &Request) -> Result<Settled> {
    let file = with_output(OnnxFile::load(&request.model)?, request)?;
    let recorded =
        request.inputs.as_ref().map(|inputs| Recorded::read(&file, inputs, request.expected.as_deref()));
    let recorded = recorded.transpose()?;
    let data = request.data.as_ref().map(|pipeline| dataset(pipeline)).transpose()?;
    let shown = recorded.as_ref().map(|recorded| recorded.images.shape()[1..].to_vec());
    let shown = shown.or_else(|| Some(file.contract.layout.ordered(data.as_ref()?.data.info.shape).to_vec()));
    let free = file.contract.sample_shape().is_none();
    let file = fix_sizes(file, request.shape.as_deref().or(shown.as_deref().filter(|_| free)))?;
    let Batched { file, import, finding } = fix_batch(file)?;
    let (file, finding) = match (&import, finding) {
        (Err(_), None) => probe_batch(file, first_engine(request))?,
        (_, finding) => (file, finding),
    };
    let mut findings: Vec<Finding> = finding.into_iter().collect();
    findings.extend(import.as_ref().map(structure).unwrap_or_default());
    Ok(Settled { file, import, findings, recorded, data })
}

/// Checks a file that leaves height or width free at another size, too, with the same engines.
fn check_another_size(
    report: &mut VerifyReport,
    request: &Request,
    file: &OnnxFile,
    engines: &[EngineName],
    progress: &dyn Progress,
) -> Result<()> {
    let layout = file.contract.layout;
    let other = file.contract.image_shape().and_then(|sample| another_size(&file.declared, layout, sample));
    let Some(other) = other else { return Ok(()) };
    let again = with_output(OnnxFile::load(&request.model)?, request)?;
    match check_size(again, other, engines, request.seed, usable_threads(), progress)? {
        Ok(size) => {
            report.passed = size.passed;
            report.sizes.push(size);
        }
        Err(finding) => report.findings.insert(0, finding),
    }
    if !report.passed {
        report.verdict = "failed".into();
    }
    Ok(())
}

fn tell_case(kept: Result<&[PathBuf], &anyhow::Error>, case: &Path, progress: &dyn Progress) {
    match kept {
        Ok([]) => {}
        Ok(_) => {
            progress.warn(format!("the failing case is in {}; its command.txt reproduces it", case.display()))
        }
        Err(error) => progress
            .warn(format!("the failing case is not kept: {error:#}; choose another folder with --case")),
    }
}

/// The model in which a self-test plants faults: the checkpoint of the run folder that contains the file, else the file's
/// own nodes; with the file, its free sizes fixed.
///
/// # Errors
/// [`InputError`] if the file cannot be read or imported.
pub fn specimen(request: &Request) -> Result<(OnnxFile, Model)> {
    let file = fix_sizes(with_output(OnnxFile::load(&request.model)?, request)?, request.shape.as_deref())?;
    if let Some(checkpoint) = checkpoint(&file, request.run.as_ref())? {
        return Ok((file, checkpoint.model));
    }
    let Batched { file, import, .. } = fix_batch(file)?;
    Ok((file, import?.model))
}

fn with_output(file: OnnxFile, request: &Request) -> Result<OnnxFile, InputError> {
    match &request.output {
        Some(output) => file.answering(output),
        None => Ok(file),
    }
}

/// The engine in which a file is tried that cannot be imported.
fn first_engine(request: &Request) -> EngineName {
    let named = request.engines.iter().copied().find(|engine| *engine != EngineName::Torch);
    let available = || if ort::facts().is_ok() { EngineName::OrtCpu } else { EngineName::Tract };
    named.unwrap_or_else(available)
}

/// The file without its final softmax or ArgMax, for the engines, if the reference can also be taken before that.
fn cut(
    request: &Request,
    file: &OnnxFile,
    network: Option<&mut ExpectedModel>,
    reference: Option<&mut Reference>,
) -> Result<Option<OnnxFile>> {
    let Some(network) = network.filter(|_| request.inputs.is_none()) else { return Ok(None) };
    let Some(reference) = reference else { return network.cut(file) };
    match &mut reference.network {
        Some(other) if network.cut_alike(other) => {
            other.cut(&reference.file)?;
            network.cut(file)
        }
        Some(_) | None => Ok(None),
    }
}

/// The images of the run folder that contains the file, unless it is compared with something else.
fn images_of_run(request: &Request, file: &OnnxFile, progress: &dyn Progress) -> Result<Option<Images>> {
    let Some(folder) = run_folder(file, request.run.as_ref()) else { return Ok(None) };
    if request.reference.is_some() || request.inputs.is_some() {
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
fn network(
    request: &Request,
    file: &OnnxFile,
    import: Result<Import>,
    progress: &dyn Progress,
) -> Result<Option<ExpectedModel>> {
    if request.reference.is_none()
        && request.inputs.is_none()
        && let Some(checkpoint) = checkpoint(file, request.run.as_ref())?
    {
        return Ok(Some(checkpoint));
    }
    if !cfg!(feature = "train") {
        return Ok(None);
    }
    match import {
        Ok(import) => Ok(Some(imported(import, ReferenceKind::File))),
        Err(error) => {
            progress.warn(format!("no float64 reference from the file's own nodes: {error:#}"));
            Ok(None)
        }
    }
}

/// The truth for sets of inputs: another file's, that of the network, or that of an engine.
fn truths(
    file: &OnnxFile,
    engines: &[EngineName],
    (network, reference): (Option<&ExpectedModel>, Option<&Reference>),
    sets: &[InputSet],
) -> Result<Truths> {
    let reader = engines.iter().copied().find(|engine| *engine != EngineName::Torch);
    let reader = reader.unwrap_or(EngineName::Tract);
    match (network, reference) {
        (_, Some(Reference { file, network: Some(network), .. })) => network_truth(network, sets, file),
        (_, Some(Reference { file, network: None, kind })) => {
            file_truth(file, reader, *kind, sets, usable_threads())
        }
        (Some(network), None) => network_truth(network, sets, file),
        (None, None) => file_truth(file, reader, ReferenceKind::Engine, sets, usable_threads()),
    }
}

/// The named engines, or all that are available.
fn engines(
    request: &Request,
    file: &OnnxFile,
    with_network: bool,
    progress: &dyn Progress,
) -> Result<Vec<EngineName>> {
    if !request.engines.is_empty() {
        let engines = request.engines.clone();
        if engines.iter().any(|engine| matches!(engine, EngineName::OrtCpu | EngineName::OrtCuda)) {
            ort::facts()?;
        }
        return Ok(engines);
    }
    let mut engines = Vec::new();
    if with_network {
        engines.push(EngineName::Torch);
    }
    if let Some(facts) = ort::facts_or_warning(progress)? {
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
