//! The frozen teacher: its network and the file with its weights.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Result;

use crate::config::{Prepare, TeacherSpec};
use crate::contract::{ChannelOrder, Contract, Fit, Normalization, Preparation};
use crate::data::DataInfo;
use crate::error::InputError;
use crate::graph::{Graph, Model, Weights};
use crate::onnx::OnnxFile;
use crate::stage::StageKind;
use crate::zoo;

use super::file::{Classifier, Known};

/// How many classes an error lists.
const NAMED: usize = 8;

/// A teacher that was found and whose weights fit its model.
#[derive(Debug, Clone, PartialEq)]
pub struct Teacher {
    /// A ready architecture, a model file or an ONNX file, as written.
    pub model: String,
    /// For images `[channels, height, width]` with channels as they are decoded.
    pub known: Known,
    /// The file with its weights.
    pub file: PathBuf,
    /// The interface of its file, if that is an ONNX file: what is exported has the same, but for the fit of images, which is
    /// the data's.
    pub contract: Option<Contract>,
}

impl Teacher {
    /// The ONNX file, or the architecture and where its weights are.
    pub fn origin(&self) -> String {
        let file = self.file.display();
        if self.contract.is_some() { file.to_string() } else { format!("{} from {file}", self.model) }
    }
}

/// Finds the teacher; `fit` is that of the data, if they have one, and holds for files that do not record theirs.
pub(super) fn teacher(spec: &TeacherSpec, base: &Path, data: &DataInfo, fit: Option<Fit>) -> Result<Teacher> {
    match (&spec.onnx, &spec.model, &spec.weights) {
        (Some(onnx), None, None) => from_onnx(spec, onnx, base, data, fit),
        (None, Some(model), Some(weights)) => trained(spec, model, weights, base, data),
        _ => Err(InputError::new("a teacher is either `onnx`, or `model` and `weights`")
            .hint("write `teacher: {onnx: FILE}` or `teacher: {model: NAME, weights: FILE}`")
            .into()),
    }
}

/// Reads a file and settles how its images are prepared and what its classes are.
fn from_onnx(
    spec: &TeacherSpec,
    onnx: &Path,
    base: &Path,
    data: &DataInfo,
    fit: Option<Fit>,
) -> Result<Teacher> {
    let path = base.join(onnx);
    let Classifier { network, mut contract } = Classifier::open(&path, spec.shape)?;
    let shape = network.shape()?;
    if shape != data.shape {
        let problem =
            format!("{} takes images of {shape:?}, and the data's are {:?}", path.display(), data.shape);
        return Err(InputError::new(problem)
            .hint("give the data that size: `size: [height, width]` and `channels` of a folder source")
            .into());
    }
    let classes = network.classes();
    if !spec.classes.is_empty() {
        contract.classes.clone_from(&spec.classes);
    }
    if !contract.classes.is_empty() && contract.classes.len() != classes {
        let problem =
            format!("{} has {classes} classes and {} names for them", path.display(), contract.classes.len());
        return Err(InputError::new(problem).hint("write one name for each score, in their order").into());
    }
    if let Some(prepare) = &spec.prepare {
        let recorded = contract.preparation.as_ref().map(|preparation| preparation.fit);
        let fit = recorded.or(fit).unwrap_or_default();
        contract.preparation = Some(Preparation { fit, ..preparation(prepare, &contract, shape[0])? });
    }
    let Some(preparation) = &contract.preparation else {
        return Err(InputError::new(format!("{} does not say how its images are prepared", path.display()))
            .hint("write `prepare: {mean: [...], std: [...]}` under `teacher`; `cohort compress` tries the usual ones")
            .into());
    };
    let known = network.in_other_order(preparation)?;
    Ok(Teacher { model: onnx.display().to_string(), known, file: path, contract: Some(contract) })
}

/// What a user says of a file's images, as the preparation of a file that takes images of so many channels.
///
/// # Errors
/// [`InputError`] if that does not fit the channels.
pub fn preparation(prepare: &Prepare, contract: &Contract, channels: usize) -> Result<Preparation> {
    let Prepare { mean, std, range, order } = prepare;
    let decoded = ChannelOrder::decoded(channels);
    let order = order.unwrap_or(decoded);
    let fits = (order == ChannelOrder::Gray) == (channels == 1);
    let right = mean.len() == channels
        && std.len() == channels
        && mean.iter().all(|mean| mean.is_finite())
        && std.iter().all(|std| *std > 0.0 && std.is_finite());
    if !right || !fits {
        let problem =
            format!("`prepare` does not fit images of {channels} channels: mean {mean:?}, std {std:?}");
        return Err(InputError::new(problem)
            .hint("write one mean and one std above 0 for each channel")
            .into());
    }
    let normalization = Normalization { mean: mean.clone(), std: std.clone() };
    Ok(Preparation { order, range: *range, ..Preparation::of(&normalization, contract.layout) })
}

/// A model with weights of its own.
fn trained(spec: &TeacherSpec, model: &str, weights: &Path, base: &Path, data: &DataInfo) -> Result<Teacher> {
    let graph = zoo::build(&zoo::find_model(model, base)?, data.shape, data.classes.len())?;
    let path = base.join(weights);
    same_classes(&path, &data.classes)?;
    let (file, network) = match path.is_dir() {
        true => from_run(&path, model, spec.student.as_ref(), &graph)?,
        false => {
            let weights = Weights::load(&path).map_err(|error| {
                InputError::new(error.to_string()).hint("give a safetensors file or a run folder")
            })?;
            let network = Model::new(graph, weights).map_err(|error| {
                InputError::new(format!("{}: {error}", path.display()))
                    .hint(format!("are these weights of '{model}', for {} classes?", data.classes.len()))
            })?;
            (path, network)
        }
    };
    let known = Known::Network(Arc::new(network));
    Ok(Teacher { model: model.to_string(), known, file, contract: None })
}

/// Refuses the weights of a run whose exported files name other classes than the data, or the same in another order.
fn same_classes(weights: &Path, data: &[String]) -> Result<(), InputError> {
    let run = if weights.is_dir() { Some(weights) } else { weights.parent().and_then(Path::parent) };
    let (Some(run), Some(export)) = (run, StageKind::Export.folder()) else { return Ok(()) };
    let file = OnnxFile::load(&run.join(export).join("student.onnx"));
    // Without an exported file, the classes are not known.
    let Some(metadata) = file.ok().and_then(|file| file.metadata) else { return Ok(()) };
    let numbers = |names: &[String]| names.iter().enumerate().all(|(place, name)| *name == place.to_string());
    let unnamed = metadata.classes.len() == data.len() && (numbers(&metadata.classes) || numbers(data));
    if unnamed || metadata.classes == data {
        return Ok(());
    }
    let listed = |names: &[String]| {
        let shown = names.iter().take(NAMED).cloned().collect::<Vec<_>>().join(", ");
        let more = names.len().saturating_sub(NAMED);
        if more > 0 { format!("{shown} and {more} more") } else { shown }
    };
    let problem = format!(
        "the teacher of {} has the {} classes {}; the data have the {} classes {}",
        run.display(),
        metadata.classes.len(),
        listed(&metadata.classes),
        data.len(),
        listed(data)
    );
    Err(InputError::new(problem)
        .hint("a teacher needs the data's classes in their order: train it on the same ones"))
}

fn from_run(
    folder: &Path,
    model: &str,
    student: Option<&String>,
    graph: &Graph,
) -> Result<(PathBuf, Model), InputError> {
    let mut seen = Vec::new();
    let mut fitting = Vec::new();
    for stage in StageKind::TRAINING.into_iter().filter_map(StageKind::folder) {
        for file in weight_files(&folder.join(stage)) {
            let name = file.file_stem().unwrap_or_default().to_string_lossy().into_owned();
            if seen.contains(&name) {
                continue;
            }
            if student.is_none_or(|student| *student == name) {
                let network = Weights::load(&file).and_then(|weights| Model::new(graph.clone(), weights));
                fitting.extend(network.ok().map(|network| (file, network)));
            }
            seen.push(name);
        }
    }
    if fitting.len() == 1 {
        return Ok(fitting.remove(0));
    }
    let folder = folder.display();
    let (problem, remedy) = match (seen.is_empty(), fitting.len(), student) {
        (true, ..) => {
            (format!("{folder} holds no trained students"), "give a run folder or a safetensors file".into())
        }
        (_, 0, Some(student)) if seen.contains(student) => (
            format!("'{student}' of {folder} does not fit the model '{model}'"),
            "give the model it was trained with".into(),
        ),
        (_, 0, _) => (
            format!("no student of {folder} fits the model '{model}'"),
            format!("its students are {}", seen.join(", ")),
        ),
        _ => (
            format!("several students of {folder} fit the model '{model}'"),
            format!("name one with `student`: {}", seen.join(", ")),
        ),
    };
    Err(InputError::new(problem).hint(remedy))
}

/// The safetensors files of a folder, by name.
fn weight_files(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
    files.retain(|file| file.extension().is_some_and(|extension| extension == "safetensors"));
    files.sort();
    files
}
