//! Tests of data whose images move to another axis: windows and tokens before images, and back.

use ndarray::ArrayD;
use tract_onnx::pb::{ModelProto, NodeProto, TensorProto};

use super::super::proto::{floats, indices, int, ints, node, text};
use super::hostile::{model, refused, result, with_batch};
use crate::graph::Op;

/// A model whose nodes begin with two views of `a`, `[N, 4, 6, 6]`: by shape `first`, then by an order of axes; they give
/// `seen`. More nodes and lists may follow.
fn viewed(first: &[i64], order: &[i64], more: Vec<NodeProto>, lists: &[(&str, &[i64])]) -> ModelProto {
    let mut nodes = vec![
        node("first", "Reshape", &["a", "first.shape"], "r", vec![]),
        node("turned", "Transpose", &["r"], "seen", vec![ints("perm", order.iter().copied())]),
    ];
    nodes.extend(more);
    let tensors: Vec<TensorProto> = std::iter::once(("first.shape", first))
        .chain(lists.iter().copied())
        .map(|(name, values)| indices(name, values))
        .collect();
    model(nodes, tensors)
}

fn reshape(input: &str, list: &str, output: &str) -> NodeProto {
    node(output, "Reshape", &[input, list], output, vec![])
}

/// The operations between the first convolution and the pooling.
fn between(model: &ModelProto) -> Vec<Op> {
    let imported = result(model).unwrap();
    let ops: Vec<Op> = imported.model.graph().nodes().iter().map(|node| node.op.clone()).collect();
    let end = ops.iter().position(|op| *op == Op::GlobalAvgPool).unwrap();
    ops[2..end].to_vec()
}

#[test]
fn windows_may_be_joined_with_the_images_and_parted_again() {
    // [N, 2, 2, 6, 6] as [2N, 2, 36], a softmax over the last axis, and back.
    let nodes = vec![
        reshape("seen", "windows", "parts"),
        node("softmax", "Softmax", &["parts"], "s", vec![int("axis", 2)]),
        reshape("s", "back", "b"),
    ];
    let lists: [(&str, &[i64]); 2] = [("windows", &[-1, 2, 36]), ("back", &[-1, 4, 6, 6])];
    let shape = |dims: &[usize]| Op::Reshape { shape: dims.to_vec() };
    assert_eq!(
        between(&viewed(&[-1, 2, 2, 6, 6], &[0, 1, 2, 3, 4], nodes, &lists)),
        [shape(&[2, 2, 36]), Op::Softmax { axis: 2 }, shape(&[4, 6, 6])]
    );
}

#[test]
fn tokens_may_come_before_the_images() {
    // [N, 4, 36] as [36, N, 4], then [36N, 4] and back: only the axes of one image change their order.
    let nodes = vec![
        reshape("seen", "rows.shape", "rows"),
        node("relu", "Relu", &["rows"], "relu", vec![]),
        reshape("relu", "tokens.shape", "tokens"),
        node("again", "Transpose", &["tokens"], "t", vec![ints("perm", [1, 2, 0])]),
        reshape("t", "back", "b"),
    ];
    let lists: [(&str, &[i64]); 3] =
        [("rows.shape", &[-1, 4]), ("tokens.shape", &[36, -1, 4]), ("back", &[-1, 4, 6, 6])];
    let found = between(&viewed(&[-1, 4, 36], &[2, 0, 1], nodes, &lists));
    let turns = found.iter().filter(|op| matches!(op, Op::Transpose { .. })).count();
    assert_eq!((turns, found.contains(&Op::Relu), found.len()), (2, true, 7), "{found:?}");
}

#[test]
fn the_axis_of_the_images_is_left_alone() {
    let last = |node: NodeProto| vec![node, reshape("s", "back", "b")];
    let back: (&str, &[i64]) = ("back", &[-1, 4, 6, 6]);
    let windows: &[i64] = &[-1, 2, 2, 6, 6];
    // [2, N, 2, 6, 6]: the images are axis 1.
    let order = [1, 0, 2, 3, 4];
    let with = |node: NodeProto| viewed(windows, &order, last(node), &[back, ("one", &[1]), ("zero", &[0])]);
    for (op, attributes) in [("Softmax", vec![int("axis", 1)]), ("ReduceMean", vec![ints("axes", [1])])] {
        refused(&with(node("x", op, &["seen"], "s", attributes)), "over the images of a batch, along axis 1");
    }
    refused(&with(node("x", "ReduceSum", &["seen", "one"], "s", vec![])), "over the images");
    let cut = node("x", "Slice", &["seen", "zero", "one", "one"], "s", vec![]);
    refused(&with(cut), "over the images");
    refused(&with(node("x", "Gather", &["seen", "zero"], "s", vec![int("axis", 1)])), "over the images");
    refused(&with(node("x", "Concat", &["seen", "seen"], "s", vec![int("axis", 1)])), "over the images");
    refused(&with(node("x", "Conv", &["seen", "w"], "s", vec![])), "no axis of images");
    refused(&with(node("x", "Add", &["seen", "r"], "s", vec![])), "along different axes");
    refused(&with(node("x", "MatMul", &["seen", "w"], "s", vec![])), "not a matrix");
    // The images come last: they are what a softmax over the last axis would mix.
    let ends = viewed(
        windows,
        &[1, 2, 3, 4, 0],
        last(node("x", "Softmax", &["seen"], "s", vec![int("axis", -1)])),
        &[back],
    );
    refused(&ends, "over the images");
    // [2, N, 2, 6, 6] cannot be cut into rows of 5, nor be plain images again without turning.
    refused(&viewed(windows, &order, vec![reshape("seen", "back", "b")], &[back]), "mixes the images");
    // Values for each image cannot be known.
    let known: (&str, &[i64]) = ("known", &[1, 2]);
    let add = vec![
        node("cast", "Cast", &["known"], "floats", vec![int("to", 1)]),
        node("wide", "Unsqueeze", &["floats", "places"], "wide", vec![]),
        node("x", "Add", &["seen", "wide"], "s", vec![]),
        reshape("s", "back", "b"),
    ];
    refused(
        &viewed(windows, &order, add, &[back, known, ("places", &[1, 2, 3])]),
        "is not the same for every image",
    );
}

#[test]
fn layers_know_where_the_images_are() {
    // [2, N, 2, 6, 6], whose channels are axis 2 as [2, N, 2, 36], and rows of tokens [36N, 4] with channels last.
    let back: (&str, &[i64]) = ("back", &[-1, 4, 6, 6]);
    let pads = |list: &[i64]| {
        let nodes = vec![
            node("pad", "Pad", &["seen", "pads"], "p", vec![]),
            node("cut", "Slice", &["p", "start", "end", "axis"], "cut", vec![]),
            node("turn", "Transpose", &["cut"], "t", vec![ints("perm", [1, 0, 2, 3, 4])]),
            reshape("t", "back", "b"),
        ];
        let pads = ("pads", list);
        let lists: [(&str, &[i64]); 5] = [back, pads, ("start", &[1]), ("end", &[7]), ("axis", &[3])];
        viewed(&[-1, 2, 2, 6, 6], &[1, 0, 2, 3, 4], nodes, &lists)
    };
    let found = between(&pads(&[0, 0, 0, 1, 0, 0, 0, 0, 1, 0]));
    let before = vec![0, 0, 1, 0];
    assert!(found.iter().any(|op| matches!(op, Op::Pad { before: b, .. } if b[1..] == before)), "{found:?}");
    refused(&pads(&[0, 1, 0, 0, 0, 0, 0, 0, 0, 0]), "images to the batch");
    let normed = |statistics: &[i64]| {
        let ones = |name: &'static str| node(name, "Cast", &["statistics"], name, vec![int("to", 1)]);
        let nodes = vec![
            reshape("seen", "rows.shape", "rows"),
            ones("s"),
            node("norm", "BatchNormalization", &["rows", "s", "s", "s", "s"], "n", vec![]),
            reshape("n", "tokens.shape", "tokens"),
            node("turn", "Transpose", &["tokens"], "t", vec![ints("perm", [0, 2, 1])]),
            reshape("t", "back", "b"),
        ];
        let lists: [(&str, &[i64]); 4] =
            [back, ("rows.shape", &[-1, 4]), ("tokens.shape", &[-1, 36, 4]), ("statistics", statistics)];
        viewed(&[-1, 4, 36], &[0, 2, 1], nodes, &lists)
    };
    let found = between(&normed(&[1, 2, 3, 4]));
    assert!(found.iter().any(|op| matches!(op, Op::BatchNorm { .. })), "{found:?}");
    refused(&normed(&[1; 36]), "statistics of [36]");
}

#[test]
fn constants_are_repeated_for_every_image() {
    // A row of four values is put before the rows of every image, like a class token.
    let nodes = |axis: i64| {
        vec![
            node("cast", "Cast", &["token"], "floats", vec![int("to", 1)]),
            node("seen4", "Reshape", &["floats", "token.shape"], "row", vec![]),
            node("size", "Shape", &["input"], "size", vec![int("end", 1)]),
            node("wanted", "Concat", &["size", "token.rest"], "wanted", vec![int("axis", 0)]),
            node("spread", "Expand", &["row", "wanted"], "spread", vec![]),
            node("joined", "Concat", &["spread", "seen"], "j", vec![int("axis", axis)]),
            node("mean", "ReduceMean", &["j"], "m", vec![ints("axes", [1])]),
            reshape("m", "back", "b"),
        ]
    };
    let lists: [(&str, &[i64]); 4] = [
        ("token", &[1, 2, 3, 4]),
        ("token.shape", &[1, 1, 4]),
        ("token.rest", &[1, 4]),
        ("back", &[-1, 4, 1, 1]),
    ];
    let found = between(&viewed(&[-1, 4, 36], &[0, 2, 1], nodes(1), &lists));
    assert!(found.iter().any(|op| matches!(op, Op::Concat { axis: 0 })), "{found:?}");
    assert!(
        found.iter().any(|op| matches!(op, Op::Constant { values } if values.shape() == [1, 4])),
        "{found:?}"
    );
    refused(&viewed(&[-1, 4, 36], &[0, 2, 1], nodes(0), &lists), "over the images");
}

#[test]
fn with_one_image_all_axes_are_alike() {
    // [4, 1, 36], a softmax over the first axis, and an Einsum over it; none of it works with a free batch.
    let nodes = vec![
        node("softmax", "Softmax", &["seen"], "s", vec![int("axis", 0)]),
        node("sum", "Einsum", &["s", "seen"], "e", vec![text("equation", "cnp,cnq->npq")]),
        node("mean", "ReduceMean", &["e"], "m", vec![ints("axes", [2])]),
        reshape("m", "back", "b"),
    ];
    let lists: [(&str, &[i64]); 1] = [("back", &[-1, 1, 6, 6])];
    let mut free = viewed(&[-1, 4, 36], &[1, 0, 2], nodes, &lists);
    // The result has one channel, where the other models have four.
    let weights = &mut free.graph.as_mut().unwrap().initializer;
    weights.retain(|tensor| tensor.name != "head.w");
    weights.push(floats("head.w", &ArrayD::from_elem(vec![1, 5], 0.1)));
    refused(&free, "along an axis of their own");
    let found = between(&with_batch(free, 1));
    assert!(found.contains(&Op::MatMul) && found.contains(&Op::Softmax { axis: 0 }), "{found:?}");
}
