//! Each command as a program uses it: one JSON document on stdout, nothing else there.

use std::path::{Path, PathBuf};
use std::process::Command;

use cohort::graph::initial_weights;
use cohort::onnx::{EmitOptions, Metadata, emit};
use cohort::zoo;
use serde_json::Value;

struct Folder(tempfile::TempDir);

impl Folder {
    /// A folder with an exported model of random weights and some images.
    fn new() -> Self {
        let folder = Self(tempfile::tempdir().unwrap());
        let spec = zoo::find_model("resnet8", Path::new(".")).unwrap();
        let graph = zoo::build(&spec, [3, 8, 8], 3).unwrap();
        let metadata = Metadata {
            classes: ["ant", "bee", "wasp"].map(String::from).to_vec(),
            input: [3, 8, 8],
            mean: vec![0.5; 3],
            std: vec![0.25; 3],
            student: "tiny".into(),
            run: "test".into(),
        };
        let bytes = emit(&graph, &initial_weights(&graph, 1), &metadata, &EmitOptions::default()).unwrap();
        std::fs::write(folder.path("m.onnx"), bytes).unwrap();
        std::fs::create_dir(folder.path("images")).unwrap();
        for (name, value) in [("a.png", 10), ("b.JPG", 200)] {
            let image = image::RgbImage::from_pixel(11, 9, image::Rgb([value, 50, 90]));
            image.save(folder.path(&format!("images/{name}"))).unwrap();
        }
        folder
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn json(&self, args: &[&str]) -> Value {
        let output = Command::new(env!("CARGO_BIN_EXE_cohort"))
            .current_dir(self.0.path())
            .args(args)
            .arg("--json")
            .output()
            .unwrap();
        assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&output.stdout)
            .unwrap_or_else(|error| panic!("{args:?}: {error}\n{}", String::from_utf8_lossy(&output.stdout)))
    }
}

#[test]
fn predict_gives_probabilities_by_name_on_every_engine() {
    let folder = Folder::new();
    let ort = folder.json(&["predict", "m.onnx", "images", "--top", "3"]);
    let tract = folder.json(&[
        "predict",
        "m.onnx",
        "images/a.png",
        "images/b.JPG",
        "--top",
        "3",
        "--engine",
        "tract",
    ]);
    for predictions in [&ort, &tract] {
        assert_eq!(predictions.as_array().unwrap().len(), 2);
        for prediction in predictions.as_array().unwrap() {
            let classes = prediction["classes"].as_array().unwrap();
            let total: f64 = classes.iter().map(|class| class["probability"].as_f64().unwrap()).sum();
            assert!((total - 1.0).abs() < 1e-9, "{prediction}");
            assert!(classes[0]["probability"].as_f64() >= classes[1]["probability"].as_f64());
            assert!(classes.iter().any(|class| class["class"] == "wasp"));
        }
    }
    for place in 0..2 {
        assert_eq!(ort[place]["classes"][0]["class"], tract[place]["classes"][0]["class"]);
    }
    assert_eq!(
        folder.json(&["predict", "m.onnx", "images", "--top", "1"])[0]["classes"].as_array().unwrap().len(),
        1
    );
}

#[test]
fn verify_without_a_checkpoint_says_that_engines_agree() {
    let report = Folder::new().json(&["verify", "m.onnx"]);
    assert_eq!(report["verdict"], "engines agree");
    assert_eq!(report["passed"], true);
    assert_eq!(report["engines"].as_array().unwrap().len(), 2);
    assert_eq!(report["engines"][1]["engine"], "tract");
}

#[test]
fn bench_keeps_every_sample() {
    let folder = Folder::new();
    let limits = ["--min-samples", "70", "--min-seconds", "0.01", "--max-seconds", "5"];
    let args = [["bench", "m.onnx", "--batch", "1,3"].as_slice(), &limits, &["--out", "b.json"]].concat();
    let report = folder.json(&args);
    let cells = report["cells"].as_array().unwrap();
    assert_eq!(cells.len(), 4);
    for cell in cells {
        let samples = cell["samples_ns"].as_array().unwrap();
        assert!(samples.len() >= 70 && samples.len() as u64 == cell["samples"].as_u64().unwrap());
        let mut sorted: Vec<u64> = samples.iter().map(|sample| sample.as_u64().unwrap()).collect();
        sorted.sort_unstable();
        let p50 = sorted[(sorted.len() as f64 * 0.5).ceil() as usize - 1] as f64 * 1e-6;
        assert!((cell["p50"]["value"].as_f64().unwrap() - p50).abs() < 1e-9);
        assert!(cell["p99"].is_null() || samples.len() >= 299);
    }
    let written: Value = serde_json::from_slice(&std::fs::read(folder.path("b.json")).unwrap()).unwrap();
    assert_eq!(written, report);
}

#[test]
fn inspect_counts_the_same_in_a_file_and_in_its_model() {
    let folder = Folder::new();
    let file = folder.json(&["inspect", "m.onnx"]);
    let model = folder.json(&["inspect", "resnet8", "--classes", "3", "--input", "3x8x8"]);
    assert_eq!(file["totals"], model["totals"]);
    assert_eq!(file["metadata"]["student"], "tiny");
    assert_eq!(file["file"]["opset"], 17);
    let shapes = |report: &Value, name: &str| {
        let layers = report["layers"].as_array().unwrap().clone();
        layers.into_iter().find(|layer| layer["name"] == name).unwrap()["shape"].clone()
    };
    assert_eq!(shapes(&file, "stage3.0.conv2"), shapes(&model, "stage3.0.conv2"));
}

#[test]
fn check_and_doctor_say_what_there_is() {
    let folder = Folder::new();
    let checked = folder.json(&["check"]);
    assert_eq!(checked["input"], serde_json::json!([1, 8, 8]));
    assert_eq!(checked["pipeline"]["stages"].as_array().unwrap().len(), 7);
    let doctor = folder.json(&["doctor"]);
    let names: Vec<&str> = doctor["libraries"]
        .as_array()
        .unwrap()
        .iter()
        .map(|library| library["name"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["libtorch", "ONNX Runtime", "tract"]);
    for library in doctor["libraries"].as_array().unwrap() {
        assert!(library["version"].is_string(), "{library}");
    }
}

#[test]
fn every_pipeline_of_the_project_is_read() {
    let folder = Folder::new();
    let pipelines = Path::new(env!("CARGO_MANIFEST_DIR")).join("pipelines");
    for entry in std::fs::read_dir(pipelines).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            continue;
        }
        let output = Command::new(env!("CARGO_BIN_EXE_cohort"))
            .current_dir(folder.0.path())
            .args(["check", &path.display().to_string()])
            .env_remove("COHORT_DATA")
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stderr);
        let lines = text.lines().filter(|line| line.contains("error") || line.contains("problem")).count();
        let only_data = lines == 1 && text.contains("the data folder") && text.contains("is not there");
        assert!(output.status.success() || only_data, "{}: {text}", path.display());
    }
}

#[test]
fn every_study_of_the_project_is_read_to_its_last_cell() {
    let study = Path::new(env!("CARGO_MANIFEST_DIR")).join("pipelines/studies/fashion-methods.yaml");
    let study = cohort::config::load_study(&study).unwrap();
    for cell in &study.spec.cells {
        let overrides = study.spec.overrides(cell, 1).unwrap();
        let loaded = cohort::config::load_pipeline(&study.pipeline, &overrides).unwrap();
        assert!(loaded.pipeline.stages.iter().any(|stage| stage.name() == "select"), "{}", cell.name);
    }
}
