//! Whole pipelines through the real binary: from start to report, reuse, interruption, tampering.
#![cfg(feature = "train")]

mod support;

use std::fs;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use cohort::graph::Weights;

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

    let verified = verify(&workspace, "out/04-export/student.onnx", &[]);
    let verified: serde_json::Value = serde_json::from_slice(&verified.stdout).unwrap();
    assert_eq!(verified["truth"], "checkpoint, unfolded, libtorch float64");
    assert_eq!(verified["engines"][1]["sets"][0]["set"], "images", "the run's own, without being asked for");
    assert_eq!(verified["engines"][1]["accuracy"]["reference"], report["accuracy"]["test"]);
    assert_eq!(verified["engines"][1]["accuracy"]["accuracy"], report["accuracy"]["test"]);
    assert_eq!(verified["preprocessing"]["differences"], serde_json::json!([]));
    for key in ["mean", "std"] {
        let mut bytes = fs::read(workspace.path("out/04-export/student.onnx")).unwrap();
        let word = format!("\"{key}\":[0.");
        let place = bytes.windows(word.len()).position(|window| window == word.as_bytes()).unwrap();
        bytes[place + word.len() - 2] = b'9';
        fs::write(workspace.path("out/04-export/spoilt.onnx"), bytes).unwrap();
        let refused = verify(&workspace, "out/04-export/spoilt.onnx", &[]);
        let said = text(&refused.stderr);
        assert_eq!(refused.status.code(), Some(1), "{said}");
        assert!(said.contains(&format!("the file's preprocessing is at fault: {key} [9.")), "{said}");
    }
    fs::remove_file(workspace.path("out/04-export/spoilt.onnx")).unwrap();
    let written = fs::metadata(workspace.path("out/04-export/student.onnx")).unwrap().len();
    assert_eq!(report["onnx_bytes"], written);

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

    for file in ["bench.json", "bench.csv", "bench.svg"] {
        assert!(workspace.path("out/06-bench").join(file).exists(), "{file}");
    }
    let budget = "stages.bench.budgets=['tract:p50<1us@1']";
    let gated = workspace.run("out", &["--set", "stages.select.budgets.max_params=100%", "--set", budget]);
    assert_eq!(gated.status.code(), Some(1), "{}", text(&gated.stderr));
    let shown: serde_json::Value = serde_json::from_slice(&gated.stdout).unwrap();
    assert!(shown["student"].is_string(), "the report is shown before the error: {shown}");
    assert!(text(&gated.stderr).contains("budget tract:p50<0.001ms@1 is"), "{}", text(&gated.stderr));
    let told = fs::read_to_string(workspace.path("out/report.md")).unwrap();
    assert!(told.contains("- budget `tract:p50<0.001ms@1`"), "the report is made after a gate, too: {told}");

    // Before the choice, files are measured if there are budgets of latency.
    let budgets = |list: &str| format!("stages.select.budgets={{max_params: 100%, latency: [{list}]}}");
    let slow = workspace.run("out", &["--set", &budgets("'tract:p50<1us'")]);
    assert_eq!(slow.status.code(), Some(1), "{}", text(&slow.stderr));
    assert!(text(&slow.stderr).contains("ms in tract, allowed 0.001"), "{}", text(&slow.stderr));
    let fast =
        ["--set", &budgets("'tract:p50<1s@1', 'tract:p50<100x@1'"), "--set", "stages.bench.budgets=[]"];
    succeeded(&workspace.run("out", &fast));
    let cells = fs::read_to_string(workspace.path("out/03-select/latency.json")).unwrap();
    assert!(cells.contains("\"wide\"") && cells.contains("\"slim\""), "{cells}");

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

/// Files that normalise by themselves and files in half precision pass, and classify as the plain one does.
#[test]
fn files_that_normalise_and_files_in_half_precision() {
    let workspace = Workspace::new(4);
    // Verification looks for the decisions with the smallest margins, and in half precision one may change, which
    // fails; with this seed none does.
    let seed = ["--set", "seed=4", "--set", "stages.bench=null"];
    let pixels = |x: u32, y: u32| image::Luma([(x * 31 + y * 17) as u8]);
    image::GrayImage::from_fn(8, 8, pixels).save(workspace.path("a.png")).unwrap();
    let predicted = || {
        let mut command = Command::new(env!("CARGO_BIN_EXE_cohort"));
        command.current_dir(workspace.path(".")).args([
            "predict",
            "out/04-export/student.onnx",
            "a.png",
            "--json",
        ]);
        let found = succeeded(&command.output().unwrap());
        let first = &found[0]["classes"][0];
        (first["class"].clone(), first["probability"].as_f64().unwrap())
    };
    let plain = succeeded(&workspace.run("out", &seed));
    let (class, probability) = predicted();
    let normalize = "stages.export.fold_normalization=true";
    // tract also accumulates in float16, which is too coarse for some students.
    let half = ["stages.export.precision=float16", "stages.verify.engines=[torch, ort-cpu]"];
    let both = [normalize, half[0], half[1]];
    for (options, allowed) in [(&[normalize][..], 1e-5), (&half, 5e-3), (&both, 5e-3)] {
        let set: Vec<&str> = options.iter().flat_map(|option| ["--set", option]).collect();
        let report = succeeded(&workspace.run("out", &[&seed[..], &set[..]].concat()));
        assert_eq!(report["verify"]["passed"], true, "{options:?}: {report:#}");
        assert_eq!(report["verify"]["findings"], plain["verify"]["findings"], "{options:?}");
        let (found, near) = predicted();
        assert_eq!(found, class, "{options:?}");
        assert!((near - probability).abs() < allowed, "{options:?}: {near} instead of {probability}");

        let engines = if options.contains(&half[0]) { "torch,ort-cpu" } else { "torch,ort-cpu,tract" };
        let verified = verify(&workspace, "out/04-export/student.onnx", &["--engine", engines]);
        let verified = succeeded(&verified);
        assert_eq!(verified["truth"], "checkpoint, unfolded, libtorch float64", "{options:?}");
        assert_eq!(verified["preprocessing"]["differences"], serde_json::json!([]), "{options:?}");
    }
    let onnx = |name: &str| fs::metadata(workspace.path(name)).unwrap().len();
    assert!(10 * onnx("out/04-export/student.onnx") < 7 * plain["onnx_bytes"].as_u64().unwrap());
}

/// Candidates are weighed by the size of the exported file, so another precision repeats the selection.
#[test]
fn selection_weighs_the_file_that_the_export_writes() {
    let workspace = Workspace::new(1);
    let bytes = |precision: &str| {
        let precision = format!("stages.export.precision={precision}");
        let stages = ["--set", "stages.bench=null", "--set", "stages.verify=null", "--set", &precision];
        succeeded(&workspace.run("out", &stages));
        let choice = fs::read(workspace.path("out/03-select/choice.json")).unwrap();
        let choice: serde_json::Value = serde_json::from_slice(&choice).unwrap();
        let written = fs::metadata(workspace.path("out/04-export/wide.onnx")).unwrap().len();
        (choice["candidates"][0]["onnx_bytes"].as_u64().unwrap(), written)
    };
    for precision in ["float32", "float16", "float32"] {
        let (weighed, written) = bytes(precision);
        // The accuracy in the metadata may have another number of digits.
        assert!(weighed.abs_diff(written) < 16, "{precision}: weighed {weighed}, written {written}");
    }
}

/// The last lines name the report only if this pipeline wrote one.
#[test]
fn the_last_lines_name_what_was_written() {
    let workspace = Workspace::new(1);
    let short = ["--set", "stages.bench=null", "--set", "stages.verify=null"];
    succeeded(&workspace.run("out", &short));
    let last_lines = |more: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_cohort"));
        command.current_dir(workspace.path(".")).args(["run", "p.yaml", "--out", "out"]);
        let output = command.args(short).args(more).output().unwrap();
        assert!(output.status.success(), "{}", text(&output.stderr));
        text(&output.stdout)
    };
    let said = last_lines(&[]);
    assert!(said.contains("\nReport:  out/report.md\n"), "{said}");
    let said = last_lines(&["--set", "stages.report=null"]);
    assert!(said.contains("\nRun:     out\n") && !said.contains("report.md"), "{said}");
}

fn verify(workspace: &Workspace, file: &str, more: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_cohort"));
    command.current_dir(workspace.path(".")).args(["verify", file, "--json"]).args(more).output().unwrap()
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

/// A student learns from a frozen teacher on mixed images with AdamW.
#[test]
fn a_trained_student_can_teach_another_run() {
    let workspace = Workspace::new(2);
    succeeded(&workspace.run("first", &["--set", "stages.bench=null"]));
    workspace.write(
        "taught.yaml",
        "
version: 1
name: taught
device: cpu
data:
  source: {digits: {}}
  validation: 0.2
  augment: [rotate: {degrees: 10}, cutout: {size: 2}, mixup: {alpha: 0.3}, cutmix: {}]
cohort: [{name: slim, model: slim.yaml}]
teacher: {model: wide.yaml, weights: first}
stages:
  - collaborate: {method: kd, epochs: 3, batch: 32, ramp_epochs: 1, optimizer: {adamw: {lr: 0.01, clip: 5, decay_norms: false}}}
  - select: {}
",
    );
    let taught = |more: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_cohort"));
        command.current_dir(workspace.path(".")).args(["run", "taught.yaml", "--json"]).args(more);
        command.output().unwrap()
    };
    let output = taught(&[]);
    let report = succeeded(&output);
    assert!(report["accuracy"]["test"].as_f64().unwrap() > 0.3, "{report:#}");
    assert!(report["onnx"].is_null(), "{report:#}");
    assert!(text(&output.stderr).contains("teacher wide.yaml from"), "{}", text(&output.stderr));
    let metrics = fs::read_to_string(workspace.path("runs/taught/02-collaborate/metrics.jsonl")).unwrap();
    let last: serde_json::Value = serde_json::from_str(metrics.lines().last().unwrap()).unwrap();
    assert!(last["students"][0]["teacher"].as_f64().unwrap() > 0.0, "{last:#}");
    assert!(last["students"][0]["response"].is_null(), "{last:#}");

    // The teacher's last layer in the student, which learns feature maps alone; weight decay and AdamW leave the layer as it is.
    let set = ["--set", "name=reused", "--set", "stages.collaborate.method=simkd"];
    let refused = taught(&set);
    assert_eq!(refused.status.code(), Some(2));
    let said = text(&refused.stderr);
    assert!(
        said.contains("'slim' has no feature maps of") && said.contains("write `head: teacher`"),
        "{said}"
    );
    let cohort = "cohort=[{name: slim, model: slim.yaml, head: teacher}]";
    let report =
        succeeded(&taught(&[&set[..], &["--set", cohort, "--set", "stages.collaborate.epochs=8"]].concat()));
    assert!(report["accuracy"]["test"].as_f64().unwrap() > 0.3, "{report:#}");
    let weights = |run: &str, name: &str| {
        Weights::load(&workspace.path(run).join("02-collaborate").join(name)).unwrap()
    };
    let (teacher, student) =
        (weights("first", "wide.safetensors"), weights("runs/reused", "slim.safetensors"));
    for name in ["classifier.weight", "classifier.bias"] {
        assert_eq!(teacher.get(name).unwrap(), student.get(name).unwrap(), "{name}");
    }
    assert!(student.get("projector.2.conv.weight").is_some());

    let refused = taught(&["--set", "teacher.student=slim"]);
    assert_eq!(refused.status.code(), Some(2));
    let said = text(&refused.stderr);
    assert!(said.contains("teacher: 'slim' of ./first does not fit the model 'wide.yaml'"), "{said}");
}

/// Three cells and three seeds: pre-training runs once per seed, a run that another process works on is left to it,
/// and a second call runs nothing.
#[test]
fn a_study_shares_what_is_the_same_and_goes_on() {
    let workspace = Workspace::new(1);
    workspace.write(
        "study.yaml",
        "
version: 1
name: small
pipeline: p.yaml
seeds: [1, 2, 3]
baseline: alone
set: {stages.export: null, stages.verify: null, stages.bench: null, stages.report: null}
cells:
  - {name: alone, set: {stages.pretrain: null, stages.collaborate: {method: plain, epochs: 2, batch: 32}}}
  - {name: together}
  - {name: without-self, set: {stages.collaborate: {method: ctsl-mkt-paper-no-self, epochs: 1, batch: 32}}, seeds: [1]}
",
    );
    let study = || {
        let mut command = Command::new(env!("CARGO_BIN_EXE_cohort"));
        command.current_dir(workspace.path(".")).args(["study", "study.yaml", "--json"]).output().unwrap()
    };
    let taken = workspace.path("studies/small/alone/seed-1");
    fs::create_dir_all(&taken).unwrap();
    let lock = fs::File::create(taken.join(".lock")).unwrap();
    lock.lock().unwrap();
    let first = study();
    let said = text(&first.stderr);
    assert_eq!(first.status.code(), Some(2), "{said}");
    assert!(said.contains("another process is still working on studies/small/alone/seed-1"), "{said}");
    lock.unlock().unwrap();
    let report = succeeded(&study());
    assert_eq!(said.matches("pretrain 1/1").count(), 3, "{said}");
    assert_eq!(said.matches("pretrain: done by a sibling run, copied").count(), 1, "{said}");
    let student = &report["cells"][1]["students"][0];
    assert_eq!(student["test"].as_array().unwrap().len(), 3, "{report:#}");
    assert_eq!(student["against_baseline"]["pairs"], 3, "{report:#}");
    assert!(student["against_baseline"]["interval"].is_array() && student["against_baseline"]["p"].is_null());
    assert!(report["cells"][2]["students"][0]["against_baseline"]["interval"].is_null());
    assert!(
        fs::read_to_string(workspace.path("studies/small/study.md"))
            .unwrap()
            .contains("| together | wide | 3 |")
    );

    let mut other = Command::new(env!("CARGO_BIN_EXE_cohort"));
    let other =
        other.current_dir(workspace.path(".")).args(["study", "study.yaml", "--set", "device=cuda:9"]);
    let other = other.output().unwrap();
    let said = text(&other.stderr);
    assert_eq!(other.status.code(), Some(2), "{said}");
    assert!(said.contains("cell 'alone', seed 1: device cuda:9 was asked for"), "{said}");

    let again = study();
    assert_eq!(succeeded(&again), report);
    assert!(!text(&again.stderr).contains("images/s"), "{}", text(&again.stderr));
}
