//! The paths in a run folder, and the lock that reserves it for one process.

use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::error::InputError;
use crate::files::create_folder;
use crate::stage::StageKind;

/// A run folder, with the path of each of its files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunFolder {
    root: PathBuf,
}

/// Held while a process works in a run folder.
#[derive(Debug)]
pub struct Lock {
    _file: File,
}

impl RunFolder {
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Folder of a stage, such as `02-collaborate`; for the report, the run folder itself.
    pub fn stage(&self, stage: StageKind) -> PathBuf {
        stage.folder().map_or_else(|| self.root.clone(), |folder| self.root.join(folder))
    }

    /// The stage that owns a file of this run folder.
    pub fn owner(&self, file: &Path) -> StageKind {
        StageKind::of_file(file.strip_prefix(&self.root).unwrap_or(file))
    }

    /// A student's kept weights after a training stage.
    pub fn weights(&self, stage: StageKind, student: &str) -> PathBuf {
        self.stage(stage).join(format!("{student}.safetensors"))
    }

    /// Epoch and validation score of every student's kept weights.
    pub fn training_result(&self, stage: StageKind) -> PathBuf {
        self.stage(stage).join("result.json")
    }

    /// One line per epoch.
    pub fn metrics(&self, stage: StageKind) -> PathBuf {
        self.stage(stage).join("metrics.jsonl")
    }

    pub fn checkpoint(&self, stage: StageKind) -> PathBuf {
        self.stage(stage).join("checkpoint")
    }

    /// The last training stage that has written its result here, whose weights are used from there on.
    pub fn trained_by(&self) -> Option<StageKind> {
        StageKind::TRAINING.into_iter().find(|stage| self.training_result(*stage).exists())
    }

    /// The frozen teacher's validation score.
    pub fn teacher_score(&self) -> PathBuf {
        self.stage(StageKind::Collaborate).join("teacher.json")
    }

    /// The teacher's validation score, before parts of it are taken.
    pub fn slim_teacher_score(&self) -> PathBuf {
        self.stage(StageKind::Slim).join("teacher.json")
    }

    /// The teacher's file, scored as the students are.
    pub fn original(&self) -> PathBuf {
        self.stage(StageKind::Select).join("original.json")
    }

    /// The cells that were measured for budgets of latency, before the choice.
    pub fn selection_latency(&self) -> PathBuf {
        self.stage(StageKind::Select).join("latency.json")
    }

    /// Which student was chosen, and why.
    pub fn choice(&self) -> PathBuf {
        self.stage(StageKind::Select).join("choice.json")
    }

    /// Every student's score on the test split.
    pub fn test_scores(&self) -> PathBuf {
        self.stage(StageKind::Select).join("test.json")
    }

    /// A student's exported file.
    pub fn onnx(&self, student: &str) -> PathBuf {
        self.stage(StageKind::Export).join(format!("{student}.onnx"))
    }

    /// The chosen student's exported file.
    pub fn chosen_onnx(&self) -> PathBuf {
        self.onnx("student")
    }

    pub fn verify_report(&self) -> PathBuf {
        self.stage(StageKind::Verify).join("report.json")
    }

    /// Normalised images used by the verification, in float32, for other programs.
    pub fn verify_inputs(&self) -> PathBuf {
        self.stage(StageKind::Verify).join("inputs.npy")
    }

    /// True logits of those images, float64.
    pub fn verify_logits(&self) -> PathBuf {
        self.stage(StageKind::Verify).join("logits.npy")
    }

    /// A folder with everything needed to reproduce a failed verification.
    pub fn failing_case(&self) -> PathBuf {
        self.stage(StageKind::Verify).join("case")
    }

    pub fn bench_report(&self) -> PathBuf {
        self.stage(StageKind::Bench).join("bench.json")
    }

    /// One row per cell.
    pub fn bench_table(&self) -> PathBuf {
        self.stage(StageKind::Bench).join("bench.csv")
    }

    /// Plots of latency distributions and batch sweeps.
    pub fn bench_plots(&self) -> PathBuf {
        self.stage(StageKind::Bench).join("bench.svg")
    }

    pub fn resolved_pipeline(&self) -> PathBuf {
        self.root.join("pipeline.resolved.yaml")
    }

    /// An image of the data, where its images are no files.
    pub fn sample(&self) -> PathBuf {
        self.root.join("sample.png")
    }

    pub fn report_json(&self) -> PathBuf {
        self.root.join("report.json")
    }

    pub fn report_markdown(&self) -> PathBuf {
        self.root.join("report.md")
    }

    /// Plot of the original and the students: accuracy and cost.
    pub fn front_plot(&self) -> PathBuf {
        self.root.join("front.svg")
    }

    /// Reserves the folder for this process, creating it first.
    ///
    /// # Errors
    /// [`InputError`] if another process works in it, or it cannot be written.
    pub fn lock(&self) -> Result<Lock> {
        self.try_lock()?.ok_or_else(|| {
            InputError::new(format!("another process works in {}", self.root.display()))
                .hint("wait for it, or choose another folder with --out")
                .into()
        })
    }

    /// Like [`RunFolder::lock`], but `None` if another process works in the folder.
    ///
    /// # Errors
    /// [`InputError`] if the folder cannot be written.
    pub fn try_lock(&self) -> Result<Option<Lock>> {
        create_folder(&self.root)?;
        let path = self.root.join(".lock");
        let file = File::options().create(true).append(true).open(&path);
        let file = file.map_err(|error| {
            InputError::new(format!("cannot write {}: {error}", path.display()))
                .hint("choose a folder you may write with --out")
        })?;
        match file.try_lock() {
            Ok(()) => Ok(Some(Lock { _file: file })),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => {
                Err(error).with_context(|| format!("cannot lock {}", path.display()))
            }
        }
    }

    /// Moves a stage's files to `old/`, so that a changed configuration does not destroy them; returns where they are, if
    /// there were any.
    ///
    /// # Errors
    /// If the folder cannot be moved.
    pub fn retire(&self, stage: StageKind, key: &str) -> Result<Option<PathBuf>> {
        let from = self.stage(stage);
        if from == self.root || !from.exists() {
            return Ok(None);
        }
        let old = self.root.join("old");
        create_folder(&old)?;
        let short = key.get(..8).unwrap_or("unknown");
        let stage = stage.name();
        let mut to = old.join(format!("{stage}-{short}"));
        let mut copy = 2;
        while to.exists() {
            to = old.join(format!("{stage}-{short}-{copy}"));
            copy += 1;
        }
        std::fs::rename(&from, &to)
            .with_context(|| format!("cannot move {} to {}", from.display(), to.display()))?;
        Ok(Some(to))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_process_is_refused() {
        let root = tempfile::tempdir().unwrap();
        let folder = RunFolder::new(root.path().join("run"));
        let held = folder.lock().unwrap();
        let error = folder.lock().unwrap_err();
        assert!(error.to_string().starts_with("another process works in"));
        drop(held);
        folder.lock().unwrap();
    }

    #[test]
    fn retired_stages_do_not_overwrite_each_other() {
        let root = tempfile::tempdir().unwrap();
        let folder = RunFolder::new(root.path());
        for _ in 0..2 {
            create_folder(&folder.stage(StageKind::Export)).unwrap();
            folder.retire(StageKind::Export, "0123456789").unwrap();
        }
        assert!(root.path().join("old/export-01234567").exists());
        assert!(root.path().join("old/export-01234567-2").exists());
    }
}
