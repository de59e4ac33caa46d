//! The small JSON files of a run folder.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::epoch::EpochRecord;
use crate::files::write_atomic;
use crate::task::{Comparison, Score};

/// The kept weights of one student after a training stage.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Kept {
    pub name: String,
    /// Epoch (from 1) after which the weights were kept.
    pub epoch: usize,
    pub epochs: usize,
    pub validation: Score,
    /// BLAKE3 hash of the optimiser's averages after the last epoch; two identical trainings have the same.
    #[serde(default)]
    pub optimizer: String,
}

/// One student as a candidate of the choice.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Candidate {
    pub name: String,
    pub validation: Score,
    pub params: u64,
    pub macs: u64,
    pub onnx_bytes: u64,
    /// Budgets that it exceeds, as sentences; empty if it may be chosen.
    pub exceeds: Vec<String>,
}

/// The teacher's file, with which its parts are compared.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Original {
    pub params: u64,
    /// `null` if the file cannot be imported.
    pub macs: Option<u64>,
    pub onnx_bytes: u64,
    pub validation: Score,
    pub test: Option<Score>,
    /// Whether the labels are its own decisions.
    #[serde(default)]
    pub gives_labels: bool,
    /// Every student compared with it, by name; empty in folders of earlier versions.
    #[serde(default)]
    pub students: BTreeMap<String, AgainstOriginal>,
}

/// What a student decides, compared with the original on the same images.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct AgainstOriginal {
    pub validation: Comparison,
    /// `null` without a test split.
    pub test: Option<Comparison>,
}

impl AgainstOriginal {
    /// The comparison on the split that was opened last.
    pub fn last(&self) -> &Comparison {
        self.test.as_ref().unwrap_or(&self.validation)
    }
}

/// The choice and its reason.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Choice {
    pub student: String,
    /// The peer with the most parameters, with which the student is compared.
    pub largest: String,
    pub reason: String,
    /// Allowed students whose scores do not differ from the chosen one's by more than chance.
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

/// Reads a training stage's `metrics.jsonl`, one epoch per line.
///
/// # Errors
/// If it is missing or a line of it is damaged.
pub fn read_metrics(path: &Path) -> Result<Vec<EpochRecord>> {
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    let lines = text.lines().map(serde_json::from_str).collect::<Result<_, _>>();
    lines.with_context(|| format!("cannot read {}", path.display()))
}

/// Writes a JSON file of the run folder.
///
/// # Errors
/// If the disk is full or the folder cannot be written.
pub fn write_json(path: &Path, document: &impl Serialize) -> Result<()> {
    write_atomic(path, serde_json::to_string_pretty(document)?.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINE: &str = r#"{"epoch":1,"lr":0.05,"students":[{"name":"small","cross_entropy":1.5,"distance":null,"angle":null,"response":0.25,"self_distillation":null,"teacher":null,"teacher_distance":null,"teacher_angle":null,"smooth_teacher":null,"contrast":null,"teacher_target":null,"teacher_others":null,"teacher_classes":null,"teacher_images":null,"teacher_transformed":null,"teacher_features":null,"total":1.75,"train_accuracy":0.5,"validation":null}]}"#;

    #[test]
    fn an_original_without_comparisons_is_read() {
        let score = r#"{"accuracy":0.5,"loss":1.25,"images":8}"#;
        let text = format!(r#"{{"params":1,"macs":2,"onnx_bytes":3,"validation":{score},"test":null}}"#);
        assert!(serde_json::from_str::<Original>(&text).unwrap().students.is_empty());
    }

    #[test]
    fn metrics_are_read_as_they_are_written() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("metrics.jsonl");
        let second = LINE
            .replace(r#""epoch":1"#, r#""epoch":2"#)
            .replace(r#""validation":null"#, r#""validation":{"accuracy":0.5,"loss":1.25,"images":8}"#);
        let text = format!("{LINE}\n{second}\n");
        std::fs::write(&path, &text).unwrap();
        let records = read_metrics(&path).unwrap();
        let scored = |record: &EpochRecord| record.students[0].validation.map(|score| score.images);
        assert_eq!(records.iter().map(scored).collect::<Vec<_>>(), [None, Some(8)]);
        let again: String =
            records.iter().map(|record| serde_json::to_string(record).unwrap() + "\n").collect();
        assert_eq!(again, text);
        std::fs::write(&path, &text[..LINE.len() - 1]).unwrap();
        assert!(read_metrics(&path).is_err());
    }
}
