//! Whole pipelines through the real binary: start to report, reuse, resume, tampering.
#![cfg(feature = "train")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

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
  - collaborate: {epochs: $EPOCHS, batch: 32}
  - select: {budgets: {max_params: 60%}}
  - export: {}
  - verify: {images: 32}
  - bench: {engines: [ort-cpu, tract], batch: [1], min_samples: 60, min_seconds: 0.05, max_seconds: 2}
  - report: {}
";

/// Held by each test: two processes that train at once would wait for each other's threads.
static ALONE: Mutex<()> = Mutex::new(());

struct Workspace {
    folder: TempDir,
    _alone: MutexGuard<'static, ()>,
}

impl Workspace {
    fn new(epochs: usize) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
        let workspace = Self { folder, _alone: alone };
        workspace.write("p.yaml", &PIPELINE.replace("$EPOCHS", &epochs.to_string()));
        workspace.write("wide.yaml", "family: resnet_cifar\ndepth: 8\nwidth: 8\n");
        workspace.write("slim.yaml", "family: resnet_cifar\ndepth: 8\nwidth: 4\n");
        workspace
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).unwrap();
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn command(&self, out: &str, more: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_cohort"));
        command.current_dir(self.folder.path()).args(["run", "p.yaml", "--json", "--out", out]).args(more);
        command
    }

    fn run(&self, out: &str, more: &[&str]) -> Output {
        self.command(out, more).output().unwrap()
    }

    fn spawn(&self, out: &str) -> Child {
        self.command(out, &[]).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap()
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[track_caller]
fn succeeded(output: &Output) -> Value {
    assert!(output.status.success(), "{}\n{}", text(&output.stdout), text(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("one JSON document on stdout")
}

/// What both training stages leave, in the order it was made.
const RESULTS: [&str; 5] = [
    "01-pretrain/metrics.jsonl",
    "01-pretrain/wide.safetensors",
    "02-collaborate/metrics.jsonl",
    "02-collaborate/wide.safetensors",
    "02-collaborate/slim.safetensors",
];

fn results(run: &Path) -> Vec<Vec<u8>> {
    let read = |file: &&str| fs::read(run.join(file)).unwrap_or_else(|error| panic!("{file}: {error}"));
    RESULTS.iter().map(read).collect()
}

/// The first line in which two files differ.
fn first_difference(a: &[u8], b: &[u8]) -> String {
    let (a, b) = (text(a), text(b));
    let lines = a.lines().zip(b.lines()).find(|(a, b)| a != b);
    lines.map_or("their lengths differ".into(), |(a, b)| format!("{}\n{}", start(a), start(b)))
}

fn start(line: &str) -> String {
    line.chars().take(2_000).collect()
}

#[test]
fn start_to_report_then_reuse_then_tampering() {
    let workspace = Workspace::new(2);
    let report = succeeded(&workspace.run("out", &[]));
    for pointer in [
        "/run_dir",
        "/onnx",
        "/student",
        "/accuracy/validation",
        "/accuracy/test",
        "/params",
        "/macs",
        "/onnx_bytes",
        "/verify/passed",
        "/bench/0/engine",
        "/bench/0/batch",
        "/bench/0/threads",
        "/bench/0/p50_ms",
    ] {
        assert!(report.pointer(pointer).is_some_and(|value| !value.is_null()), "{pointer} in {report:#}");
    }
    assert_eq!(report["student"], "slim");
    assert_eq!(report["verify"]["passed"], true);
    let accuracy = report["accuracy"]["test"].as_f64().unwrap();
    assert!((0.3..=1.0).contains(&accuracy), "accuracy {accuracy}");
    for file in [
        "manifest.json",
        "pipeline.resolved.yaml",
        "report.md",
        "report.json",
        "04-export/student.onnx",
        "04-export/wide.onnx",
    ] {
        assert!(workspace.path("out").join(file).exists(), "{file}");
    }
    assert!(!workspace.path("out/02-collaborate/checkpoint").exists());

    let before = results(&workspace.path("out"));
    let again = workspace.run("out", &[]);
    succeeded(&again);
    for stage in ["pretrain", "collaborate", "select", "export", "verify", "bench", "report"] {
        assert!(
            text(&again.stderr).contains(&format!("{stage}: done before, reused")),
            "{}",
            text(&again.stderr)
        );
    }
    assert_eq!(results(&workspace.path("out")), before);

    let changed = workspace.run("out", &["--set", "stages.select.budgets.max_params=100%"]);
    succeeded(&changed);
    assert!(text(&changed.stderr).contains("collaborate: done before, reused"));
    assert!(fs::read_dir(workspace.path("out/old")).unwrap().count() >= 1);

    let weights = workspace.path("out/02-collaborate/slim.safetensors");
    let mut bytes = fs::read(&weights).unwrap();
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    fs::write(&weights, bytes).unwrap();
    let refused = workspace.run("out", &[]);
    assert_eq!(refused.status.code(), Some(2), "{}", text(&refused.stderr));
    assert!(
        text(&refused.stderr).contains("is not what stage 'collaborate' wrote"),
        "{}",
        text(&refused.stderr)
    );
}

#[test]
fn killed_runs_end_with_the_same_weights() {
    let workspace = Workspace::new(4);
    let started = Instant::now();
    succeeded(&workspace.run("calm", &[]));
    let whole = started.elapsed();

    let mut kills = 0;
    for attempt in 0..6u32 {
        let mut child = workspace.spawn("killed");
        std::thread::sleep(whole.mul_f64(0.12 + 0.09 * f64::from(attempt)));
        if child.try_wait().unwrap().is_none() {
            kills += 1;
        }
        child.kill().unwrap();
        child.wait().unwrap();
    }
    assert!(kills >= 2, "only {kills} runs were killed before their end");
    succeeded(&workspace.run("killed", &[]));
    let (killed, calm) = (results(&workspace.path("killed")), results(&workspace.path("calm")));
    for ((file, killed), calm) in RESULTS.iter().zip(&killed).zip(&calm) {
        assert!(killed == calm, "{file} differs:\n{}", first_difference(killed, calm));
    }
}

#[test]
fn an_interrupt_writes_a_checkpoint_and_says_how_to_go_on() {
    let workspace = Workspace::new(40);
    let mut child = workspace.spawn("out");
    let checkpoint = workspace.path("out/02-collaborate/checkpoint/state.safetensors");
    let started = Instant::now();
    while !checkpoint.exists() {
        assert!(started.elapsed() < Duration::from_secs(120), "no checkpoint after two minutes");
        assert!(child.try_wait().unwrap().is_none(), "ended before a checkpoint was seen");
        std::thread::sleep(Duration::from_millis(20));
    }
    let second = workspace.run("out", &[]);
    assert_eq!(second.status.code(), Some(2));
    assert!(text(&second.stderr).contains("another process works in"), "{}", text(&second.stderr));

    let interrupt = Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    assert!(interrupt.success());
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(130), "{}", text(&output.stderr));
    assert!(text(&output.stderr).contains("go on with:"), "{}", text(&output.stderr));
    let resumed = workspace.run("out", &["--set", "stages.bench.max_seconds=1"]);
    succeeded(&resumed);
    assert!(text(&resumed.stderr).contains("collaborate: going on at epoch"), "{}", text(&resumed.stderr));
}
