//! A study file: one pipeline, run with several settings and seeds.

use std::collections::{BTreeSet, HashSet};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_yaml::{Mapping, Value};

use crate::error::InputError;

use super::parse::parse;
use super::schema::names_a_file;

/// A study file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StudySpec {
    /// Version of this format; 1.
    pub version: u32,
    /// Name of the study's folder: `studies/<name>`.
    pub name: String,
    /// Path of the pipeline, relative to this file.
    pub pipeline: PathBuf,
    /// Seeds; every cell is run once with each.
    pub seeds: Vec<u64>,
    /// The cell that the others are compared with, seed by seed, unless a cell names its own.
    pub baseline: String,
    /// Keys set for all cells, written as for `--set`.
    #[serde(default)]
    pub set: Mapping,
    pub cells: Vec<CellSpec>,
}

/// One row of a study.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CellSpec {
    pub name: String,
    /// Keys set for this cell; a stage set to `null` is left out.
    #[serde(default)]
    pub set: Mapping,
    /// Seeds of this cell, instead of the study's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seeds: Option<Vec<u64>>,
    /// The cell that this one is compared with, instead of the study's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub baseline: Option<String>,
}

/// A study file with its pipeline's path resolved.
#[derive(Debug, Clone, PartialEq)]
pub struct LoadedStudy {
    pub spec: StudySpec,
    /// The pipeline's path, relative to the working directory or absolute.
    pub pipeline: PathBuf,
}

/// Reads a study file.
///
/// # Errors
/// [`InputError`] if it is missing or not a valid study.
pub fn load_study(path: &Path) -> Result<LoadedStudy, InputError> {
    let file = path.display().to_string();
    let text = std::fs::read_to_string(path).map_err(|error| {
        InputError::new(format!("cannot read the study file {file}: {error}"))
            .hint("give the path of a YAML file")
    })?;
    let spec: StudySpec = parse(&text, &file)?;
    check(&spec).map_err(|(problem, hint)| InputError::new(format!("{file}: {problem}")).hint(hint))?;
    let base = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    Ok(LoadedStudy { pipeline: base.join(&spec.pipeline), spec })
}

fn check(spec: &StudySpec) -> Result<(), (String, String)> {
    if spec.version != 1 {
        return Err((format!("version: found {}", spec.version), "write `version: 1`".into()));
    }
    let mut names = BTreeSet::new();
    for name in spec.cells.iter().map(|cell| cell.name.as_str()).chain([spec.name.as_str()]) {
        if !names_a_file(name) {
            let hint = "use letters, digits, '-', '_' and '.', no '.' at the start";
            return Err((format!("'{name}' cannot name a folder"), hint.into()));
        }
    }
    for cell in &spec.cells {
        if !names.insert(cell.name.as_str()) {
            return Err((format!("the cell '{}' appears twice", cell.name), "choose another name".into()));
        }
        let seeds = cell.seeds.as_ref().unwrap_or(&spec.seeds);
        if seeds.is_empty() || seeds.iter().collect::<HashSet<_>>().len() < seeds.len() {
            let problem = format!("the seeds of '{}' are {seeds:?}", cell.name);
            return Err((problem, "give at least one, each once".into()));
        }
    }
    let own = spec.cells.iter().filter_map(|cell| cell.baseline.as_deref());
    for baseline in own.chain([spec.baseline.as_str()]) {
        if !names.contains(baseline) {
            let all: Vec<&str> = names.into_iter().collect();
            return Err((
                format!("baseline: there is no cell '{baseline}'"),
                format!("the cells are {}", all.join(", ")),
            ));
        }
    }
    Ok(())
}

impl StudySpec {
    /// The cell that a cell is compared with: its own baseline, or the study's; none for a cell that others are compared
    /// with.
    pub fn baseline_of<'a>(&'a self, cell: &'a CellSpec) -> Option<&'a str> {
        let is_one = self.cells.iter().any(|other| other.baseline.as_deref() == Some(cell.name.as_str()));
        match &cell.baseline {
            Some(own) => (*own != cell.name).then_some(own),
            None => (!is_one && self.baseline != cell.name).then_some(&self.baseline),
        }
    }

    /// The seeds a cell is run with.
    pub fn seeds_of<'a>(&'a self, cell: &'a CellSpec) -> &'a [u64] {
        cell.seeds.as_ref().unwrap_or(&self.seeds)
    }

    /// The overrides for a cell and seed, written as for `--set`: the keys set for all cells, then `more`,
    /// then the keys set by the cell.
    ///
    /// # Errors
    /// [`InputError`] if a key is not a string.
    pub fn overrides(&self, cell: &CellSpec, seed: u64, more: &[String]) -> Result<Vec<String>, InputError> {
        let mut overrides = vec![format!("seed={seed}")];
        overrides.extend(as_overrides(&self.set, cell)?);
        overrides.extend_from_slice(more);
        overrides.extend(as_overrides(&cell.set, cell)?);
        Ok(overrides)
    }
}

fn as_overrides(set: &Mapping, cell: &CellSpec) -> Result<Vec<String>, InputError> {
    let entry = |(key, value): (&Value, &Value)| {
        let Value::String(key) = key else {
            return Err(InputError::new(format!("cell '{}': {key:?} is not a key", cell.name))
                .hint("write keys as --set takes them, such as stages.collaborate.epochs"));
        };
        let value = serde_json::to_string(value)
            .map_err(|error| InputError::new(format!("cell '{}': {key}: {error}", cell.name)))?;
        Ok(format!("{key}={value}"))
    };
    set.iter().map(entry).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const STUDY: &str = "
version: 1
name: small
pipeline: p.yaml
seeds: [1, 2]
baseline: alone
set: {stages.collaborate.batch: 16}
cells:
- {name: alone, set: {stages.pretrain: null, stages.collaborate.method: plain}}
- {name: both, seeds: [3], set: {stages.collaborate.loss: {gamma: 0.5}}}
";

    #[test]
    fn cells_become_overrides() {
        let spec: StudySpec = parse(STUDY, "s.yaml").unwrap();
        check(&spec).unwrap();
        assert_eq!(
            spec.overrides(&spec.cells[0], 2, &["device=cpu".to_string()]).unwrap(),
            [
                "seed=2",
                "stages.collaborate.batch=16",
                "device=cpu",
                "stages.pretrain=null",
                "stages.collaborate.method=\"plain\""
            ]
        );
        assert_eq!(
            spec.overrides(&spec.cells[1], 3, &[]).unwrap()[2],
            "stages.collaborate.loss={\"gamma\":0.5}"
        );
        assert_eq!(spec.seeds_of(&spec.cells[1]), [3]);
    }

    #[test]
    fn what_cannot_be_is_named() {
        for (from, to, problem) in [
            ("baseline: alone", "baseline: solo", "there is no cell 'solo'"),
            ("seeds: [3]", "baseline: solo", "there is no cell 'solo'"),
            ("name: both", "name: alone", "the cell 'alone' appears twice"),
            ("seeds: [3]", "seeds: [3, 3]", "the seeds of 'both' are [3, 3]"),
            ("name: both", "name: a/b", "'a/b' cannot name a folder"),
            ("version: 1", "version: 2", "version: found 2"),
        ] {
            let spec: StudySpec = parse(&STUDY.replace(from, to), "s.yaml").unwrap();
            let (found, _) = check(&spec).unwrap_err();
            assert!(found.contains(problem), "{found}");
        }
    }
}
