//! `manifest.json`: which stages of a run are done, their inputs and their outputs.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use crate::error::InputError;
use crate::files::write_atomic;

/// Version of the run folder's layout, which is part of every stage's key.
pub const SCHEMA: u32 = 2;

/// The file's name in a run folder.
pub const FILE: &str = "manifest.json";

/// Record of a run: its environment, data and stages.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    pub schema: u32,
    pub name: String,
    pub seed: u64,
    /// Device libtorch trained on, as resolved.
    pub device: String,
    /// Intra-op threads of libtorch.
    pub threads: usize,
    /// Instruction sets of the processor on which the order of floating-point sums depends.
    pub cpu_features: Vec<String>,
    /// Version of every library involved, by name.
    pub versions: BTreeMap<String, String>,
    /// BLAKE3 hash of the images and labels, in hex.
    pub data: String,
    /// An image of the data that the exported file can be tried on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sample: Option<PathBuf>,
    /// What a user should know of the data, in sentences.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
    pub stages: Vec<StageEntry>,
}

/// One stage.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StageEntry {
    /// `pretrain`, `collaborate`, …
    pub name: String,
    /// Hash of configuration, inputs and versions; equal keys mean equal results.
    pub key: String,
    pub status: Status,
    /// Wall-clock seconds of the run that finished it.
    pub seconds: f64,
    /// What it warned of.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
    /// BLAKE3 hash of every file written, in hex, by path relative to the run folder.
    pub outputs: BTreeMap<String, String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Status {
    Running,
    Done,
    /// All files are written, but a gate did not hold.
    GateFailed,
}

/// The state of a stage's files on disk compared with its manifest entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Artifacts {
    Intact,
    /// This file does not exist.
    Missing(String),
    /// This file differs from what was written.
    Changed(String),
}

impl Manifest {
    /// Reads a run folder's manifest; `None` if there is none.
    ///
    /// # Errors
    /// [`InputError`] if it is damaged or has another version.
    pub fn load(folder: &Path) -> Result<Option<Self>> {
        let path = folder.join(FILE);
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error).with_context(|| format!("cannot read {}", path.display())),
        };
        let damaged = |problem: String| {
            InputError::new(format!("{}: {problem}", path.display()))
                .hint("move the run folder away or choose another with --out")
        };
        let manifest: Self = serde_json::from_str(&text).map_err(|error| damaged(error.to_string()))?;
        if manifest.schema != SCHEMA {
            return Err(damaged(format!("run folder version {}, expected {SCHEMA}", manifest.schema)).into());
        }
        Ok(Some(manifest))
    }

    /// Writes the manifest.
    ///
    /// # Errors
    /// If the folder cannot be written.
    pub fn save(&self, folder: &Path) -> Result<()> {
        write_atomic(&folder.join(FILE), serde_json::to_string_pretty(self)?.as_bytes())
    }

    /// The entry of a stage.
    pub fn stage(&self, name: &str) -> Option<&StageEntry> {
        self.stages.iter().find(|entry| entry.name == name)
    }

    /// Removes the entry of a stage.
    pub fn take(&mut self, name: &str) -> Option<StageEntry> {
        let place = self.stages.iter().position(|entry| entry.name == name)?;
        Some(self.stages.remove(place))
    }

    /// Adds an entry, replacing an older one of the same stage.
    pub fn put(&mut self, entry: StageEntry) {
        match self.stages.iter_mut().find(|old| old.name == entry.name) {
            Some(old) => *old = entry,
            None => self.stages.push(entry),
        }
    }
}

impl StageEntry {
    /// Compares the files on disk with the hashes.
    ///
    /// # Errors
    /// If a file exists but cannot be read.
    pub fn artifacts(&self, folder: &Path) -> Result<Artifacts> {
        for (path, hash) in &self.outputs {
            let file = folder.join(path);
            if !file.exists() {
                return Ok(Artifacts::Missing(path.clone()));
            }
            if hash_file(&file)? != *hash {
                return Ok(Artifacts::Changed(path.clone()));
            }
        }
        Ok(Artifacts::Intact)
    }
}

/// BLAKE3 hash of a file's content, in hex.
///
/// # Errors
/// If it cannot be read.
pub fn hash_file(path: &Path) -> Result<String> {
    let mut hasher = blake3::Hasher::new();
    let file = std::fs::File::open(path).with_context(|| format!("cannot read {}", path.display()))?;
    hasher.update_reader(file).with_context(|| format!("cannot read {}", path.display()))?;
    Ok(hasher.finalize().to_hex().to_string())
}

/// Hashes files of a run folder, by path relative to it.
///
/// # Errors
/// If one cannot be read.
pub fn hash_outputs(folder: &Path, files: &[PathBuf]) -> Result<BTreeMap<String, String>> {
    let mut hashes = BTreeMap::new();
    for file in files {
        let relative = file.strip_prefix(folder).unwrap_or(file);
        hashes.insert(relative.display().to_string(), hash_file(file)?);
    }
    Ok(hashes)
}
