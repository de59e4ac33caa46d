//! `cohort compress` through the real binary: a part of a trained file is written with the file's own interface, compared
//! with it, and made only once.
#![cfg(feature = "train")]

mod support;

use std::path::Path;
use std::process::{Command, Output};

use cohort::contract::{Contract, Dim, Element, Layout, Output as Answer, OutputKind, TensorInfo};
use cohort::graph::with_channels_last;
use cohort::onnx::{OnnxFile, emit, import};
use support::{Workspace, succeeded, text};

fn compress(workspace: &Workspace, file: &str, more: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_cohort"));
    let data: &[&str] = if more.contains(&"--data") { &[] } else { &["--data", "p.yaml"] };
    let arguments = ["compress", file, "--engine", "tract", "--epochs", "1", "--batch", "32"];
    command.current_dir(workspace.path(".")).args(arguments).args(data).args(more).output().unwrap()
}

/// A file with probabilities and the channels last that says nothing of its images, and mean and deviation of the original's.
fn foreign(from: &Path, to: &Path) -> [String; 2] {
    let file = OnnxFile::load(from).unwrap();
    let imported = import(&file).unwrap();
    let classes = imported.model.graph().classes();
    let batch = Dim::Symbolic("n".into());
    let contract = Contract {
        input: TensorInfo {
            name: "pictures".into(),
            element: Element::Float32,
            dims: vec![batch.clone(), Dim::Fixed(8), Dim::Fixed(8), Dim::Fixed(1)],
        },
        layout: Layout::ChannelsLast,
        preparation: None,
        outputs: vec![Answer {
            tensor: TensorInfo {
                name: "p".into(),
                element: Element::Float32,
                dims: vec![batch, Dim::Fixed(classes)],
            },
            kind: OutputKind::Probabilities,
        }],
        classes: Vec::new(),
        ..imported.contract
    };
    let model = with_channels_last(&imported.model).unwrap();
    std::fs::write(to, emit(&model, &contract, None).unwrap()).unwrap();
    let metadata = file.metadata.unwrap();
    [metadata.mean, metadata.std].map(|values| values[0].to_string())
}

#[test]
fn a_part_of_a_file_drops_in_for_it() {
    let workspace = Workspace::new(3);
    succeeded(&workspace.run("out", &["--set", "stages.bench.min_samples=5"]));
    let [mean, std] = foreign(&workspace.path("out/04-export/wide.onnx"), &workspace.path("theirs.onnx"));
    let prepared = ["--mean", &mean, "--std", &std];
    let more = [&prepared[..], &["--target", "params<=50%", "--out", "small", "--json"]].concat();
    let report = succeeded(&compress(&workspace, "theirs.onnx", &more));
    let number = |pointer: &str| report.pointer(pointer).and_then(serde_json::Value::as_f64).unwrap();
    assert!(number("/params") <= 0.5 * number("/original/params"), "{report:#}");
    assert!(number("/original/accuracy/test") > 0.2, "{report:#}");
    assert_eq!(report["verify"]["passed"], true);
    assert_eq!(
        report["bench"].as_array().unwrap().iter().filter(|row| row["model"] == "the original").count(),
        1
    );

    let [theirs, ours] = ["theirs.onnx", "small/04-export/student.onnx"]
        .map(|path| OnnxFile::load(&workspace.path(path)).unwrap());
    assert_eq!(ours.contract.input, theirs.contract.input);
    assert_eq!(ours.contract.outputs, theirs.contract.outputs);
    assert_eq!(ours.contract.layout, Layout::ChannelsLast);
    let verified = Command::new(env!("CARGO_BIN_EXE_cohort"))
        .current_dir(workspace.path("."))
        .args(["verify", "small/04-export/student.onnx", "--effort", "quick", "--engine", "tract", "--json"])
        .output()
        .unwrap();
    let verified = succeeded(&verified);
    assert_eq!(verified["truth"], "checkpoint, unfolded, libtorch float64");
    assert_eq!(verified["preprocessing"]["differences"], serde_json::json!([]));

    // The same again does nothing again.
    let again = compress(&workspace, "theirs.onnx", &more);
    assert_eq!(succeeded(&again)["params"], report["params"]);
    let told = text(&again.stderr);
    assert!(
        told.contains("the same was asked for before") && told.contains("collaborate: done before"),
        "{told}"
    );
    // Another target is another run.
    let other = [&prepared[..], &["--target", "macs<=60%", "--out", "small", "--plan", "--json"]].concat();
    let planned = succeeded(&compress(&workspace, "theirs.onnx", &other));
    let original = planned["original"]["macs"].as_f64().unwrap();
    assert!(planned["students"][0]["macs"].as_f64().unwrap() <= 0.6 * original, "{planned:#}");
    assert!(planned["students"][0]["latency_ms"]["tract"][0].as_f64().unwrap() > 0.0);

    // Without a word about preparation, the usual ways are tried, and what was tried is printed.
    let guessed =
        compress(&workspace, "theirs.onnx", &["--target", "params<=50%", "--out", "guessed", "--plan"]);
    let (told, said) = (text(&guessed.stderr), text(&guessed.stdout));
    assert!(guessed.status.success() && said.contains("the usual ways were tried"), "{told}{said}");
    assert!(said.contains("0..255 less") && said.contains("nothing is trained yet"), "{said}");
    assert!(!workspace.path("guessed/02-collaborate").exists());

    for (file, arguments, problem, remedy) in [
        (
            "theirs.onnx",
            vec!["--target", "params<=50%", "--data", "nowhere"],
            "no such folder or file",
            "a folder that has",
        ),
        ("missing.onnx", vec!["--target", "params<=50%"], "cannot read missing.onnx", "ONNX"),
        ("theirs.onnx", vec!["--target", "params<=1000000"], "within the target", "ask for less"),
        (
            "theirs.onnx",
            vec!["--target", "params<=10"],
            "no part of this network meets the target",
            "ask for",
        ),
        (
            "theirs.onnx",
            vec!["--target", "params<=50%", "--mean", "0.1"],
            "--mean and --std belong together",
            "give both",
        ),
        (
            "theirs.onnx",
            vec!["--target", "params<=50%", "--labels", "p.yaml"],
            "names of classes",
            "one name for each score",
        ),
        ("theirs.onnx", vec!["--target", "params<=50%", "--shape", "3x9x9"], "theirs.onnx", ""),
        ("theirs.onnx", vec!["--target", "size<=50%"], "neither params, macs, bytes", "a target looks like"),
    ] {
        let refused = compress(&workspace, file, &[&arguments[..], &["--out", "refused"]].concat());
        let told = text(&refused.stderr);
        assert_eq!(refused.status.code(), Some(2), "{arguments:?}: {told}");
        assert!(told.contains(problem) && told.contains(remedy), "{arguments:?}: {told}");
    }
}
