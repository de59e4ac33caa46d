//! Parity: graphs of every kind give the same results in libtorch, ONNX Runtime and tract, and planted faults are
//! found.
#![cfg(feature = "train")]
#![expect(clippy::wildcard_enum_match_arm, reason = "tests change one operation and keep all others")]

use std::path::Path;

use cohort::config::{Device, EngineName};
use cohort::contract::{ChannelOrder, Contract, Fit, Normalization, PixelRange, Precision, Resize};
use cohort::data::ordered_batches;
use cohort::engine::torch::{TorchEngine, Truth};
use cohort::engine::{Engine, EngineOptions, open};
use cohort::graph::{
    Builder, Conv2d, Graph, Model, Op, Weights, fold_batch_norm, fold_normalization, normalizing,
};
use cohort::onnx::{Metadata, OnnxFile, contract_with_embedding, emit, findings, plain_contract};
use cohort::progress::Silent;
use cohort::verify::{
    Amount, ConfiguredEngine, ReferenceKind, Tolerance, Truths, Verification, VerifyReport, input_sets,
    verify,
};
use cohort::zoo;
use graphs::{Step, grow, step, with_statistics};
use proptest::prelude::{ProptestConfig, any, proptest};
use proptest::test_runner::{RngSeed, TestCaseError};

#[path = "support/graphs.rs"]
mod graphs;

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

fn exported(model: &Model, embedding: bool) -> OnnxFile {
    written(model, &metadata(model.graph()), embedding, Precision::Float32)
}

fn written(model: &Model, metadata: &Metadata, embedding: bool, precision: Precision) -> OnnxFile {
    let contract =
        if embedding { contract_with_embedding(model.graph()) } else { plain_contract(model.graph()) };
    let bytes = emit(model, &Contract { precision, ..contract }, Some(metadata)).unwrap();
    OnnxFile::from_bytes(bytes, Path::new("test.onnx")).unwrap()
}

/// Verifies a file against the unfolded graph in float64, on all engines.
fn parity(model: &Model, file: &OnnxFile) -> VerifyReport {
    let truth = Truth::new(model).unwrap();
    let torch: Box<dyn Engine> = Box::new(TorchEngine::new(model, Device::Cpu, 2).unwrap());
    let usual = EngineOptions { threads: 2, ..EngineOptions::default() };
    let mut engines = vec![ConfiguredEngine::new(EngineName::Torch, usual, Ok(torch), &file.contract)];
    for engine in [EngineName::OrtCpu, EngineName::Tract] {
        for options in EngineOptions::ways(engine, 2) {
            let loaded = open(file, engine, &options);
            engines.push(ConfiguredEngine::new(engine, options, loaded, &file.contract));
        }
    }
    let inputs = input_sets(
        None,
        &file.contract.image_input(file.contract.preparation.as_ref()).unwrap(),
        1,
        &Amount::default(),
    );
    let truths =
        Truths::of("float64", ReferenceKind::Checkpoint, &inputs, None, &mut |images| truth.logits(images));
    verify(&mut Verification {
        model: "test.onnx".into(),
        findings: findings(file),
        truths: &truths.unwrap(),
        engines: &mut engines,
        inputs: &inputs,
        scoring: None,
        fixed_batch: None,
        precision: file.contract.precision,
        rounding: None,
        amount: Amount::default(),
        progress: &Silent,
    })
}

fn problems(report: &VerifyReport) -> Vec<String> {
    report.engines.iter().flat_map(|engine| engine.problems.clone()).collect()
}

#[test]
fn every_ready_model_computes_the_same_everywhere() {
    for (name, _) in zoo::ready() {
        let model = zoo::find_model(name, Path::new(".")).unwrap();
        let side = if *name == "alexnet" { 20 } else { 16 };
        let graph = zoo::build(&model, [3, side, side], 7).unwrap();
        let model = Model::untrained(graph, 5);
        let report = parity(&model, &exported(&fold_batch_norm(&model).unwrap(), false));
        assert!(report.passed, "{name}: {:?}", problems(&report));
    }
}

#[test]
fn an_unfolded_export_and_its_embedding() {
    let model = zoo::find_model("shufflenet_v2-x0.5", Path::new(".")).unwrap();
    let graph = zoo::build(&model, [3, 16, 16], 5).unwrap();
    let model = with_statistics(graph, 3);
    let file = exported(&model, true);
    let names: Vec<&str> = file.contract.outputs.iter().map(|output| output.tensor.name.as_str()).collect();
    assert_eq!(names, ["logits", "embedding"]);
    assert!(parity(&model, &file).passed);

    let images = ndarray::ArrayD::from_elem(vec![2, 3, 16, 16], 0.3);
    let mut torch = TorchEngine::new(&model, Device::Cpu, 2).unwrap();
    let mut tract = open(&file, EngineName::Tract, &EngineOptions::default()).unwrap();
    let (expected, found) = (torch.run(images.view()).unwrap(), tract.run(images.view()).unwrap());
    for (expected, found) in expected.iter().zip(&found) {
        assert_eq!(expected.shape(), found.shape());
        let largest = expected.iter().fold(0f32, |largest, value| largest.max(value.abs()));
        let error = expected.iter().zip(found).map(|(a, b)| (a - b).abs()).fold(0f32, f32::max);
        assert!(error < 1e-4 * largest, "{error} of {largest}");
    }
}

/// The same graph with another eps in every BatchNorm.
fn with_eps(graph: &Graph, new: f64) -> Graph {
    let rewritten = graph.rewritten(&mut |builder, id, inputs| {
        let node = graph.node(id);
        let op = match &node.op {
            Op::BatchNorm { momentum, .. } => Op::BatchNorm { eps: new, momentum: *momentum },
            other => other.clone(),
        };
        builder.add(&node.name, op, inputs)
    });
    rewritten.unwrap()
}

#[test]
fn planted_faults_fail() {
    let model = zoo::find_model("resnet8", Path::new(".")).unwrap();
    let graph = zoo::build(&model, [3, 16, 16], 10).unwrap();
    let model = with_statistics(graph, 9);
    let (graph, weights) = (model.graph(), model.weights());
    let with = |weights: Weights| Model::new(graph.clone(), weights).unwrap();
    let on_files = |report: &VerifyReport| report.engines[1..].iter().all(|engine| !engine.passed);

    let wrong_eps = Model::new(with_eps(graph, 1e-3), weights.clone()).unwrap();
    let report = parity(&model, &exported(&wrong_eps, false));
    assert!(on_files(&report), "eps 1e-3 instead of 1e-5 passed");
    assert!(report.engines[0].passed, "libtorch runs the checkpoint, which is whole");

    let mut swapped = weights.clone();
    let mut stem = swapped.remove("stem.conv.weight").unwrap();
    stem.invert_axis(ndarray::Axis(1));
    swapped.insert("stem.conv.weight", stem.as_standard_layout().into_owned());
    assert!(on_files(&parity(&model, &exported(&with(swapped), false))), "swapped channels passed");

    let mut flipped = weights.clone();
    let mut classifier = flipped.remove("classifier.weight").unwrap();
    classifier[[3, 5].as_slice()] *= -1.0;
    flipped.insert("classifier.weight", classifier);
    assert!(on_files(&parity(&model, &exported(&with(flipped), false))), "one sign passed");

    assert!(parity(&model, &exported(&model, false)).passed, "an untouched copy failed");
}

#[test]
fn half_precision_is_near_and_no_nearer() {
    for name in ["resnet8", "vgg8-w8"] {
        let model = zoo::find_model(name, Path::new(".")).unwrap();
        let graph = zoo::build(&model, [3, 16, 16], 7).unwrap();
        let model = Model::untrained(graph, 5);
        let folded = fold_batch_norm(&model).unwrap();
        let half = |model: &Model| written(model, &metadata(model.graph()), true, Precision::Float16);
        let file = half(&folded);
        let single = exported(&folded, true);
        assert!(
            file.contract.precision == Precision::Float16 && 10 * file.size_bytes() < 6 * single.size_bytes(),
            "{name}"
        );
        let same = Contract { precision: Precision::Float16, ..single.contract.clone() };
        assert_eq!(file.contract, same, "{name}");
        let report = parity(&model, &file);
        assert!(report.passed, "{name}: {:?}", problems(&report));
        for engine in &report.engines[1..] {
            assert_eq!(engine.tolerance, Tolerance::half(), "{name}, {}", engine.name);
            let furthest = engine.sets.iter().map(|set| set.relative_l2).fold(0.0, f64::max);
            assert!(furthest > 1e-5, "{name} is computed in float32 by {}", engine.name);
        }
        let (graph, mut flipped) = folded.into_parts();
        let mut classifier = flipped.remove("classifier.weight").unwrap();
        classifier[[3, 5].as_slice()] *= -1.0;
        flipped.insert("classifier.weight", classifier);
        assert!(
            !parity(&model, &half(&Model::new(graph, flipped).unwrap())).passed,
            "{name}: one sign passed"
        );
    }
}

/// A convolution of the image, beside another node that reads the image.
fn stem(conv: Conv2d, read_twice: bool) -> Graph {
    let (mut builder, image) = Builder::new(vec![2, 9, 8]).unwrap();
    let mut last = builder.add("conv", Op::Conv2d(conv), &[image]).unwrap();
    last = builder.add("norm", Op::BatchNorm { eps: 1e-5, momentum: 0.1 }, &[last]).unwrap();
    if read_twice {
        last = builder.add("both", Op::Concat { axis: 0 }, &[last, image]).unwrap();
    }
    let flat = builder.add("flat", Op::Flatten, &[last]).unwrap();
    let logits = builder.add("classifier", Op::Linear { out_features: 4, bias: true }, &[flat]).unwrap();
    builder.finish(&[(Graph::LOGITS, logits)])
}

#[test]
fn a_file_normalises_by_itself() {
    let unpadded = Conv2d { padding: [0; 2], ..Conv2d::square(4, 3, 2) };
    let grouped = Conv2d { groups: 2, bias: true, ..unpadded.clone() };
    let (mean, std) = (vec![0.25, 0.625], vec![0.125, 0.5]);
    for (conv, read_twice) in [
        (Conv2d::square(4, 3, 1), false),
        (unpadded, false),
        (grouped, false),
        (Conv2d::square(4, 3, 1), true),
    ] {
        let graph = stem(conv, read_twice);
        let model = with_statistics(graph, 5);
        let truth = normalizing(&model, &mean, &std).unwrap();
        let metadata = Metadata {
            mean: vec![0.0; 2],
            std: vec![1.0; 2],
            normalizes: Some(Normalization { mean: mean.clone(), std: std.clone() }),
            ..metadata(model.graph())
        };
        for model in [&model, &fold_batch_norm(&model).unwrap()] {
            let with = |mean: &[f32], std: &[f32], precision: Precision| {
                let model = fold_normalization(model, mean, std).unwrap();
                written(&model, &metadata, false, precision)
            };
            let verified = |file: &OnnxFile| parity(&truth, file);
            let report = verified(&with(&mean, &std, Precision::Float32));
            assert!(report.passed, "{:?}", problems(&report));
            let report = verified(&with(&mean, &std, Precision::Float16));
            assert!(report.passed, "in half precision: {:?}", problems(&report));
            assert!(!verified(&with(&[0.25, 0.626], &std, Precision::Float32)).passed, "another mean passed");
            assert!(
                !verified(&with(&mean, &[0.125, 0.501], Precision::Float32)).passed,
                "another deviation passed"
            );
        }
    }
}

#[test]
fn a_strided_convolution_after_a_shuffle() {
    // tract could not plan this graph once: the stride had to pass through the shuffle's Reshape.
    let conv =
        Step::Conv { out: 2, kernel: 1, stride: 2, padding: 0, dilation: 1, grouped: false, bias: false };
    let graph = grow(&[Step::Shuffle, conv], vec![2, 5, 5]);
    let model = with_statistics(graph, 1);
    let report = parity(&model, &exported(&model, false));
    assert!(report.passed, "{:?}", problems(&report));
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 64,
        rng_seed: RngSeed::Fixed(7),
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn random_graphs_agree_everywhere(
        steps in proptest::collection::vec(step(), 1..9),
        channels in 1usize..4,
        height in 5usize..10,
        width in 5usize..10,
        fold in any::<bool>(),
        seed in any::<u64>(),
    ) {
        let graph = grow(&steps, vec![channels, height, width]);
        let model = with_statistics(graph, seed);
        let emitted = if fold { fold_batch_norm(&model).unwrap() } else { model.clone() };
        let report = parity(&model, &exported(&emitted, true));
        if !report.passed {
            return Err(TestCaseError::fail(format!("{:?}", problems(&report))));
        }
    }
}

#[test]
fn normalised_batches_reach_the_engines_unchanged() {
    let data = cohort::config::Data {
        source: cohort::config::Source::Digits(cohort::config::Digits {}),
        labels: cohort::config::Labels::Own,
        validation: 0.2,
        images: None,
        augment: Vec::new(),
        workers: 1,
    };
    let data = cohort::data::load(&data, Path::new("."), 1).unwrap();
    let Normalization { mean, std } = &data.normalization;
    assert!(mean[0] > 0.1 && std[0] > 0.1);
    let batch = ordered_batches(&data.train, &data.normalization, data.train.len()).next().unwrap().unwrap();
    let values = batch.images.len() as f64;
    let sum: f64 = batch.images.iter().map(|&value| f64::from(value)).sum();
    let square: f64 = batch.images.iter().map(|&value| f64::from(value).powi(2)).sum();
    assert!((sum / values).abs() < 1e-3 && (square / values - 1.0).abs() < 1e-3);
}
