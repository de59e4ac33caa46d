//! Importing files of other exporters: the graphs compute what onnxruntime recorded, and emission followed by import
//! gives them back unchanged. `scripts/make-onnx-fixtures.py` makes the files.
#![cfg(feature = "train")]
#![expect(clippy::wildcard_enum_match_arm, reason = "tests change one operation and keep all others")]

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use cohort::config::EngineName;
use cohort::contract::{ChannelOrder, Element, Fit, OutputKind, PixelRange, Precision, Resize};
use cohort::engine::torch::Truth;
use cohort::engine::{EngineOptions, open};
use cohort::graph::{Builder, Graph, Model, NodeId, Op, Unary, cost};
use cohort::onnx::{Import, Metadata, OnnxFile, contract_with_embedding, emit, import, plain_contract};
use cohort::zoo;
use ndarray::ArrayD;

fn fixtures() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/onnx");
    let paths = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut paths: Vec<PathBuf> =
        paths.filter(|path| path.extension().is_some_and(|end| end == "onnx")).collect();
    paths.sort();
    assert!(paths.len() >= 14, "{paths:?}");
    paths
}

fn load(path: &Path) -> (OnnxFile, Import) {
    let file = OnnxFile::load(path).unwrap_or_else(|error| panic!("{}: {error:#}", path.display()));
    let imported = import(&file).unwrap_or_else(|error| panic!("{error:#}"));
    (file, imported)
}

fn recorded(path: &Path, part: &str) -> ArrayD<f32> {
    ndarray_npy::read_npy(path.with_extension(format!("{part}.npy"))).unwrap()
}

/// Half precision is modelled for weights only, not for what lies between nodes.
fn tolerance(file: &OnnxFile) -> f64 {
    if file.contract.input.element == Element::Float16 { 2e-3 } else { 1e-5 }
}

/// The tolerance for an optimised engine, which computes quantised layers with integers.
fn engine_tolerance(file: &OnnxFile) -> f64 {
    if file.contract.precision == Precision::Int8 { 2e-2 } else { tolerance(file) }
}

/// The largest difference divided by the largest value.
fn apart(found: &ArrayD<f64>, expected: &ArrayD<f32>) -> f64 {
    assert_eq!(found.shape(), expected.shape());
    let largest = expected.iter().fold(0f64, |largest, &value| largest.max(f64::from(value).abs()));
    let differences = found.iter().zip(expected).map(|(a, &b)| (a - f64::from(b)).abs());
    differences.fold(0.0, f64::max) / largest
}

fn metadata(graph: &Graph) -> Metadata {
    let input: [usize; 3] = graph.input_shape().clone().try_into().unwrap();
    Metadata {
        classes: (0..graph.classes()).map(|class| class.to_string()).collect(),
        input,
        channel_order: ChannelOrder::decoded(input[0]),
        resize: Resize::default(),
        fit: Fit::default(),
        range: PixelRange::default(),
        mean: vec![0.5; input[0]],
        std: vec![0.25; input[0]],
        normalizes: None,
        score: None,
        student: "one".into(),
        run: "test".into(),
    }
}

fn emitted(model: &Model) -> OnnxFile {
    let graph = model.graph();
    let bytes = emit(model, &contract_with_embedding(graph), Some(&metadata(graph))).unwrap();
    OnnxFile::from_bytes(bytes, Path::new("emitted.onnx")).unwrap()
}

#[test]
fn imported_files_compute_what_was_recorded() {
    for path in fixtures() {
        let (file, imported) = load(&path);
        let truth = Truth::new(&imported.model).unwrap();
        let logits = truth.logits(recorded(&path, "input").view()).unwrap();
        let error = apart(&imported.contract.answer().kind.of_logits(logits), &recorded(&path, "output"));
        assert!(error < tolerance(&file), "{}: {error} apart", path.display());
        assert_eq!(imported.origins.len(), imported.model.graph().nodes().len());
    }
}

#[test]
fn engines_load_them_whatever_their_ends_and_weights_are() {
    for path in fixtures() {
        let (file, _) = load(&path);
        let mut engine = open(&file, EngineName::OrtCpu, &EngineOptions::default()).unwrap();
        let outputs = engine.run(recorded(&path, "input").view()).unwrap();
        let error = apart(&outputs[0].mapv(f64::from), &recorded(&path, "output"));
        assert!(error < engine_tolerance(&file), "{}: {error} apart", path.display());
    }
    let folder = fixtures()[0].parent().unwrap().to_path_buf();
    for name in ["fields.onnx", "nhwc_uint8.onnx", "half.onnx", "swin.dynamo.onnx"] {
        let (file, _) = load(&folder.join(name));
        let mut engine = open(&file, EngineName::Tract, &EngineOptions::default()).unwrap();
        let outputs = engine.run(recorded(&folder.join(name), "input").view()).unwrap();
        let error = apart(&outputs[0].mapv(f64::from), &recorded(&folder.join(name), "output"));
        assert!(error < tolerance(&file), "{name} in tract: {error} apart");
    }
}

#[test]
fn what_is_emitted_of_them_computes_the_same() {
    for path in fixtures() {
        let (file, imported) = load(&path);
        let images = recorded(&path, "input");
        let emitted = emitted(&imported.model);
        let open = |engine| open(&emitted, engine, &EngineOptions::default());
        let mut engine = open(EngineName::OrtCpu).unwrap();
        let logits = engine.run(images.view()).unwrap().swap_remove(0).mapv(f64::from);
        let error = apart(&imported.contract.answer().kind.of_logits(logits), &recorded(&path, "output"));
        assert!(error < engine_tolerance(&file), "{}: {error} apart", path.display());
        // tract has rules of its own about names, and its own way of resizing.
        let loaded = open(EngineName::Tract).and_then(|mut tract| tract.run(images.view()));
        assert!(loaded.is_ok(), "{}: {:#}", path.display(), loaded.unwrap_err());
    }
}

#[test]
fn import_and_emission_come_to_rest_at_once() {
    for path in fixtures() {
        let (_, first) = load(&path);
        let second = import(&emitted(&first.model)).unwrap();
        assert_eq!(first.model.graph(), second.model.graph(), "{}", path.display());
        assert_eq!(first.model.weights(), second.model.weights(), "{}", path.display());
        assert_eq!(second.contract.answer().kind, OutputKind::Logits);
    }
}

/// A graph whose numbers are rounded to single precision, as in files.
fn in_single(graph: &Graph) -> Graph {
    let single = |value: f64| f64::from(value as f32);
    let (mut builder, image) = Builder::new(graph.input_shape().clone()).unwrap();
    let mut ids: Vec<NodeId> = vec![image];
    for node in &graph.nodes()[1..] {
        let inputs: Vec<NodeId> = node.inputs.iter().map(|id| ids[id.index()]).collect();
        let op = match &node.op {
            Op::BatchNorm { eps, momentum } => {
                Op::BatchNorm { eps: single(*eps), momentum: 1.0 - single(1.0 - momentum) }
            }
            other => other.clone(),
        };
        ids.push(builder.add(&node.name, op, &inputs).unwrap());
    }
    let outputs: Vec<(&str, NodeId)> =
        graph.outputs().iter().map(|output| (output.name.as_str(), ids[output.node.index()])).collect();
    builder.finish(&outputs)
}

#[test]
fn every_ready_model_comes_back_as_it_was() {
    for (index, (name, _)) in zoo::ready().iter().enumerate() {
        let side = if *name == "alexnet" { 20 } else { 16 };
        let model = zoo::find_model(name, Path::new(".")).unwrap();
        let graph = zoo::build(&model, [3, side, side], 7).unwrap();
        let model = Model::untrained(graph, 5);
        // Alternately with and without the embedding as an output of its own.
        let contract = match index % 2 {
            0 => contract_with_embedding(model.graph()),
            _ => plain_contract(model.graph()),
        };
        let bytes = emit(&model, &contract, Some(&metadata(model.graph()))).unwrap();
        let file = OnnxFile::from_bytes(bytes, Path::new("ready.onnx")).unwrap();
        let imported = import(&file).unwrap();
        assert_eq!(*imported.model.graph(), in_single(model.graph()), "{name}");
        assert_eq!(imported.model.weights(), model.weights(), "{name}");
    }
}

#[test]
fn patterns_are_known_again() {
    let folder = fixtures()[0].parent().unwrap().to_path_buf();
    let has = |name: &str, wanted: fn(&Op) -> bool| {
        let (_, imported) = load(&folder.join(name));
        imported.model.graph().nodes().iter().filter(|node| wanted(&node.op)).count()
    };
    for exporter in ["torchscript", "dynamo"] {
        let shuffles =
            has(&format!("shuffle.{exporter}.onnx"), |op| matches!(op, Op::ChannelShuffle { groups: 2 }));
        assert_eq!(shuffles, 1, "{exporter}");
        let norms =
            has(&format!("norm_gelu.{exporter}.onnx"), |op| matches!(op, Op::LayerNorm { axes: 1, .. }));
        assert_eq!(norms, 2, "{exporter}");
    }
    assert_eq!(has("nhwc_uint8.onnx", |op| matches!(op, Op::Softmax { .. })), 0, "the last softmax is cut");
    assert_eq!(
        has("nhwc_uint8.onnx", |op| matches!(op, Op::Conv2d(conv) if conv.bias)),
        1,
        "its bias is the layer's"
    );
    assert_eq!(has("nhwc_uint8.onnx", |op| matches!(op, Op::Linear { bias: true, .. })), 1);
    assert_eq!(has("functions.onnx", |op| matches!(op, Op::Unary(Unary::Erf))), 1);
    let (_, functions) = load(&folder.join("functions.onnx"));
    let written = emitted(&functions.model).rows(&HashMap::new());
    let hard_swishes = written.iter().filter(|row| row.op == "HardSwish").count();
    assert_eq!(hard_swishes, 1, "what runtimes compute in one go is written as one");
    let (_, softmax) = load(&folder.join("nhwc_uint8.onnx"));
    let (_, log) = load(&folder.join("attention.onnx"));
    let kind = |import: &Import| import.contract.answer().kind;
    assert_eq!((kind(&softmax), kind(&log)), (OutputKind::Probabilities, OutputKind::LogProbabilities));
    assert!(cost(softmax.model.graph()).macs > 0 && softmax.model.graph().output(Graph::EMBEDDING).is_some());
}
