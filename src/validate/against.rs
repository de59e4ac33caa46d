//! The references that a file is compared with: its checkpoint, another file, or one of the engines.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use anyhow::{Context, Result};
use ndarray::ArrayViewD;

use crate::config::{Device, EngineName, Pipeline, StudentModel, load_pipeline, parse};
use crate::contract::{Normalization, OutputKind, Precision};
use crate::engine::torch::{TorchEngine, Truth};
use crate::engine::{Engine, EngineOptions, open};
use crate::error::InputError;
use crate::folder::{RunFolder, read_json};
use crate::graph::{Model, Weights, cost, fold_normalization, normalizing};
use crate::onnx::{Import, OnnxFile, Scored, ScoredSplit, import};
use crate::plan::{as_file_takes, plan};
use crate::stage::StageKind;
use crate::task::Score;
use crate::verify::{ConfiguredEngine, InputSet, ReferenceKind, Truths};
use crate::zoo;

use super::settle::{Batched, fix_batch};

/// A network and its weights, read without any runtime.
pub struct ExpectedModel {
    pub model: Model,
    /// The same model with its normalisation as nodes, if the file normalises by itself.
    folded: Option<Model>,
    /// How the file's output follows from the logits.
    answer: OutputKind,
    /// The file's tensor that holds the logits before a softmax or an ArgMax.
    logits_tensor: Option<String>,
    /// Whether that tensor is compared instead of the output.
    cut: bool,
    standing: ReferenceKind,
    /// The score that the run reported on its test split.
    pub scored: Option<Scored>,
}

impl ExpectedModel {
    /// Whether libtorch's logits are comparable with the engines' outputs: no softmax follows the logits.
    pub fn ends_alike(&self) -> bool {
        self.cut || self.answer == OutputKind::Logits
    }

    /// The model whose nodes are compared with the file's nodes, one by one.
    pub fn reference(&self) -> &Model {
        self.folded.as_ref().unwrap_or(&self.model)
    }

    /// Compares the logits before a softmax or an ArgMax, because errors of small probabilities are invisible after
    /// the one and most errors after the other. Returns the file as the engines then run it; `None` if it has neither,
    /// or no tensor before it.
    ///
    /// # Errors
    /// If the file cannot be cut.
    pub fn cut(&mut self, file: &OnnxFile) -> Result<Option<OnnxFile>> {
        let Some(tensor) = &self.logits_tensor else { return Ok(None) };
        let shorter = file.cut_after(tensor, self.model.graph().classes())?;
        self.cut = true;
        Ok(Some(shorter))
    }

    /// Whether both files end in the same way and can be cut at that tensor.
    pub fn cut_alike(&self, other: &Self) -> bool {
        self.answer == other.answer && self.logits_tensor.is_some() && other.logits_tensor.is_some()
    }
}

/// The checkpoint from which a file was exported, if a run folder is named or the file is in one.
///
/// # Errors
/// [`InputError`] if the run folder is incomplete or damaged.
pub fn checkpoint(file: &OnnxFile, run: Option<&PathBuf>) -> Result<Option<ExpectedModel>> {
    let folder = match run_folder(file, run) {
        Some(folder) if run.is_some() || cfg!(feature = "train") => folder,
        Some(_) | None => return Ok(None),
    };
    let metadata = file.metadata.as_ref().ok_or_else(|| {
        InputError::new(format!("{} does not say which student it is", file.path.display()))
            .hint("a file that `cohort run` exported says so in its metadata")
    })?;
    let path = folder.resolved_pipeline();
    let text = std::fs::read_to_string(&path).map_err(|error| {
        InputError::new(format!("cannot read {}: {error}", path.display()))
            .hint("give a run folder with --run")
    })?;
    let pipeline: Pipeline = parse(&text, &path.display().to_string())?;
    let student = pipeline.cohort.iter().find(|student| student.name == metadata.student);
    let student =
        student.with_context(|| format!("{} has no student '{}'", path.display(), metadata.student))?;
    let graph = match &student.model {
        StudentModel::Named(name) => {
            let model = zoo::find_model(name, folder.root())?;
            zoo::build(&model, metadata.input, metadata.classes.len())?
        }
        // What it is a part of is in another file.
        StudentModel::Onnx(_) | StudentModel::Slim(_) => {
            let plan = plan(&load_pipeline(&path, &[])?)?;
            let peer = plan.peers.into_iter().find(|peer| peer.name == student.name);
            peer.context("a plan has every student")?.graph
        }
    };
    let trained = StageKind::TRAINING.map(|stage| folder.weights(stage, &student.name));
    let weights = trained.iter().find(|path| path.exists()).context("the run folder contains no weights")?;
    let tests: BTreeMap<String, Score> = match folder.test_scores() {
        path if path.exists() => read_json(&path)?,
        _ => BTreeMap::new(),
    };
    let mut model = as_file_takes(Model::new(graph, Weights::load(weights)?)?, &file.contract)?;
    let mut folded = None;
    if let Some(Normalization { mean, std }) = &metadata.normalizes {
        folded = Some(fold_normalization(&model, mean, std)?);
        model = normalizing(&model, mean, std)?;
    }
    let scored = tests.get(&student.name).map(|score| Scored::of(ScoredSplit::Test, score));
    Ok(Some(ExpectedModel {
        model,
        folded,
        answer: file.contract.answer().kind,
        logits_tensor: import(file).ok().and_then(|import| import.logits_tensor),
        cut: false,
        standing: ReferenceKind::Checkpoint,
        scored,
    }))
}

/// The named run folder, or the one that contains the file.
pub fn run_folder(file: &OnnxFile, named: Option<&PathBuf>) -> Option<RunFolder> {
    named.cloned().or_else(|| around(file)).map(RunFolder::new)
}

/// The run folder that exported a file: the folder above the file's own has a run's manifest and pipeline, and the file
/// says that a run exported it. Another program's `manifest.json` does not make a file one of a run's.
fn around(file: &OnnxFile) -> Option<PathBuf> {
    file.metadata.as_ref()?;
    let absolute = std::fs::canonicalize(&file.path).ok()?;
    let root = absolute.parent()?.parent()?;
    let is_run = RunFolder::new(root).resolved_pipeline().exists() && root.join("manifest.json").exists();
    is_run.then(|| root.to_path_buf())
}

/// The network that a file's own nodes describe.
pub fn imported(import: Import, standing: ReferenceKind) -> ExpectedModel {
    let Import { model, contract, logits_tensor, .. } = import;
    let answer = contract.answer().kind;
    ExpectedModel { model, folded: None, answer, logits_tensor, cut: false, standing, scored: None }
}

/// Another file that must compute the same outputs, and its network if it can be imported.
pub struct Reference {
    pub file: OnnxFile,
    pub network: Option<ExpectedModel>,
    pub kind: ReferenceKind,
}

impl Reference {
    /// # Errors
    /// [`InputError`] if it cannot be read or takes images of another size than `file`.
    pub fn load(path: &Path, file: &OnnxFile) -> Result<Self> {
        let sample = file.contract.sample_shape();
        let reference = OnnxFile::load(path)?;
        let reference = match (&sample, reference.contract.sample_shape()) {
            (Some(sample), None) => reference.with_sizes(None, sample)?,
            _ => reference,
        };
        if reference.contract.image_shape() != file.contract.image_shape() {
            let (one, other) = (file.path.display(), path.display());
            return Err(InputError::new(format!("{one} and {other} take images of different sizes"))
                .hint("compare files with the same input size")
                .into());
        }
        let quantised = |file: &OnnxFile| file.contract.precision == Precision::Int8;
        let kind = match (quantised(file), quantised(&reference)) {
            (true, false) => ReferenceKind::Unquantized,
            _ => ReferenceKind::Reference,
        };
        let Batched { file: reference, import, .. } = fix_batch(reference)?;
        let network = import.ok().filter(|_| cfg!(feature = "train"));
        Ok(Self { file: reference, network: network.map(|import| imported(import, kind)), kind })
    }
}

/// Reference outputs of a network in float64.
///
/// # Errors
/// If libtorch fails.
pub fn network_truth(network: &ExpectedModel, inputs: &[InputSet], file: &OnnxFile) -> Result<Truths> {
    let truth = Truth::new(&network.model)?;
    let before = match network.answer {
        _ if !network.cut => "",
        OutputKind::Decision => " before the ArgMax",
        OutputKind::Logits
        | OutputKind::Probabilities
        | OutputKind::LogProbabilities
        | OutputKind::Embedding => " before the softmax",
    };
    let name = match network.standing {
        ReferenceKind::Checkpoint => "checkpoint, unfolded, libtorch float64".into(),
        ReferenceKind::File => format!("file's own nodes{before}, libtorch float64"),
        ReferenceKind::Reference
        | ReferenceKind::Unquantized
        | ReferenceKind::Recorded
        | ReferenceKind::Engine => {
            format!("nodes of {}{before}, libtorch float64", file.path.display())
        }
    };
    // The network takes any batch, whatever the file takes.
    Truths::of(&name, network.standing, inputs, None, &mut |images| {
        let logits = truth.logits(images)?;
        Ok(if network.cut { logits } else { network.answer.of_logits(logits) })
    })
}

/// Reference logits of a file as one engine computes them, without optimisation.
///
/// # Errors
/// [`InputError`] if the engine refuses the file, or if its output is not a table.
pub fn file_truth(
    file: &OnnxFile,
    engine: EngineName,
    standing: ReferenceKind,
    inputs: &[InputSet],
    threads: usize,
) -> Result<Truths> {
    let options = EngineOptions { threads, optimize: false, ..EngineOptions::default() };
    let mut reference = open(file, engine, &options)?;
    let name = match standing {
        ReferenceKind::Reference | ReferenceKind::Unquantized => {
            format!("{} in {}", file.path.display(), reference.name())
        }
        ReferenceKind::Checkpoint | ReferenceKind::File | ReferenceKind::Recorded | ReferenceKind::Engine => {
            reference.name()
        }
    };
    let place = file.contract.answer;
    let mut logits = |images: ArrayViewD<'_, f32>| {
        let logits =
            reference.run(images)?.into_iter().nth(place).context("the engine returned no output")?;
        Ok(logits.mapv(f64::from))
    };
    Truths::of(&name, standing, inputs, file.contract.batch(), &mut logits).map_err(|error| {
        let model = file.path.display();
        InputError::new(format!("{name} cannot run {model}, whose values are the reference: {error:#}"))
            .hint("name other engines with --engine, or another reference with --reference or --inputs")
            .into()
    })
}

/// Bytes of weights from which on one engine at a time holds them.
const LARGE: u64 = 32 << 20;

/// Opens every engine in every configuration that may change its numbers.
///
/// # Errors
/// [`InputError`] if libtorch is named and there is no network for it, or if the CUDA provider is named and
/// cannot load. The verification reports it when another engine refuses the file.
pub fn candidates(
    file: &Rc<OnnxFile>,
    engines: &[EngineName],
    network: Option<&ExpectedModel>,
    threads: usize,
) -> Result<Vec<ConfiguredEngine>> {
    let mut candidates = Vec::new();
    // A small file may compute its weights.
    let parameters = network.map_or(0, |network| cost(network.model.graph()).params);
    let large = file.size_bytes().max(4 * parameters) > LARGE;
    for &engine in engines {
        for options in EngineOptions::ways(engine, threads) {
            if large && matches!(engine, EngineName::OrtCpu | EngineName::Tract) {
                let (again, with) = (Rc::clone(file), options.clone());
                let opening = Box::new(move || open(&again, engine, &with));
                candidates.push(ConfiguredEngine::in_turn(engine, options, &file.contract, opening));
                continue;
            }
            let loaded = match (engine, network) {
                (EngineName::Torch, Some(network)) if network.ends_alike() => {
                    Ok(Box::new(TorchEngine::new(&network.model, Device::Cpu, threads)?) as Box<dyn Engine>)
                }
                (EngineName::Torch | EngineName::OrtCuda, _) => Ok(open(file, engine, &options)?),
                (EngineName::OrtCpu | EngineName::Tract, _) => open(file, engine, &options),
            };
            candidates.push(ConfiguredEngine::new(engine, options, loaded, &file.contract));
        }
    }
    Ok(candidates)
}
