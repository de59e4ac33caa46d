//! The frozen teacher: its network and the file with its weights.

use std::path::{Path, PathBuf};

use anyhow::Result;

use crate::config::TeacherSpec;
use crate::data::DataInfo;
use crate::error::InputError;
use crate::graph::{Graph, Model, Weights};
use crate::stage::StageKind;
use crate::zoo;

/// A teacher that was found and whose weights fit its model.
#[derive(Debug, Clone, PartialEq)]
pub struct Teacher {
    /// A ready architecture or a model file, as written.
    pub model: String,
    pub network: Model,
    /// The safetensors file.
    pub file: PathBuf,
}

/// Finds the weights and checks them against the model.
pub(super) fn teacher(spec: &TeacherSpec, base: &Path, data: &DataInfo) -> Result<Teacher> {
    let graph = zoo::build(&zoo::find_model(&spec.model, base)?, data.shape, data.classes.len())?;
    let path = base.join(&spec.weights);
    let (file, network) = match path.is_dir() {
        true => from_run(&path, spec, &graph)?,
        false => {
            let weights = Weights::load(&path).map_err(|error| {
                InputError::new(error.to_string()).hint("give a safetensors file or a run folder")
            })?;
            let network = Model::new(graph, weights).map_err(|error| {
                InputError::new(format!("{}: {error}", path.display())).hint(format!(
                    "are these weights of '{}', for {} classes?",
                    spec.model,
                    data.classes.len()
                ))
            })?;
            (path, network)
        }
    };
    Ok(Teacher { model: spec.model.clone(), network, file })
}

fn from_run(folder: &Path, spec: &TeacherSpec, graph: &Graph) -> Result<(PathBuf, Model), InputError> {
    let mut seen = Vec::new();
    let mut fitting = Vec::new();
    for stage in StageKind::TRAINING.into_iter().filter_map(StageKind::folder) {
        for file in weight_files(&folder.join(stage)) {
            let name = file.file_stem().unwrap_or_default().to_string_lossy().into_owned();
            if seen.contains(&name) {
                continue;
            }
            if spec.student.as_ref().is_none_or(|student| *student == name) {
                let network = Weights::load(&file).and_then(|weights| Model::new(graph.clone(), weights));
                fitting.extend(network.ok().map(|network| (file, network)));
            }
            seen.push(name);
        }
    }
    let model = &spec.model;
    if fitting.len() == 1 {
        return Ok(fitting.remove(0));
    }
    let folder = folder.display();
    let (problem, remedy) = match (seen.is_empty(), fitting.len(), &spec.student) {
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
