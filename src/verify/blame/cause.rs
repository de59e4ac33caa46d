//! Why two nodes that should do the same do not: differences in their settings, inputs and weights.

use ndarray::ArrayD;

use crate::graph::{Graph, Model, Node, Op, Pool, node_params};

use super::weights::{channel_scales, difference};

/// Every difference between the node at `place` and its partner, if it has one. `pairs` matches the nodes of both
/// graphs.
pub fn cause(found: &Model, expected: &Model, place: usize, pairs: &[Option<usize>]) -> Option<String> {
    let partner = pairs[place]?;
    let (node, other) = (&found.graph().nodes()[place], &expected.graph().nodes()[partner]);
    let mut causes = Vec::new();
    if node.op.kind() == other.op.kind() {
        causes.extend(settings_differ(&node.op, &other.op));
    } else {
        causes.push(format!("{} where {} is expected", node.op.kind(), other.op.kind()));
    }
    causes.extend(inputs_differ(found.graph(), expected.graph(), node, other, pairs));
    if node.op.kind() == other.op.kind() {
        let specs = node_params(found.graph(), node).into_iter().zip(node_params(expected.graph(), other));
        causes.extend(specs.filter_map(|(spec, other)| {
            difference(&spec.name, found.weights().get(&spec.name)?, expected.weights().get(&other.name)?)
        }));
        if let (Op::Constant { values }, Op::Constant { values: expected }) = (&node.op, &other.op) {
            causes.extend(difference(&node.name, values, expected));
        }
    }
    (!causes.is_empty()).then(|| causes.join("; "))
}

/// Settings of two operations of the same kind that differ.
fn settings_differ(found: &Op, expected: &Op) -> Vec<String> {
    let pairs = settings(found).into_iter().zip(settings(expected));
    let differ = pairs.filter(|((_, found), (_, expected))| found != expected);
    differ.map(|((name, found), (_, expected))| format!("{name} {found} instead of {expected}")).collect()
}

/// Inputs of a node that its partner does not have.
fn inputs_differ(
    graph: &Graph,
    reference: &Graph,
    node: &Node,
    other: &Node,
    pairs: &[Option<usize>],
) -> Vec<String> {
    let told = |node: &Node| format!("'{}' ({})", node.name, node.op.kind());
    if node.inputs.len() != other.inputs.len() {
        return vec![format!("{} inputs instead of {}", node.inputs.len(), other.inputs.len())];
    }
    let both = node.inputs.iter().zip(&other.inputs);
    let differ = both.filter(|(input, expected)| pairs[input.index()] != Some(expected.index()));
    let differ = differ.map(|(input, expected)| [told(graph.node(*input)), told(reference.node(*expected))]);
    // An input of the same name and operation that has no partner is wrong itself, which is told of it.
    differ
        .filter(|[found, expected]| found != expected)
        .map(|[found, expected]| format!("reads {found} instead of {expected}"))
        .collect()
}

/// Every setting of an operation that decides what it computes, under its usual name.
fn settings(op: &Op) -> Vec<(&'static str, String)> {
    let text = |name, value: &dyn std::fmt::Debug| (name, format!("{value:?}"));
    match op {
        Op::Input { shape } | Op::Reshape { shape } => vec![text("shape", shape)],
        Op::Conv2d(conv) => vec![
            text("kernel", &conv.kernel),
            text("stride", &conv.stride),
            text("padding", &conv.padding),
            text("dilation", &conv.dilation),
            text("groups", &conv.groups),
        ],
        Op::BatchNorm { eps, momentum: _ } => vec![text("epsilon", &(*eps as f32))],
        Op::Clip { min, max } => {
            vec![text("lower bound", &(*min as f32)), text("upper bound", &(*max as f32))]
        }
        Op::MaxPool(pool) => window(pool),
        Op::AvgPool { pool, count_include_pad } => {
            let mut all = window(pool);
            all.push(text("count_include_pad", count_include_pad));
            all
        }
        Op::Linear { out_features, bias: _ } => vec![text("outputs", out_features)],
        Op::Concat { axis } | Op::Softmax { axis } => vec![text("axis", axis)],
        Op::Slice { axis, start, end, step } => {
            vec![text("axis", axis), text("start", start), text("end", end), text("step", step)]
        }
        Op::ChannelShuffle { groups } => vec![text("groups", groups)],
        Op::Unary(function) => vec![text("function", function)],
        Op::Binary(function) => vec![text("function", function)],
        Op::LayerNorm { axes, eps } => vec![text("axes", axes), text("epsilon", &(*eps as f32))],
        Op::Mean { axes } | Op::Max { axes } => vec![text("axes", axes)],
        Op::InstanceNorm { eps } => vec![text("epsilon", &(*eps as f32))],
        Op::Resize(resize) => vec![
            text("size", &resize.size),
            text("scale", &resize.scale),
            text("filter", &resize.filter),
            text("coordinates", &resize.coordinates),
        ],
        Op::QuantizeDequantize(quantize) => vec![
            text("scales", &quantize.scales),
            text("zero points", &quantize.zeros),
            text("axis", &quantize.axis),
        ],
        Op::Transpose { order } => vec![text("order of axes", order)],
        Op::Pad { before, after, value } => {
            vec![text("padding before", before), text("padding after", after), text("value", value)]
        }
        Op::Constant { .. }
        | Op::Relu
        | Op::GlobalAvgPool
        | Op::Flatten
        | Op::Add
        | Op::Where
        | Op::MatMul => Vec::new(),
    }
}

fn window(pool: &Pool) -> Vec<(&'static str, String)> {
    let text = |name, value: &dyn std::fmt::Debug| (name, format!("{value:?}"));
    vec![
        text("kernel", &pool.kernel),
        text("stride", &pool.stride),
        text("padding", &pool.padding),
        text("ceil_mode", &pool.ceil_mode),
    ]
}

/// What must have been different in the BatchNorm after a convolution, if that explains the convolution into
/// which it was folded: `W' = W · s`, `b' = β + (b − μ) · s` with `s = γ/√(σ² + ε)` per output channel, so that
/// `σ² + ε` and `μ` follow from the file's weights.
pub fn folded_norm(
    weight: &ArrayD<f32>,
    bias: &ArrayD<f32>,
    unfolded: &Model,
    conv: &Node,
    norm: &Node,
) -> Option<String> {
    let Op::BatchNorm { eps, .. } = norm.op else { return None };
    let param = |node: &Node, suffix: &str| unfolded.weights().get(&format!("{}.{suffix}", node.name));
    let scales = channel_scales(weight, param(conv, "weight")?)?;
    let channel = |array: &ArrayD<f32>, at: usize| f64::from(array[[at].as_slice()]);
    let [gamma, beta] = [param(norm, "weight")?, param(norm, "bias")?];
    let [mean, variance] = [param(norm, "running_mean")?, param(norm, "running_var")?];
    let spreads: Vec<f64> =
        scales.iter().enumerate().map(|(at, scale)| (channel(gamma, at) / scale).powi(2)).collect();
    let means = scales.iter().enumerate().map(|(at, scale)| {
        let before = param(conv, "bias").map_or(0.0, |bias| channel(bias, at));
        before - (channel(bias, at) - channel(beta, at)) / scale
    });
    let spread_at = |at: usize| spreads[at].sqrt().max(1e-3);
    let same_means =
        means.enumerate().all(|(at, found)| (found - channel(mean, at)).abs() <= 1e-4 * spread_at(at));
    let epsilons: Vec<f64> =
        spreads.iter().enumerate().map(|(at, spread)| spread - channel(variance, at)).collect();
    let all_are = |value: f64| {
        epsilons.iter().zip(&spreads).all(|(epsilon, spread)| (epsilon - value).abs() <= 1e-5 * spread)
    };
    // Where the variance is smallest, epsilon can be told most precisely.
    let best = (0..spreads.len()).min_by(|&a, &b| spreads[a].total_cmp(&spreads[b]))?;
    match (same_means, all_are(eps), all_are(epsilons[best])) {
        (true, true, _) => None,
        (true, false, true) => {
            Some(format!("epsilon {:.1e} instead of {eps:.1e} in '{}'", epsilons[best], norm.name))
        }
        (true, false, false) | (false, _, _) => Some(format!(
            "running statistics that differ from those of '{}', as if they were stale",
            norm.name
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::{Builder, Unary};

    #[test]
    fn an_input_is_only_told_apart_by_what_is_said_of_it() {
        let model = |last: &str| {
            let (mut builder, image) = Builder::new(vec![1, 2, 2]).unwrap();
            let first = builder.add("first", Op::Relu, &[image]).unwrap();
            let other = builder.add("other", Op::Unary(Unary::Sigmoid), &[image]).unwrap();
            let read = if last == "first" { first } else { other };
            let last = builder.add("last", Op::Relu, &[read]).unwrap();
            Model::untrained(builder.finish(&[(Graph::LOGITS, last)]), 0)
        };
        let (found, expected) = (model("first"), model("other"));
        let mut pairs: Vec<Option<usize>> = (0..found.graph().nodes().len()).map(Some).collect();
        let last = found.graph().nodes().iter().position(|node| node.name == "last").unwrap();
        let told = cause(&found, &expected, last, &pairs).unwrap();
        assert!(told.starts_with("reads 'first' (") && told.contains("instead of 'other' ("), "{told}");
        // The input has no partner, but it is called as the one that is expected.
        pairs[found.graph().nodes()[last].inputs[0].index()] = None;
        assert_eq!(cause(&found, &found, last, &pairs), None);
    }
}
