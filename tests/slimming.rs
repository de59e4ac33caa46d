//! Slimming: a network without some of its channels computes what the whole one does where zeros are read in their place.
#![cfg(feature = "train")]

use std::collections::HashMap;
use std::path::Path;

use cohort::engine::torch::Truth;
use cohort::graph::{Binary, Builder, Conv2d, Coupling, Graph, Model, NodeId, Op, cost};
use cohort::onnx::{OnnxFile, import};
use cohort::zoo;
use graphs::{grow, step, with_statistics};
use ndarray::{ArrayD, IxDyn};
use proptest::prelude::{ProptestConfig, any, proptest};
use proptest::test_runner::{RngSeed, TestCaseError};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

#[path = "support/graphs.rs"]
mod graphs;

/// Flags for the units of each group, about half of them, at least one.
fn some(coupling: &Coupling, random: &mut ChaCha8Rng) -> Vec<Vec<bool>> {
    let mut flags = |units: usize| {
        let mut kept: Vec<bool> = (0..units).map(|_| random.next_u32().is_multiple_of(2)).collect();
        kept[random.next_u32() as usize % units] = true;
        kept
    };
    coupling.groups().iter().map(|group| flags(group.units)).collect()
}

/// The axis along which an operation reads channels freely, for its input at `place`.
fn free_axis(graph: &Graph, id: NodeId, place: usize) -> Option<usize> {
    let node = graph.node(id);
    let read = &graph.node(node.inputs[place]).shape;
    if let Op::Conv2d(conv) = &node.op {
        return (conv.groups == 1 || read[0] > conv.groups).then_some(0);
    }
    match node.op.kind() {
        "linear" => Some(read.len() - 1),
        "mat_mul" => Some(read.len() - 1 - place),
        _ => None,
    }
}

/// The whole network, with zeros wherever a channel is read that is not kept.
fn with_zeros(model: &Model, coupling: &Coupling, kept: &[Vec<bool>]) -> Model {
    let graph = model.graph();
    let masked = graph.rewritten(&mut |builder: &mut Builder, id, inputs| {
        let node = graph.node(id);
        let mut inputs = inputs.to_vec();
        for (place, (input, &read)) in inputs.iter_mut().zip(&node.inputs).enumerate() {
            let Some(axis) = free_axis(graph, id, place) else { continue };
            let Some(stays) = coupling.kept_indices(read, axis, kept) else { continue };
            let mut shape = vec![1; graph.node(read).shape.len()];
            shape[axis] = stays.len();
            let values = stays.iter().map(|&stays| f32::from(u8::from(stays))).collect();
            let values = ArrayD::from_shape_vec(IxDyn(&shape), values).unwrap();
            let mask = builder.add(format!("{}.mask{place}", node.name), Op::Constant { values }, &[])?;
            let product = Op::Binary(Binary::Mul);
            *input = builder.add(format!("{}.masked{place}", node.name), product, &[*input, mask])?;
        }
        builder.add(&node.name, node.op.clone(), &inputs)
    });
    Model::new(masked.unwrap(), model.weights().clone()).unwrap()
}

fn images(graph: &Graph, random: &mut ChaCha8Rng) -> ArrayD<f32> {
    let shape = [&[2][..], graph.input_shape()].concat();
    ArrayD::from_shape_fn(IxDyn(&shape), |_| random.next_u32() as f32 / u32::MAX as f32 * 2.0 - 1.0)
}

/// Slims a network by about half, at random, and compares it with the whole one that reads zeros.
fn check(model: &Model, seed: u64) -> Result<(), String> {
    let coupling = Coupling::of(model.graph());
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let all: Vec<Vec<bool>> = coupling.groups().iter().map(|group| vec![true; group.units]).collect();
    if coupling.keep(model, &all).unwrap() != *model {
        return Err("with all channels it is another network".into());
    }
    let kept = some(&coupling, &mut random);
    let slim = coupling.keep(model, &kept).map_err(|error| error.to_string())?;
    let images = images(model.graph(), &mut random);
    let logits = |model: &Model| Truth::new(model).unwrap().logits(images.view()).unwrap();
    let (expected, found) = (logits(&with_zeros(model, &coupling, &kept)), logits(&slim));
    let largest = expected.iter().fold(0f64, |largest, value| largest.max(value.abs()));
    let apart = expected.iter().zip(&found).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
    if expected.shape() == found.shape() && apart <= 1e-10 * largest {
        Ok(())
    } else {
        Err(format!("{apart:e} of {largest:e} apart"))
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 128,
        rng_seed: RngSeed::Fixed(7),
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn random_graphs_read_zeros(
        steps in proptest::collection::vec(step(), 1..12),
        channels in 1usize..4,
        seed in any::<u64>(),
    ) {
        let model = with_statistics(grow(&steps, vec![channels, 8, 9]), seed);
        check(&model, seed).map_err(TestCaseError::fail)?;
    }
}

#[test]
fn every_ready_model_reads_zeros_and_halves() {
    for (name, _) in zoo::ready() {
        let spec = zoo::find_model(name, Path::new(".")).unwrap();
        let side = if *name == "alexnet" { 20 } else { 16 };
        let model = with_statistics(zoo::build(&spec, [3, side, side], 7).unwrap(), 1);
        check(&model, 1).unwrap_or_else(|problem| panic!("{name}: {problem}"));
        let coupling = Coupling::of(model.graph());
        assert!(coupling.whole().is_empty(), "{name}: {:?}", coupling.whole());
        let half = |units: usize| (0..units).map(|unit| unit < units.div_ceil(2)).collect();
        let kept: Vec<Vec<bool>> = coupling.groups().iter().map(|group| half(group.units)).collect();
        let slim = coupling.keep(&model, &kept).unwrap();
        let ratio = cost(slim.graph()).macs as f64 / cost(model.graph()).macs as f64;
        assert!(ratio < 0.52, "{name} has {ratio} of its multiply-accumulates");
    }
}

#[test]
fn every_imported_file_reads_zeros() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/onnx");
    let mut slimmed = HashMap::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|end| end != "onnx") {
            continue;
        }
        let model = import(&OnnxFile::load(&path).unwrap()).unwrap().model;
        check(&model, 5).unwrap_or_else(|problem| panic!("{}: {problem}", path.display()));
        slimmed.insert(path, Coupling::of(model.graph()).groups().len());
    }
    assert!(
        slimmed.len() >= 14 && slimmed.values().filter(|&&groups| groups > 0).count() > slimmed.len() / 2
    );
}

/// Reasons are named, and what can go beside them goes.
#[test]
fn what_runs_over_channels_keeps_them() {
    let (mut builder, image) = Builder::new(vec![3, 6, 6]).unwrap();
    let mut add = |name: &str, op: Op, inputs: &[NodeId]| builder.add(name, op, inputs).unwrap();
    let stem = add("stem", Op::Conv2d(Conv2d::square(8, 3, 1)), &[image]);
    let soft = add("soft", Op::Softmax { axis: 0 }, &[stem]);
    let inner = add("inner", Op::Conv2d(Conv2d::square(10, 3, 1)), &[soft]);
    let back = add("back", Op::Conv2d(Conv2d::square(8, 1, 1)), &[inner]);
    let sum = add("sum", Op::Add, &[back, soft]);
    let pool = add("pool", Op::GlobalAvgPool, &[sum]);
    let flat = add("flat", Op::Flatten, &[pool]);
    let logits = add("head", Op::Linear { out_features: 4, bias: true }, &[flat]);
    let graph = builder.finish(&[(Graph::LOGITS, logits)]);
    let coupling = Coupling::of(&graph);
    let groups: Vec<(&str, usize)> =
        coupling.groups().iter().map(|group| (group.name.as_str(), group.units)).collect();
    assert_eq!(groups, [("inner", 10)]);
    let whole: Vec<(&str, &str)> =
        coupling.whole().iter().map(|whole| (whole.name.as_str(), whole.reason.as_str())).collect();
    let reason = "'soft' (softmax) runs over it";
    assert_eq!(whole, [("stem", reason), ("back", reason)]);
}
