//! The whole state of a training stage in one file, and the previous file.

use std::collections::HashMap;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use ndarray::ArrayD;
use safetensors::SafeTensors;
use serde::{Deserialize, Serialize};

use crate::epoch::EpochRecord;
use crate::files::write_atomic;
use crate::graph::Weights;
use crate::task::Score;

use super::metrics::COLUMNS;

/// Key of the JSON document in the file's safetensors metadata.
const STATE: &str = "cohort";

/// The progress of a training stage, without its tensors.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Progress {
    /// The stage's key; a checkpoint of another configuration is ignored.
    pub key: String,
    /// Epoch with which to continue, from 0.
    pub epoch: usize,
    /// Number of finished batches of that epoch.
    pub batch: usize,
    /// Sums over those batches.
    pub sums: Vec<[f64; COLUMNS]>,
    pub history: Vec<EpochRecord>,
    /// Epoch (from 1) and validation score of each student's kept weights.
    pub kept: Vec<Option<(usize, Score)>>,
}

/// One student's tensors.
#[derive(Debug, Clone, PartialEq)]
pub struct StudentState {
    pub weights: Weights,
    /// The optimiser's averages, by name.
    pub optimizer: Vec<(String, ArrayD<f32>)>,
    pub kept: Option<Weights>,
}

/// Why a checkpoint cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("checkpoint {path}: {problem}")]
pub struct CheckpointError {
    pub path: String,
    pub problem: String,
}

fn current(folder: &Path) -> PathBuf {
    folder.join("state.safetensors")
}

fn previous(folder: &Path) -> PathBuf {
    folder.join("previous.safetensors")
}

/// Writes a checkpoint; the previous one stays beside it until the next.
///
/// # Errors
/// If the disk is full or the folder cannot be written; the old checkpoint is kept.
pub fn save(folder: &Path, progress: &Progress, students: &[StudentState]) -> Result<()> {
    let mut all = Weights::new();
    for (index, student) in students.iter().enumerate() {
        for (name, array) in student.weights.iter() {
            all.insert(format!("{index}/now/{name}"), array.clone());
        }
        for (name, array) in student.kept.iter().flat_map(Weights::iter) {
            all.insert(format!("{index}/kept/{name}"), array.clone());
        }
        for (name, array) in &student.optimizer {
            all.insert(format!("{index}/optimizer/{name}"), array.clone());
        }
    }
    let metadata = HashMap::from([(STATE.to_string(), serde_json::to_string(progress)?)]);
    let bytes = all.to_safetensors(Some(metadata));
    if current(folder).exists() {
        keep(folder).context("cannot keep the previous checkpoint")?;
    }
    write_atomic(&current(folder), &bytes)
}

/// Gives the current checkpoint its second name in one atomic step.
fn keep(folder: &Path) -> std::io::Result<()> {
    let second = folder.join("kept.safetensors");
    match std::fs::remove_file(&second) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    // Some file systems have no hard links.
    std::fs::hard_link(current(folder), &second)
        .or_else(|_| std::fs::copy(current(folder), &second).map(|_| ()))?;
    std::fs::rename(&second, previous(folder))
}

/// Reads the newest usable checkpoint of `key`: the current file, or the previous one if the current one is
/// damaged. `None` if there is none, or only of another configuration.
///
/// # Errors
/// If there are files and none can be read.
pub fn load(folder: &Path, key: &str, students: usize) -> Result<Option<(Progress, Vec<StudentState>)>> {
    let mut damage = None;
    for path in [current(folder), previous(folder)] {
        if !path.exists() {
            continue;
        }
        match read(&path, students) {
            Ok((progress, _)) if progress.key != key => continue,
            Ok(found) => return Ok(Some(found)),
            Err(problem) => {
                damage = damage.or(Some(CheckpointError { path: path.display().to_string(), problem }))
            }
        }
    }
    match damage {
        Some(error) => Err(crate::error::InputError::new(error.to_string())
            .hint("delete the checkpoint folder to start this stage again")
            .into()),
        None => Ok(None),
    }
}

fn read(path: &Path, students: usize) -> Result<(Progress, Vec<StudentState>), String> {
    let bytes = std::fs::read(path).map_err(|error| error.to_string())?;
    let (_, header) = SafeTensors::read_metadata(&bytes).map_err(|error| error.to_string())?;
    let state = header.metadata().as_ref().and_then(|metadata| metadata.get(STATE));
    let state = state.ok_or("it holds no training state")?;
    let progress: Progress = serde_json::from_str(state).map_err(|error| error.to_string())?;
    let mut now = vec![Weights::new(); students];
    let mut kept = vec![Weights::new(); students];
    let mut optimizer = vec![Vec::new(); students];
    for (name, array) in Weights::from_safetensors(&bytes)?.iter() {
        let unknown = || format!("'{name}' does not belong in a checkpoint of {students} students");
        let (index, rest) = name.split_once('/').ok_or_else(unknown)?;
        let index = index.parse::<usize>().ok().filter(|&index| index < students).ok_or_else(unknown)?;
        match rest.split_once('/') {
            Some(("now", param)) => now[index].insert(param, array.clone()),
            Some(("kept", param)) => kept[index].insert(param, array.clone()),
            Some(("optimizer", average)) => optimizer[index].push((average.to_string(), array.clone())),
            Some(_) | None => return Err(unknown()),
        }
    }
    let mut states = Vec::with_capacity(students);
    for ((weights, kept), optimizer) in now.into_iter().zip(kept).zip(optimizer) {
        let kept = Some(kept).filter(|weights| weights.iter().next().is_some());
        states.push(StudentState { weights, optimizer, kept });
    }
    Ok((progress, states))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state() -> (Progress, Vec<StudentState>) {
        let mut weights = Weights::new();
        weights.insert("fc.weight", ArrayD::from_elem(vec![2, 2], 0.25));
        let optimizer = vec![("velocity".to_string(), ArrayD::from_elem(vec![16], 1.5))];
        let student = StudentState { weights: weights.clone(), optimizer, kept: Some(weights) };
        let progress = Progress {
            key: "abc".into(),
            epoch: 3,
            batch: 5,
            sums: vec![[0.1; COLUMNS]],
            history: Vec::new(),
            kept: vec![Some((2, Score::new(5.0, 1.0, 10)))],
        };
        (progress, vec![student])
    }

    #[test]
    fn a_damaged_checkpoint_gives_way_to_the_one_before() {
        let folder = tempfile::tempdir().unwrap();
        let (mut progress, students) = state();
        save(folder.path(), &progress, &students).unwrap();
        progress.epoch = 4;
        save(folder.path(), &progress, &students).unwrap();
        assert_eq!(load(folder.path(), "abc", 1).unwrap(), Some((progress.clone(), students.clone())));
        assert_eq!(load(folder.path(), "other", 1).unwrap(), None);

        let whole = std::fs::read(current(folder.path())).unwrap();
        for cut in [0, 7, 100, whole.len() - 3] {
            std::fs::write(current(folder.path()), &whole[..cut]).unwrap();
            let (before, _) = load(folder.path(), "abc", 1).unwrap().unwrap();
            assert_eq!(before.epoch, 3, "cut at {cut}");
        }
        std::fs::remove_file(previous(folder.path())).unwrap();
        assert!(load(folder.path(), "abc", 1).is_err());
    }
}
