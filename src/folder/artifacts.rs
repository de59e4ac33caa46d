//! The small JSON files of a run folder.

use std::path::Path;

use anyhow::{Context, Result};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::files::write_atomic;
use crate::score::Score;

/// The kept weights of one student after a training stage.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Kept {
    pub name: String,
    /// Epoch (from 1) of the stage that trained them.
    pub epoch: usize,
    pub epochs: usize,
    pub validation: Score,
    /// Hash of the optimiser's averages after the last epoch: two runs that end alike have the same.
    #[serde(default)]
    pub optimizer: String,
}

/// One student as the choice sees it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Candidate {
    pub name: String,
    pub validation: Score,
    pub params: u64,
    pub macs: u64,
    pub onnx_bytes: u64,
    /// Budgets it exceeds, as sentences; empty if it may be chosen.
    pub exceeds: Vec<String>,
}

/// The choice and its reason.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Choice {
    pub student: String,
    /// The peer with the most parameters, which the student is compared with.
    pub largest: String,
    pub reason: String,
    /// Allowed students that are within the noise of the chosen one.
    pub within_noise: Vec<String>,
    pub candidates: Vec<Candidate>,
}

/// Reads a JSON file of the run folder.
///
/// # Errors
/// If it is missing or damaged, which the manifest's hashes should have shown before.
pub fn read_json<T: DeserializeOwned>(path: &Path) -> Result<T> {
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    serde_json::from_str(&text).with_context(|| format!("cannot read {}", path.display()))
}

/// Writes a JSON file of the run folder.
///
/// # Errors
/// If the disk is full or the folder cannot be written.
pub fn write_json(path: &Path, document: &impl Serialize) -> Result<()> {
    write_atomic(path, serde_json::to_string_pretty(document)?.as_bytes())
}
