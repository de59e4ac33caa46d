//! The plain forward pass: one libtorch call a node, differentiable by libtorch. What verification
//! takes as the truth, and what training's faster passes are tested against.

use anyhow::{Context, Result};
use tch::Tensor;

use crate::graph::{Graph, Node, Op};

/// Which statistics BatchNorm uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Those of the batch; the running ones are updated.
    Train,
    /// The running ones.
    Eval,
}

/// Runs `images`, `[batch, channels, height, width]`, and returns the graph's outputs in their
/// order. `params[i]` holds the parameters of node `i` in the order of
/// [`crate::graph::node_params`].
///
/// # Errors
/// If libtorch refuses a node, which names it.
pub fn forward(graph: &Graph, params: &[Vec<Tensor>], images: &Tensor, mode: Mode) -> Result<Vec<Tensor>> {
    let mut uses = graph.uses();
    let mut values: Vec<Option<Tensor>> = Vec::with_capacity(graph.nodes().len());
    for (index, node) in graph.nodes().iter().enumerate() {
        let inputs: Vec<Tensor> = match node.op {
            Op::Input { .. } => vec![images.shallow_clone()],
            _ => node
                .inputs
                .iter()
                .filter_map(|id| values[id.index()].as_ref().map(Tensor::shallow_clone))
                .collect(),
        };
        let value =
            compute(node, &params[index], &inputs, mode).with_context(|| format!("node '{}'", node.name))?;
        drop(inputs);
        values.push(Some(value));
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

/// What libtorch makes of one node, with running statistics.
///
/// # Errors
/// If libtorch refuses it.
pub(super) fn apply(node: &Node, params: &[Tensor], inputs: &[Tensor]) -> Result<Tensor, tch::TchError> {
    compute(node, params, inputs, Mode::Eval)
}

fn compute(node: &Node, params: &[Tensor], inputs: &[Tensor], mode: Mode) -> Result<Tensor, tch::TchError> {
    let pair = |values: [usize; 2]| values.map(|value| value as i64);
    let x = &inputs[0];
    match &node.op {
        Op::Input { .. } => Ok(x.shallow_clone()),
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
        Op::Concat => Tensor::f_cat(inputs, 1),
        Op::SliceChannels { start, end } => x.f_narrow(1, *start as i64, (end - start) as i64),
        Op::ChannelShuffle { groups } => x.f_channel_shuffle(*groups as i64),
    }
}
