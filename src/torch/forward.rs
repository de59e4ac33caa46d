//! The plain forward pass: one libtorch call per node, differentiable by libtorch. Verification takes it as the
//! reference, and training's faster passes are tested against it.

use anyhow::{Context, Result};
use tch::Tensor;

use crate::graph::{Graph, Node, Op};

use super::elementwise::{binary, choose, constant, quantize_dequantize, resize, unary};
use super::images::channel_shuffle;

/// Which statistics BatchNorm uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// The batch's own; the running statistics are updated.
    Train,
    /// The running statistics.
    Eval,
}

/// Runs `images`, `[batch, channels, height, width]`, and returns the graph's outputs in their
/// order. `params[i]` holds the parameters of node `i` in the order of
/// [`crate::graph::node_params`].
///
/// # Errors
/// If libtorch refuses a node; the error names it.
pub fn forward(graph: &Graph, params: &[Vec<Tensor>], images: &Tensor, mode: Mode) -> Result<Vec<Tensor>> {
    forward_through(graph, params, images, mode, &mut |_, value| Ok(value))
}

/// The same, with every node's value and place passed to `seen`; later nodes read the value that it returns.
///
/// # Errors
/// If libtorch refuses a node, or if `seen` fails.
pub fn forward_through(
    graph: &Graph,
    params: &[Vec<Tensor>],
    images: &Tensor,
    mode: Mode,
    seen: &mut dyn FnMut(usize, Tensor) -> Result<Tensor>,
) -> Result<Vec<Tensor>> {
    let mut uses = graph.uses();
    let mut values: Vec<Option<Tensor>> = Vec::with_capacity(graph.nodes().len());
    for (index, node) in graph.nodes().iter().enumerate() {
        let inputs: Vec<Tensor> = if matches!(node.op, Op::Input { .. } | Op::Constant { .. }) {
            vec![images.shallow_clone()]
        } else {
            let read = node.inputs.iter();
            read.filter_map(|id| values[id.index()].as_ref().map(Tensor::shallow_clone)).collect()
        };
        let value =
            compute(node, &params[index], &inputs, mode).with_context(|| format!("node '{}'", node.name))?;
        drop(inputs);
        values.push(Some(seen(index, value)?));
        for id in &node.inputs {
            uses[id.index()] -= 1;
            if uses[id.index()] == 0 {
                values[id.index()] = None;
            }
        }
    }
    graph
        .outputs()
        .iter()
        .map(|output| {
            let value = values[output.node.index()].as_ref();
            value.map(Tensor::shallow_clone).with_context(|| format!("output '{}' has no value", output.name))
        })
        .collect()
}

/// The value of one node that reads other nodes, with running statistics.
///
/// # Errors
/// If libtorch refuses it.
pub fn apply(node: &Node, params: &[Tensor], inputs: &[Tensor]) -> Result<Tensor, tch::TchError> {
    compute(node, params, inputs, Mode::Eval)
}

/// `inputs` are the values that a node reads; for an input and for a constant, they are the images.
fn compute(node: &Node, params: &[Tensor], inputs: &[Tensor], mode: Mode) -> Result<Tensor, tch::TchError> {
    let pair = |values: [usize; 2]| values.map(|value| value as i64);
    let x = &inputs[0];
    match &node.op {
        Op::Input { .. } => Ok(x.shallow_clone()),
        Op::Constant { values } => constant(values, x),
        Op::Conv2d(conv) => x.f_conv2d(
            &params[0],
            params.get(1),
            pair(conv.stride),
            pair(conv.padding),
            pair(conv.dilation),
            conv.groups as i64,
        ),
        Op::BatchNorm { eps, momentum } => {
            let [weight, bias, mean, variance] = [0, 1, 2, 3].map(|index| Some(&params[index]));
            x.f_batch_norm(weight, bias, mean, variance, mode == Mode::Train, *momentum, *eps, true)
        }
        Op::Relu => x.f_relu(),
        Op::Clip { min, max } => x.f_clamp(*min, *max),
        Op::MaxPool(pool) => {
            x.f_max_pool2d(pair(pool.kernel), pair(pool.stride), pair(pool.padding), [1, 1], pool.ceil_mode)
        }
        Op::AvgPool { pool, count_include_pad } => x.f_avg_pool2d(
            pair(pool.kernel),
            pair(pool.stride),
            pair(pool.padding),
            pool.ceil_mode,
            *count_include_pad,
            None,
        ),
        Op::GlobalAvgPool => x.f_mean_dim(&[2i64, 3][..], true, None),
        Op::Flatten => x.f_flatten(1, -1),
        Op::Linear { .. } => x.f_linear(&params[0], params.get(1)),
        Op::Add => {
            let mut sum = x.f_add(&inputs[1])?;
            for input in &inputs[2..] {
                sum = sum.f_add(input)?;
            }
            Ok(sum)
        }
        Op::Concat { axis } => joined(inputs, *axis as i64 + 1),
        Op::Slice { axis, start, end, step } => {
            x.f_slice(*axis as i64 + 1, *start as i64, *end as i64, *step as i64)
        }
        Op::ChannelShuffle { groups } => channel_shuffle(x, *groups as i64),
        Op::Unary(function) => unary(*function, x),
        Op::Binary(function) => binary(*function, x, &inputs[1]),
        Op::Where => choose(x, &inputs[1], &inputs[2]),
        Op::Softmax { axis } => x.f_softmax(*axis as i64 + 1, None),
        Op::LayerNorm { axes, eps } => {
            let shape: Vec<i64> =
                node.shape[node.shape.len() - axes..].iter().map(|&dim| dim as i64).collect();
            x.f_layer_norm(shape.as_slice(), Some(&params[0]), Some(&params[1]), *eps, false)
        }
        Op::InstanceNorm { eps } => {
            let none: Option<&Tensor> = None;
            x.f_instance_norm(Some(&params[0]), Some(&params[1]), none, none, true, 0.0, *eps, false)
        }
        Op::Resize(settings) => resize(settings, x),
        Op::QuantizeDequantize(settings) => quantize_dequantize(settings, x),
        Op::Max { axes } => x.f_amax(batched_axes(axes).as_slice(), true),
        Op::Mean { axes } => x.f_mean_dim(batched_axes(axes).as_slice(), true, None),
        Op::Reshape { .. } => {
            let shape = node.shape.iter().map(|&dim| dim as i64);
            x.f_reshape(std::iter::once(x.size()[0]).chain(shape).collect::<Vec<_>>().as_slice())
        }
        Op::Transpose { order } => {
            let order: Vec<i64> = std::iter::once(0).chain(batched_axes(order)).collect();
            x.f_permute(order.as_slice())
        }
        Op::Pad { before, after, value } => {
            let sides = before.iter().zip(after).rev().flat_map(|(&before, &after)| [before, after]);
            let sides: Vec<i64> = sides.map(|side| side as i64).collect();
            x.f_pad(sides.as_slice(), "constant", *value)
        }
        Op::MatMul => x.f_matmul(&inputs[1]),
    }
}

/// Joins tensors along an axis; a constant, which has one row for all images, is repeated.
fn joined(inputs: &[Tensor], axis: i64) -> Result<Tensor, tch::TchError> {
    let batch = inputs.iter().map(|input| input.size()[0]).max().unwrap_or(1);
    if inputs.iter().all(|input| input.size()[0] == batch) {
        return Tensor::f_cat(inputs, axis);
    }
    let spread = |input: &Tensor| {
        let mut size = input.size();
        size[0] = batch;
        input.f_expand(size.as_slice(), false)
    };
    Tensor::f_cat(&inputs.iter().map(spread).collect::<Result<Vec<_>, _>>()?, axis)
}

/// Axes of a sample as axes of a batch.
fn batched_axes(axes: &[usize]) -> Vec<i64> {
    axes.iter().map(|&axis| axis as i64 + 1).collect()
}
