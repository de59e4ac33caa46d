//! Broken and hostile files: each is refused with a clear error, in bounded time and memory.

use std::path::Path;
use std::time::{Duration, Instant};

use ndarray::ArrayD;
use prost::Message;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use tract_onnx::pb::tensor_proto::DataType;
use tract_onnx::pb::tensor_shape_proto::dimension;
use tract_onnx::pb::type_proto::Value;
use tract_onnx::pb::{GraphProto, ModelProto, NodeProto, OperatorSetIdProto, TensorProto, ValueInfoProto};

use super::super::emit::emit;
use super::super::interface::plain_contract;
use super::super::proto::{float, floats, indices, int, ints, node, text, value_info};
use super::super::read::OnnxFile;
use super::import;
use crate::contract::TensorInfo;
use crate::error::{InputError, hint_of};
use crate::graph::Op;

fn value(name: &str, shape: &[usize]) -> ValueInfoProto {
    value_info(&TensorInfo::batched(name, shape))
}

/// A convolution and a linear layer, with the nodes and tensors of a test between them, which read `a` of
/// `[batch, 4, 6, 6]` and give `b` of the same shape.
pub(super) fn model(between: Vec<NodeProto>, tensors: Vec<TensorProto>) -> ModelProto {
    let weights = |name: &str, shape: &[usize]| floats(name, &ArrayD::from_elem(shape, 0.1));
    let mut nodes = vec![node("conv", "Conv", &["input", "w"], "a", vec![])];
    nodes.extend(between);
    nodes.push(node("pool", "GlobalAveragePool", &["b"], "c", vec![]));
    nodes.push(node("flat", "Flatten", &["c"], "d", vec![]));
    nodes.push(node("head", "MatMul", &["d", "head.w"], "logits", vec![]));
    let mut initializers = vec![weights("w", &[4, 3, 1, 1]), weights("head.w", &[4, 5])];
    initializers.extend(tensors);
    let graph = GraphProto {
        node: nodes,
        initializer: initializers,
        input: vec![value("input", &[3, 6, 6])],
        output: vec![value("logits", &[5])],
        ..GraphProto::default()
    };
    let opset = OperatorSetIdProto { domain: String::new(), version: 17 };
    ModelProto { ir_version: 8, opset_import: vec![opset], graph: Some(graph), ..ModelProto::default() }
}

/// A model whose input has a fixed batch.
pub(super) fn with_batch(mut model: ModelProto, batch: i64) -> ModelProto {
    let value = model.graph.as_mut().and_then(|graph| graph.input[0].r#type.as_mut()?.value.as_mut());
    let Some(Value::TensorType(tensor)) = value else { panic!("the input is not a tensor") };
    tensor.shape.as_mut().unwrap().dim[0].value = Some(dimension::Value::DimValue(batch));
    model
}

pub(super) fn result(model: &ModelProto) -> anyhow::Result<super::Import> {
    let start = Instant::now();
    let result =
        OnnxFile::from_bytes(model.encode_to_vec(), Path::new("m.onnx")).and_then(|file| import(&file));
    assert!(start.elapsed() < Duration::from_secs(60), "it took {:?}", start.elapsed());
    result
}

#[track_caller]
pub(super) fn refused(model: &ModelProto, problem: &str) -> String {
    let error = result(model).unwrap_err();
    let text = format!("{error:#}");
    assert!(error.is::<InputError>() && hint_of(&error).is_some(), "{text}");
    assert!(text.contains(problem), "{text}\nshould say: {problem}");
    text
}

fn one(op: &str, inputs: &[&str]) -> Vec<NodeProto> {
    vec![node("x", op, inputs, "b", vec![])]
}

#[test]
fn the_plain_model_is_imported() {
    let imported = result(&model(one("Relu", &["a"]), vec![])).unwrap();
    assert_eq!(imported.model.graph().classes(), 5);
    assert_eq!(imported.origins[1], "conv");
}

#[test]
fn all_problems_are_told_at_once_by_node_and_operator() {
    let nodes = vec![
        node("up", "Resize", &["a"], "u", vec![]),
        node("after", "Relu", &["u"], "r", vec![]),
        node("lrn", "LRN", &["a"], "l", vec![]),
        NodeProto { domain: "com.example".into(), ..node("own", "Thing", &["a"], "t", vec![]) },
        node("sum", "Sum", &["r", "l", "t"], "b", vec![]),
    ];
    let text = refused(&model(nodes, vec![]), "3 nodes are not supported");
    for part in ["'up' (Resize)", "'lrn' (LRN)", "'own' (Thing)", "com.example"] {
        assert!(text.contains(part), "{text} should name {part}");
    }
    assert!(!text.contains("'after'") && !text.contains("'sum'"), "only causes are told: {text}");
}

#[test]
fn what_the_output_does_not_need_may_be_anything() {
    let mut nodes = one("Relu", &["a"]);
    nodes.push(node("aside", "Resize", &["a"], "aside", vec![]));
    assert!(result(&model(nodes, vec![])).is_ok());
}

#[test]
fn cycles_missing_tensors_and_doubles_are_refused() {
    let cycle = vec![node("x", "Add", &["a", "y"], "b", vec![]), node("z", "Relu", &["b"], "y", vec![])];
    refused(&model(cycle, vec![]), "which no earlier node writes");
    refused(&model(one("Add", &["a", "absent"]), vec![]), "which no earlier node writes");
    let twice = vec![node("x", "Relu", &["a"], "b", vec![]), node("y", "Relu", &["a"], "b", vec![])];
    refused(&model(twice, vec![]), "is already defined");
    let tensor = indices("two", &[1]);
    refused(&model(one("Relu", &["a"]), vec![tensor.clone(), tensor]), "is already defined");
    let same_names = vec![node("x", "Relu", &["a"], "r", vec![]), node("x", "Relu", &["r"], "b", vec![])];
    let names: Vec<String> = result(&model(same_names, vec![]))
        .unwrap()
        .model
        .graph()
        .nodes()
        .iter()
        .map(|n| n.name.clone())
        .collect();
    assert!(names.contains(&"x".to_string()) && names.contains(&"x.2".to_string()), "{names:?}");
}

#[test]
fn impossible_sizes_are_refused() {
    let with = |op: &str, list: &[i64]| model(one(op, &["a", "list"]), vec![indices("list", list)]);
    for (model, problem) in [
        (with("Reshape", &[0, -1, -1]), "cannot see"),
        (with("Reshape", &[0, i64::MAX, i64::MAX]), "cannot see"),
        (with("Reshape", &[0, -7]), "cannot see"),
        (with("Reshape", &[-1, 2, 6, 6]), "no axis of images"),
        (with("Reshape", &[-1, 5]), "cannot see"),
        (with("Reshape", &[0, 0, 0, 0, 0, 0]), "cannot see"),
        (with("Expand", &[1, i64::MAX, 1, 1]), "expands"),
        (with("Squeeze", &[99]), "axis 99 of 4"),
        (with("Squeeze", &[i64::MIN]), "axis"),
        (with("Unsqueeze", &[0]), "no axis of images"),
        (with("Pad", &[0, 0, i64::MAX, 0, 0, 0, 0, 0]), "a pad is"),
        (with("Pad", &[0, 0, 1 << 30, 1 << 30, 0, 0, 0, 0]), "too many"),
        (with("Pad", &[0, 0, -1, 0, 0, 0, 0, 0]), "a pad is -1"),
        (with("Pad", &[1, 0, 0, 0, 0, 0, 0, 0]), "images to the batch"),
        (with("Tile", &[1, 1, 1]), "repeats"),
        (with("Tile", &[2, 1, 1, 1]), "over the images"),
        (with("Tile", &[1, 1 << 20, 1, 1]), "repeats more than"),
        (with("Tile", &[1, i64::MAX, 1, 1]), "a repeat is"),
        (with("Pad", &[0; 7]), "7 pads for 4 axes"),
        (with("ReduceSum", &[0]), "over the images"),
    ] {
        refused(&model, problem);
    }
    for (mode, pads, problem) in [
        ("edge", [0, 0, 1 << 30, 0, 0, 0, 0, 0], "pads by more than"),
        ("edge", [0, 0, 100, 0, 0, 0, 0, 0], "more than 64 runs"),
        ("reflect", [0, 0, 1 << 30, 0, 0, 0, 0, 0], "pads by more than"),
        ("mirror", [0, 0, 1, 0, 0, 0, 0, 0], "'mirror' is not supported"),
    ] {
        let pad = node("x", "Pad", &["a", "list"], "b", vec![text("mode", mode)]);
        refused(&model(vec![pad], vec![indices("list", &pads)]), problem);
    }
    let conv = |attribute| {
        model(
            vec![node("x", "Conv", &["a", "k"], "b", vec![attribute])],
            vec![floats("k", &ArrayD::from_elem(vec![4, 4, 1, 1], 0.5))],
        )
    };
    for (attribute, problem) in [
        (int("group", 0), "groups"),
        (int("group", i64::MIN), "group is"),
        (int("group", 3), "groups"),
        (ints("strides", [0, 1]), "at least 1"),
        (ints("strides", [1]), "expected 2 numbers"),
        (ints("dilations", [-1, 1]), "dilations is -1"),
        (ints("pads", [i64::MAX; 4]), "pads is"),
        (ints("pads", [1 << 30; 4]), "too many"),
        (ints("kernel_shape", [3, 3]), "the weights have"),
        (float("group", 1.0), "is not of type"),
    ] {
        refused(&conv(attribute), problem);
    }
}

/// Flattens all values of a batch to one row and gathers from it by indices that continue from image to image, as
/// PyTorch writes `as_strided`.
fn strided(step: i64, offsets: impl Iterator<Item = i64>) -> ModelProto {
    let offsets: Vec<i64> = offsets.collect();
    let nodes = vec![
        node("row", "Reshape", &["a", "all"], "row", vec![]),
        node("shape", "Shape", &["input"], "shape", vec![]),
        node("count", "Gather", &["shape", "zero"], "count", vec![int("axis", 0)]),
        node("range", "Range", &["zero", "count", "one"], "range", vec![]),
        node("starts", "Mul", &["range", "step"], "starts", vec![]),
        node("wide", "Unsqueeze", &["starts", "axes"], "wide", vec![]),
        node("places", "Add", &["wide", "offsets"], "places", vec![]),
        node("x", "Gather", &["row", "places"], "b", vec![int("axis", 0)]),
    ];
    let offsets = TensorProto { dims: vec![1, 4, 6, 6], ..indices("offsets", &offsets) };
    let lists: [(&str, &[i64]); 5] =
        [("all", &[-1]), ("zero", &[0]), ("one", &[1]), ("step", &[step]), ("axes", &[1, 2, 3])];
    let lists = lists.map(|(name, values)| indices(name, values));
    model(nodes, lists.into_iter().chain([offsets]).collect())
}

#[test]
fn a_view_over_the_batch_is_one_of_each_image_or_refused() {
    let own = 4 * 6 * 6;
    let fixed = |model| with_batch(model, 2);
    let plain = result(&model(one("Identity", &["a"]), vec![])).unwrap();
    assert_eq!(result(&strided(own, 0..own)).unwrap().model.graph(), plain.model.graph());
    assert_eq!(result(&fixed(strided(own, 0..own))).unwrap().model.graph(), plain.model.graph());
    for (step, first) in [(own, 1), (own - 1, 0), (0, 0)] {
        let moved = strided(step, first..first + own);
        refused(&moved, "mixes the images");
        refused(&fixed(moved), "mixes the images");
    }
    refused(&strided(own, (0..own).rev()), "mixes the images");
    refused(&model(one("Reshape", &["a", "all"]), vec![indices("all", &[-1])]), "no axis of images");
}

#[test]
fn small_files_cannot_claim_much() {
    let nodes = vec![
        node("fill", "ConstantOfShape", &["huge"], "f", vec![]),
        node("x", "Add", &["a", "f"], "b", vec![]),
    ];
    refused(&model(nodes, vec![indices("huge", &[1 << 20, 1 << 20])]), "more than can be worked out");
    // Each node doubles the result of the one before.
    let mut doubling = vec![node("d0", "Concat", &["one", "one"], "d0", vec![int("axis", 0)])];
    for step in 1..60 {
        let (from, to) = (format!("d{}", step - 1), format!("d{step}"));
        doubling.push(node(&to, "Concat", &[&from, &from], &to, vec![int("axis", 0)]));
    }
    doubling.push(node("x", "Reshape", &["a", "d59"], "b", vec![]));
    refused(&model(doubling, vec![indices("one", &[1])]), "more than can be worked out");
    let mut copies = vec![node("s", "ConstantOfShape", &["many"], "s0", vec![])];
    for step in 0..200 {
        let (from, to) = (format!("s{step}"), format!("s{}", step + 1));
        copies.push(node(&to, "Cast", &[&from], &to, vec![int("to", 1)]));
    }
    copies.push(node("x", "Add", &["a", "s200"], "b", vec![]));
    refused(&model(copies, vec![indices("many", &[1 << 20])]), "more than can be worked out");
    let claims = TensorProto {
        dims: vec![1 << 40],
        data_type: DataType::Float as i32,
        name: "t".into(),
        ..TensorProto::default()
    };
    refused(&model(one("Add", &["a", "t"]), vec![claims]), "and holds 0");
    // One stored array that very many nodes read.
    let mut reuse = Vec::new();
    for step in 0..200 {
        let from = if step == 0 { "a".to_string() } else { format!("r{step}") };
        reuse.push(node(
            "l",
            "LayerNormalization",
            &[&from, "big"],
            &format!("r{}", step + 1),
            vec![int("axis", 1)],
        ));
    }
    reuse.push(node("x", "Relu", &["r200"], "b", vec![]));
    let ok = model(reuse, vec![floats("big", &ArrayD::from_elem(vec![4, 6, 6], 1.0))]);
    assert!(result(&ok).is_ok());
}

#[test]
fn weights_filled_with_one_value_are_bounded_and_read_as_stored_ones() {
    let filled = || node("fill", "ConstantOfShape", &["dims"], "f", vec![]);
    let nodes = |reader: NodeProto| model(vec![filled(), reader], vec![indices("dims", &[4, 4, 1, 1])]);
    let conv = nodes(node("x", "Conv", &["a", "f"], "b", vec![]));
    let stored = floats("f", &ArrayD::zeros(vec![4, 4, 1, 1]));
    let stored = model(one("Conv", &["a", "f"]), vec![stored]);
    let [conv, stored] = [conv, stored].map(|model| result(&model).unwrap().model);
    assert_eq!(conv, stored);
    // More than is worked out in advance may be claimed as weights, though not without bound.
    let claims = |dims: &[i64], nodes: Vec<NodeProto>| model(nodes, vec![indices("dims", dims)]);
    let sum = vec![
        filled(),
        node("s", "ReduceSum", &["f"], "s", vec![]),
        node("x", "Add", &["a", "s"], "b", vec![]),
    ];
    refused(&claims(&[1 << 27], sum), "more than can be worked out");
    refused(&claims(&[1 << 29], vec![filled(), node("x", "Conv", &["a", "f"], "b", vec![])]), "'fill'");
    refused(
        &claims(&[1 << 62, 1 << 62], vec![filled(), node("x", "Add", &["a", "f"], "b", vec![])]),
        "'fill'",
    );
}

#[test]
fn stored_integers_are_turned_into_numbers_once() {
    let integers = |count: usize| TensorProto {
        name: "q".into(),
        dims: vec![count as i64, 1, 1],
        data_type: DataType::Int8 as i32,
        raw_data: vec![3; count],
        ..TensorProto::default()
    };
    let turned = |name: &str| node(name, "DequantizeLinear", &["q", "scale"], name, vec![]);
    let scale = || floats("scale", &ArrayD::from_elem(vec![], 0.5));
    let nodes = vec![turned("t"), node("x", "Mul", &["a", "t"], "b", vec![])];
    assert!(result(&model(nodes, vec![integers(4), scale()])).is_ok());
    let mut nodes: Vec<NodeProto> = (0..100).map(|step| turned(&format!("t{step}"))).collect();
    let sums = (0..100).map(|step| {
        let from = if step == 0 { "a".to_string() } else { format!("s{step}") };
        let to = if step == 99 { "b".to_string() } else { format!("s{}", step + 1) };
        node(&to, "Add", &[&from, &format!("t{step}")], &to, vec![])
    });
    nodes.extend(sums);
    refused(&model(nodes, vec![integers(1 << 20), scale()]), "more than can be worked out");
    let scales = floats("scale", &ArrayD::from_elem(vec![3], 0.5));
    let nodes = vec![turned("t"), node("x", "Mul", &["a", "t"], "b", vec![])];
    refused(&model(nodes, vec![integers(4), scales]), "3 scales for axis 1");
}

#[test]
fn booleans_meet_only_what_reads_booleans() {
    let less = || node("less", "Less", &["a", "a"], "l", vec![]);
    refused(&model(vec![less(), node("x", "Relu", &["l"], "b", vec![])], vec![]), "booleans 'l'");
    refused(
        &model(vec![less(), node("x", "Where", &["a", "a", "a"], "b", vec![])], vec![]),
        "does not hold booleans",
    );
    refused(&model(one("And", &["a", "a"]), vec![]), "does not hold booleans");
    // One number for an image has no axis that a convolution could run over.
    let single = vec![
        node("pool", "ReduceMax", &["a"], "p", vec![ints("axes", [1, 2, 3]), int("keepdims", 0)]),
        node("x", "Conv", &["p", "w"], "b", vec![]),
    ];
    refused(&model(single, vec![]), "not those of a 0-D convolution");
    refused(&model(vec![less(), node("x", "Identity", &["l"], "b", vec![])], vec![]), "booleans 'b'");
    let quantised = vec![
        node("q", "QuantizeLinear", &["a", "scale"], "q", vec![]),
        node("x", "MaxPool", &["q"], "b", vec![ints("kernel_shape", [1, 1])]),
    ];
    refused(&model(quantised, vec![floats("scale", &ArrayD::from_elem(vec![], 0.5))]), "quantised 'q'");
}

#[test]
fn the_sum_around_an_even_number_of_channels_reaches_further_behind() {
    let lrn = node("x", "LRN", &["a"], "b", vec![int("size", 4)]);
    let imported = result(&model(vec![lrn], vec![])).unwrap();
    let pads: Vec<Op> = imported.model.graph().nodes().iter().map(|node| node.op.clone()).collect();
    let pad = Op::Pad { before: vec![0, 1, 0], after: vec![0, 2, 0], value: 0.0 };
    assert!(pads.contains(&pad), "{pads:?}");
}

#[test]
fn work_and_memory_do_not_multiply() {
    // A large constant that many nodes read.
    let mut nodes = vec![node("fill", "ConstantOfShape", &["large"], "fill", vec![])];
    for step in 0..100 {
        let name = format!("s{step}");
        nodes.push(node(&name, "ReduceSum", &["fill"], &name, vec![]));
    }
    let names: Vec<String> = (0..100).map(|step| format!("s{step}")).collect();
    let inputs: Vec<&str> = std::iter::once("a").chain(names.iter().map(String::as_str)).collect();
    nodes.push(node("x", "Sum", &inputs, "b", vec![]));
    refused(&model(nodes, vec![indices("large", &[1 << 23])]), "more than can be worked out");
    // A stored tensor under many names.
    let mut nodes = Vec::new();
    for step in 0..80 {
        let (name, from) =
            (format!("i{step}"), if step == 0 { "a".into() } else { format!("s{}", step - 1) });
        nodes.push(node("same", "Identity", &["big"], &name, vec![]));
        nodes.push(node("sum", "Add", &[&from, &name], &format!("s{step}"), vec![]));
    }
    nodes.push(node("slice", "Slice", &["s79", "zero", "one", "one"], "b", vec![]));
    let big = floats("big", &ArrayD::from_elem(vec![1 << 15, 4, 6, 6], 0.5));
    let lists = [indices("zero", &[0]), indices("one", &[1]), big];
    assert!(result(&model(nodes, lists.to_vec())).is_err());
    // A long name that many nodes would have.
    let long = "n".repeat(1 << 20);
    let many = vec!["a"; 10_000];
    let imported = result(&model(vec![node(&long, "Sum", &many, "b", vec![])], vec![])).unwrap();
    assert!(imported.model.graph().nodes().iter().all(|node| node.name.len() < 600));
}

#[test]
fn no_node_has_the_name_of_what_emission_adds_to_another() {
    let clip = node("x", "Clip", &["a", "low", "high"], "clipped", vec![]);
    let relu = node("x.min", "Relu", &["clipped"], "positive", vec![]);
    let conv = node("x.max", "Conv", &["positive", "k"], "seen", vec![]);
    let constant = node("y", "Mul", &["seen", "x.max.weight"], "b", vec![]);
    let number = |name: &str, value: f32| floats(name, &ArrayD::from_elem(vec![], value));
    let tensors = vec![
        number("low", 0.0),
        number("high", 1.0),
        number("x.max.weight", 2.0),
        floats("k", &ArrayD::from_elem(vec![4, 4, 1, 1], 0.5)),
    ];
    let first = result(&model(vec![clip, relu, conv, constant], tensors)).unwrap();
    let bytes = emit(&first.model, &plain_contract(first.model.graph()), None).unwrap();
    let second = import(&OnnxFile::from_bytes(bytes, Path::new("m.onnx")).unwrap()).unwrap();
    assert_eq!((first.model.graph(), first.model.weights()), (second.model.graph(), second.model.weights()));
}

#[test]
fn long_chains_need_no_stack() {
    let mut chain = Vec::new();
    for step in 0..20_000 {
        let from = if step == 0 { "a".to_string() } else { format!("r{step}") };
        chain.push(node("same", "Relu", &[&from], &format!("r{}", step + 1), vec![]));
    }
    chain.push(node("x", "Relu", &["r20000"], "b", vec![]));
    assert_eq!(result(&model(chain, vec![])).unwrap().model.graph().nodes().len(), 20_006);
}

#[test]
fn types_that_do_not_fit_are_refused() {
    let list = || vec![indices("list", &[1, 2]), floats("half", &ArrayD::from_elem(vec![2], 0.5))];
    for (nodes, problem) in [
        (one("Reshape", &["a", "half"]), "expected integers"),
        (one("Reshape", &["a", "a"]), "not the same for every image"),
        (one("Conv", &["a", "a"]), "depend on the image"),
        (one("Conv", &["a", "list"]), "expected floats"),
        (one("Conv", &["a", "half"]), "not those of a 2-D convolution"),
        (one("Conv", &["a"]), "input 1 is missing"),
        (one("BatchNormalization", &["a", "half", "half", "half", "half"]), "statistics of"),
        (one("BatchNormalization", &["a"]), "input 1 is missing"),
        (one("Add", &["a", "half"]), "not defined"),
        (one("MatMul", &["a", "half"]), "not a matrix"),
        (one("Gemm", &["a", "half"]), "not a row of features"),
        (one("Relu", &[]), "an input is missing"),
        (one("Clip", &["a", "half"]), "not one number"),
        (one("Gather", &["a", "half"]), "expected integers"),
        (vec![node("x", "Cast", &["a"], "b", vec![int("to", 7)])], "turns values into INT64"),
        (vec![node("x", "Cast", &["a"], "b", vec![int("to", i64::MAX)])], "unknown type"),
        (vec![node("x", "Transpose", &["a"], "b", vec![ints("perm", [0, 1, 1, 2])])], "not a permutation"),
        (vec![node("x", "Transpose", &["a"], "b", vec![ints("perm", [1, 0, 2, 3])])], "no axis of images"),
        (vec![node("x", "Softmax", &["a"], "b", vec![int("axis", 0)])], "over the images"),
        (vec![node("x", "MaxPool", &["a"], "b", vec![])], "at least 1"),
        (vec![node("x", "Flatten", &["a"], "b", vec![int("axis", 2)])], "no axis of images"),
        (
            vec![node(
                "x",
                "BatchNormalization",
                &["a", "h", "h", "h", "h"],
                "b",
                vec![int("training_mode", 1)],
            )],
            "as in training",
        ),
    ] {
        let mut tensors = list();
        tensors.push(floats("h", &ArrayD::from_elem(vec![4], 0.5)));
        refused(&model(nodes, tensors), problem);
    }
    let nan = floats("h", &ArrayD::from_elem(vec![4], f32::NAN));
    refused(&model(one("BatchNormalization", &["a", "h", "h", "h", "h"]), vec![nan]), "NaN");
}

#[test]
fn opsets_and_outputs_are_checked() {
    let mut old = model(one("Relu", &["a"]), vec![]);
    old.opset_import[0].version = 6;
    refused(&old, "opset 6");
    old.opset_import.clear();
    refused(&old, "opset 0");
    let mut image = model(one("Relu", &["a"]), vec![]);
    image.graph.as_mut().unwrap().output[0] = value("b", &[4, 6, 6]);
    refused(&image, "not a row of classes");
    image.graph.as_mut().unwrap().output[0] = value("w", &[4]);
    refused(&image, "same for every image");
    image.graph.as_mut().unwrap().output[0] = value("input", &[3, 6, 6]);
    refused(&image, "not a row of classes");
}

/// Random changes to the structure, which get further than changed bytes: names, numbers, types and places are
/// exchanged.
#[test]
fn changed_structures_do_no_harm() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/onnx");
    let mut random = ChaCha8Rng::seed_from_u64(11);
    let mut imported = 0;
    for entry in std::fs::read_dir(&folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "onnx") {
            continue;
        }
        let whole = ModelProto::decode(std::fs::read(&path).unwrap().as_slice()).unwrap();
        for _ in 0..150 {
            let mut model = whole.clone();
            for _ in 0..=random.next_u32() % 3 {
                disturb(model.graph.as_mut().unwrap(), &mut random);
            }
            let file = OnnxFile::from_bytes(model.encode_to_vec(), &path);
            imported += usize::from(file.and_then(|file| import(&file)).is_ok());
        }
    }
    assert!(imported > 100, "some changes are harmless: {imported}");
}

fn disturb(graph: &mut GraphProto, random: &mut ChaCha8Rng) {
    const NUMBERS: [i64; 12] = [0, 1, -1, 2, 3, 7, -8, 1 << 20, 1 << 31, 1 << 40, i64::MAX, i64::MIN];
    let mut draw = |below: usize| random.next_u32() as usize % below.max(1);
    let number = NUMBERS[draw(NUMBERS.len())];
    let place = draw(graph.node.len());
    let other = draw(graph.node.len());
    match draw(9) {
        0 => graph.node.swap(place, other),
        1 => {
            graph.node.remove(place);
        }
        2 => graph.node[place].op_type = graph.node[other].op_type.clone(),
        3 => {
            let from = graph.node[other].output[0].clone();
            let inputs = graph.node[place].input.len();
            graph.node[place]
                .input
                .get_mut(draw(inputs))
                .into_iter()
                .for_each(|input| input.clone_from(&from));
        }
        4 => {
            let tensors = graph.initializer.len();
            let tensor = graph.initializer.get_mut(draw(tensors));
            tensor.into_iter().flat_map(|tensor| tensor.dims.first_mut()).for_each(|dim| *dim = number);
        }
        5 => {
            let attributes = graph.node[place].attribute.len();
            if let Some(attribute) = graph.node[place].attribute.get_mut(draw(attributes)) {
                attribute.i = number;
                attribute.ints.iter_mut().for_each(|value| *value = number);
                attribute.f = number as f32;
            }
        }
        6 => {
            let tensors = graph.initializer.len();
            let kind = draw(24) as i32;
            graph.initializer.get_mut(draw(tensors)).into_iter().for_each(|tensor| tensor.data_type = kind);
        }
        7 => {
            let tensors = graph.initializer.len();
            if let Some(tensor) = graph.initializer.get_mut(draw(tensors))
                && tensor.data_type == DataType::Int64 as i32
            {
                let count = tensor.raw_data.len() / 8 + tensor.int64_data.len();
                *tensor = TensorProto { name: tensor.name.clone(), ..indices("", &vec![number; count]) };
            }
        }
        _ => graph.node[place].attribute.clear(),
    }
}
