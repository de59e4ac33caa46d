//! A small pipeline in a folder of its own, run through the real binary.
#![allow(dead_code, reason = "each test file uses a part")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde_json::Value;
use tempfile::TempDir;

/// A small cohort on the built-in digits; `$EPOCHS` is replaced.
const PIPELINE: &str = "
version: 1
name: small
seed: 3
device: cpu
data:
  source: {digits: {}}
  validation: 0.2
  augment: [crop: {padding: 1}]
cohort:
  - {name: wide, model: wide.yaml}
  - {name: slim, model: slim.yaml}
stages:
  - pretrain: {epochs: 1, batch: 32}
  - collaborate: {method: ctsl-mkt-paper, epochs: $EPOCHS, batch: 32}
  - select: {budgets: {max_params: 60%}}
  - export: {}
  - verify: {images: 32}
  - bench: {engines: [ort-cpu, tract], batch: [1], min_samples: 60, min_seconds: 0.05, max_seconds: 2}
  - report: {}
";

/// Held by each test: two processes that train at once would wait for each other's threads.
static ALONE: Mutex<()> = Mutex::new(());

pub struct Workspace {
    folder: TempDir,
    _alone: MutexGuard<'static, ()>,
}

impl Workspace {
    pub fn new(epochs: usize) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
        let workspace = Self { folder, _alone: alone };
        workspace.write("p.yaml", &PIPELINE.replace("$EPOCHS", &epochs.to_string()));
        workspace.write("wide.yaml", "family: resnet_cifar\ndepth: 8\nwidth: 8\n");
        workspace.write("slim.yaml", "family: resnet_cifar\ndepth: 8\nwidth: 4\n");
        workspace
    }

    pub fn write(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).unwrap();
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn command(&self, out: &str, more: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_cohort"));
        command.current_dir(self.folder.path()).args(["run", "p.yaml", "--json", "--out", out]).args(more);
        command
    }

    pub fn run(&self, out: &str, more: &[&str]) -> Output {
        self.command(out, more).output().unwrap()
    }

    pub fn spawn(&self, out: &str) -> Child {
        self.command(out, &[]).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap()
    }
}

pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[track_caller]
pub fn succeeded(output: &Output) -> Value {
    assert!(output.status.success(), "{}\n{}", text(&output.stdout), text(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("one JSON document on stdout")
}

/// What both training stages leave, in the order it was made.
/// What two runs are compared by: metrics, weights with BatchNorm's buffers, and (in `result.json`) hashes of the
/// optimisers' states.
pub const RESULTS: [&str; 7] = [
    "01-pretrain/metrics.jsonl",
    "01-pretrain/wide.safetensors",
    "01-pretrain/result.json",
    "02-collaborate/metrics.jsonl",
    "02-collaborate/result.json",
    "02-collaborate/wide.safetensors",
    "02-collaborate/slim.safetensors",
];

pub fn results(run: &Path) -> Vec<Vec<u8>> {
    let read = |file: &&str| fs::read(run.join(file)).unwrap_or_else(|error| panic!("{file}: {error}"));
    RESULTS.iter().map(read).collect()
}

/// The first line in which two files differ.
pub fn first_difference(a: &[u8], b: &[u8]) -> String {
    let (a, b) = (text(a), text(b));
    let lines = a.lines().zip(b.lines()).find(|(a, b)| a != b);
    lines.map_or("their lengths differ".into(), |(a, b)| format!("{}\n{}", start(a), start(b)))
}

fn start(line: &str) -> String {
    line.chars().take(2_000).collect()
}
