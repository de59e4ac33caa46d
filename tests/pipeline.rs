//! Whole pipelines through the real binary: start to report, reuse, interruption, tampering.
#![cfg(feature = "train")]

mod support;

use std::fs;
use std::process::Command;
use std::time::{Duration, Instant};

use support::{Workspace, results, succeeded, text};

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
