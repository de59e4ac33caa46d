//! Blame: the node where a failure begins is named, for faults of a file, faults of an engine, and recorded outputs.
#![cfg(feature = "train")]
#![expect(clippy::wildcard_enum_match_arm, reason = "tests change one operation and keep all others")]

use std::path::Path;

use anyhow::Result;
use cohort::config::EngineName;
use cohort::contract::{ImageInput, Layout, Pixels, Precision};
use cohort::engine::torch::Truth;
use cohort::engine::{Engine, EngineOptions, open};
use cohort::graph::{
    Builder, Conv2d, Graph, Model, NodeId, Op, Pool, Unary, Weights, initial_weights, params,
};
use cohort::onnx::{OnnxFile, emit, plain_contract};
use cohort::progress::Silent;
use cohort::verify::{
    Amount, Blame, ConfiguredEngine, Evidence, InputSet, ReferenceKind, Truths, Verification, VerifyReport,
    blame, input_sets, save_case, verify,
};

/// A network with one layer of each kind: padded convolution, normalisation, activation, both poolings, classifier.
fn network(change: &dyn Fn(Op) -> Op) -> Graph {
    let (mut builder, image) = Builder::new(vec![3, 9, 9]).unwrap();
    let mut add = |name: &str, op: Op, inputs: &[NodeId]| builder.add(name, change(op), inputs).unwrap();
    let conv = add("conv", Op::Conv2d(Conv2d { bias: true, ..Conv2d::square(6, 3, 1) }), &[image]);
    let pool = Op::AvgPool { pool: Pool { padding: [1; 2], ..Pool::square(3, 1) }, count_include_pad: true };
    let mean = add("mean", pool, &[conv]);
    let norm = add("norm", Op::BatchNorm { eps: 1e-5, momentum: 0.1 }, &[mean]);
    let relu = add("relu", Op::Relu, &[norm]);
    let deep = add("deep", Op::Conv2d(Conv2d::square(8, 3, 1)), &[relu]);
    let leaky = add("leaky", Op::Unary(Unary::LeakyRelu { slope: 0.1 }), &[deep]);
    let pooled = add("pooled", Op::MaxPool(Pool::square(2, 2)), &[leaky]);
    let flat = add("flat", Op::Flatten, &[pooled]);
    let logits = add("classifier", Op::Linear { out_features: 5, bias: true }, &[flat]);
    builder.finish(&[(Graph::LOGITS, logits)])
}

fn weights(graph: &Graph) -> Weights {
    let mut weights = initial_weights(graph, 4);
    for spec in params(graph) {
        let mut array = weights.get(&spec.name).unwrap().clone();
        let spread = |index: usize| ((index * 37 + 11) % 17) as f32 / 17.0;
        if spec.name.ends_with("running_var") {
            array.iter_mut().enumerate().for_each(|(index, value)| *value = 0.1 + spread(index));
        } else if spec.name.ends_with("running_mean") || spec.name.ends_with("bias") {
            array.iter_mut().enumerate().for_each(|(index, value)| *value = spread(index) - 0.5);
        }
        weights.insert(spec.name, array);
    }
    weights
}

fn model(graph: &Graph, weights: &Weights) -> Model {
    Model::new(graph.clone(), weights.clone()).unwrap()
}

fn file(model: &Model) -> OnnxFile {
    let bytes = emit(model, &plain_contract(model.graph()), None).unwrap();
    OnnxFile::from_bytes(bytes, Path::new("net.onnx")).unwrap()
}

fn inputs() -> Vec<InputSet> {
    let pixels = Pixels::Single { black: -2.0, white: 2.0 };
    input_sets(
        None,
        &ImageInput { shape: [3, 9, 9], layout: Layout::ChannelsFirst, pixels },
        1,
        &Amount::default(),
    )
}

type Open<'a> = &'a dyn Fn(&OnnxFile, EngineName, &EngineOptions) -> Result<Box<dyn Engine>>;

/// Verifies `file` in ONNX Runtime, as `open` loads it, against the logits of a network, and blames a node.
fn blamed(file: &OnnxFile, standing: ReferenceKind, model: &Model, open: Open<'_>) -> (VerifyReport, Truths) {
    let inputs = inputs();
    let truth = Truth::new(model).unwrap();
    let truths = Truths::of("x", standing, &inputs, None, &mut |images| truth.logits(images)).unwrap();
    let options = EngineOptions::default();
    let loaded = open(file, EngineName::OrtCpu, &options);
    let mut report = verify(&mut Verification {
        model: "net.onnx".into(),
        findings: Vec::new(),
        truths: &truths,
        engines: &mut [ConfiguredEngine::new(EngineName::OrtCpu, options, loaded, &file.contract)],
        inputs: &inputs,
        scoring: None,
        fixed_batch: None,
        precision: Precision::Float32,
        rounding: None,
        amount: Amount::default(),
        progress: &Silent,
    });
    let reference = matches!(standing, ReferenceKind::Checkpoint).then_some(model);
    let evidence = Evidence { file, reference, inputs: &inputs, truths: &truths, open, threads: 1 };
    blame(&mut report, &evidence, &Silent);
    (report, truths)
}

/// An engine that computes another network than the file describes: it opens that network's file instead.
#[track_caller]
fn engine_fault(node: &str, cause: &str, spoil: &dyn Fn(&Graph) -> Graph) {
    let graph = network(&|op| op);
    let weights = weights(&graph);
    let (whole, wrong) = (file(&model(&graph, &weights)), file(&model(&spoil(&graph), &weights)));
    let substitute = |asked: &OnnxFile, engine: EngineName, options: &EngineOptions| {
        let inner: Vec<&str> = asked
            .contract
            .outputs
            .iter()
            .filter_map(|output| output.tensor.name.strip_suffix(".exposed"))
            .collect();
        open(&wrong.exposing(&inner).unwrap(), engine, options)
    };
    let (report, _) = blamed(&whole, ReferenceKind::File, &model(&graph, &weights), &substitute);
    let [blame] = &report.blame[..] else { panic!("{:?}", report.blame) };
    assert_eq!(blame.engine.as_deref(), Some("ONNX Runtime CPU"));
    says(blame, node, cause);
}

#[track_caller]
fn says(blame: &Blame, node: &str, cause: &str) {
    assert_eq!(blame.node.as_ref().map(|node| node.node.as_str()), Some(node), "{blame:#?}");
    assert!(blame.cause.as_ref().is_some_and(|found| found.contains(cause)), "{cause}: {:?}", blame.cause);
    assert!(blame.samples.len() > 1);
    let before = blame.around.iter().take_while(|error| error.node != node);
    before.for_each(|error| assert!(error.isolated < 1e-5 && error.cumulative < 1e-5, "{error:?}"));
    // Later nodes are wrong because of their inputs, not by themselves.
    let behind = blame.around.iter().skip_while(|error| error.node != node).skip(1);
    behind.for_each(|error| assert!(error.isolated < 1e-5, "{error:?}"));
}

/// The network with all padding of its first convolution moved to the top and left.
fn padded_before(graph: &Graph) -> Graph {
    let rewritten = graph.rewritten(&mut |builder, id, inputs| {
        let node = graph.node(id);
        let Op::Conv2d(conv) = &node.op else { return builder.add(&node.name, node.op.clone(), inputs) };
        if node.name != "conv" {
            return builder.add(&node.name, node.op.clone(), inputs);
        }
        let pad = Op::Pad { before: vec![0, 2, 2], after: vec![0; 3], value: 0.0 };
        let padded = builder.add("padded", pad, inputs)?;
        builder.add("conv", Op::Conv2d(Conv2d { padding: [0, 0], ..conv.clone() }), &[padded])
    });
    rewritten.unwrap()
}

#[test]
fn an_engine_that_pads_on_one_side() {
    engine_fault("conv", "all padding before the image", &|graph| padded_before(graph));
}

#[test]
fn wrong_settings_of_an_engine() {
    engine_fault("norm", "epsilon 0.001 instead of 1e-5", &|_| {
        network(&|op| match op {
            Op::BatchNorm { momentum, .. } => Op::BatchNorm { eps: 1e-3, momentum },
            other => other,
        })
    });
    engine_fault("mean", "padding not counted in the average", &|_| {
        network(&|op| match op {
            Op::AvgPool { pool, .. } => Op::AvgPool { pool, count_include_pad: false },
            other => other,
        })
    });
    engine_fault("leaky", "slope 0.01 instead of 0.1", &|_| {
        network(&|op| match op {
            Op::Unary(Unary::LeakyRelu { .. }) => Op::Unary(Unary::LeakyRelu { slope: 0.01 }),
            other => other,
        })
    });
    engine_fault("relu", "no activation", &|_| {
        network(&|op| match op {
            Op::Relu => Op::Unary(Unary::LeakyRelu { slope: 1.0 }),
            other => other,
        })
    });
}

#[test]
fn a_rewriting_that_a_look_inside_undoes() {
    let graph = network(&|op| op);
    let weights = weights(&graph);
    let pooled = network(&|op| match op {
        Op::AvgPool { pool, .. } => Op::AvgPool { pool, count_include_pad: false },
        other => other,
    });
    let (whole, wrong) = (file(&model(&graph, &weights)), file(&model(&pooled, &weights)));
    // An engine that fuses the pooling with the next node wrongly, unless the pooling's value is an output.
    let joins = |asked: &OnnxFile, engine: EngineName, options: &EngineOptions| {
        let inner: Vec<&str> = asked
            .contract
            .outputs
            .iter()
            .filter_map(|output| output.tensor.name.strip_suffix(".exposed"))
            .collect();
        let runs = if inner.contains(&"mean") { &whole } else { &wrong };
        open(&runs.exposing(&inner).unwrap(), engine, options)
    };
    let (report, _) = blamed(&whole, ReferenceKind::File, &model(&graph, &weights), &joins);
    let [blame] = &report.blame[..] else { panic!("{:?}", report.blame) };
    says(blame, "mean", "the runtime's rewriting of the graph");
}

#[test]
fn a_files_fault_is_found_though_the_engine_is_right() {
    let graph = network(&|op| op);
    let whole = weights(&graph);
    let mut spoilt = whole.clone();
    let mut weight = spoilt.remove("deep.weight").unwrap();
    weight[[2, 3, 1, 0].as_slice()] *= -1.0;
    spoilt.insert("deep.weight", weight);
    let (report, truths) =
        blamed(&file(&model(&graph, &spoilt)), ReferenceKind::Checkpoint, &model(&graph, &whole), &open);
    let [blame] = &report.blame[..] else { panic!("{:?}", report.blame) };
    assert_eq!(blame.engine, None);
    says(blame, "deep", "the sign of 1 of 432 values of 'deep.weight'");
    assert!(report.problems().contains("the file itself is wrong, first at node 'deep' (conv2d)"));

    let folder = tempfile::tempdir().unwrap();
    let kept = save_case(folder.path(), &report, &file(&model(&graph, &spoilt)), &inputs(), &truths).unwrap();
    assert_eq!(kept.len(), 5);
}

#[test]
fn what_was_recorded_may_be_another_network() {
    let graph = network(&|op| op);
    let whole = weights(&graph);
    let mut other = whole.clone();
    other.insert("classifier.bias", ndarray::ArrayD::zeros(vec![5]));
    let (report, _) =
        blamed(&file(&model(&graph, &other)), ReferenceKind::Recorded, &model(&graph, &whole), &open);
    let [blame] = &report.blame[..] else { panic!("{:?}", report.blame) };
    assert!(blame.engine.is_none() && blame.node.is_none());
    assert!(blame.cause.as_ref().unwrap().contains("do not give that either"), "{blame:?}");
}

#[test]
fn nothing_is_blamed_where_nothing_failed() {
    let graph = network(&|op| op);
    let weights = weights(&graph);
    let (report, truths) =
        blamed(&file(&model(&graph, &weights)), ReferenceKind::File, &model(&graph, &weights), &open);
    assert!(report.passed && report.blame.is_empty());
    let folder = tempfile::tempdir().unwrap();
    let kept =
        save_case(folder.path(), &report, &file(&model(&graph, &weights)), &inputs(), &truths).unwrap();
    assert!(kept.is_empty() && std::fs::read_dir(folder.path()).unwrap().next().is_none());
}
