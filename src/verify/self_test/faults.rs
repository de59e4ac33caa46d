//! Faults known to occur in exports, planted in a network.

use half::bf16;
use ndarray::{ArrayD, Axis};
use serde::{Deserialize, Serialize};

use crate::graph::{
    Binary, Builder, Graph, GraphError, Model, ModelError, Node, NodeId, Op, Pool, Unary, Weights,
    node_params,
};
use crate::seed::derive_seed;

/// Maximum number of places in which one kind of fault is planted.
const COPIES: usize = 2;

/// A kind of fault, of fixed size.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FaultKind {
    /// A normalisation's epsilon multiplied by 100.
    Epsilon,
    /// BatchNorm statistics halfway back to their initial values.
    StaleStatistics,
    /// A convolution's input channels in reverse order, like BGR instead of RGB.
    ChannelOrder,
    /// The sign of one weight flipped.
    Sign,
    /// All padding of a convolution before the image instead of on both sides.
    PaddingSide,
    /// A bias left out.
    Bias,
    /// Kernels rotated by 180 degrees.
    FlippedKernel,
    /// Another activation, such as a leaky ReLU, a clip without its upper bound or a piecewise linear
    /// sigmoid.
    Activation,
    /// Max and average pooling exchanged, padding counted or not, or the last row left out.
    Pooling,
    /// Two classes swapped.
    ClassOrder,
    /// The last input of a sum subtracted instead of added.
    Shortcut,
    /// One layer's weights rounded to bfloat16.
    Rounding,
}

impl FaultKind {
    pub const ALL: [Self; 12] = [
        Self::Epsilon,
        Self::StaleStatistics,
        Self::ChannelOrder,
        Self::Sign,
        Self::PaddingSide,
        Self::Bias,
        Self::FlippedKernel,
        Self::Activation,
        Self::Pooling,
        Self::ClassOrder,
        Self::Shortcut,
        Self::Rounding,
    ];

    /// Name shown to the user.
    pub fn name(self) -> &'static str {
        match self {
            Self::Epsilon => "epsilon x 100",
            Self::StaleStatistics => "stale BatchNorm statistics",
            Self::ChannelOrder => "input channels reversed",
            Self::Sign => "one weight's sign",
            Self::PaddingSide => "padding on one side",
            Self::Bias => "bias left out",
            Self::FlippedKernel => "kernels flipped",
            Self::Activation => "another activation",
            Self::Pooling => "another pooling",
            Self::ClassOrder => "two classes swapped",
            Self::Shortcut => "a sum's sign",
            Self::Rounding => "weights in bfloat16",
        }
    }
}

/// A network with one fault.
pub struct Faulty {
    /// Name of the node it was planted in.
    pub node: String,
    pub model: Model,
}

/// Plants a fault in up to `COPIES` copies of the network, each in another of the places that fit it; the
/// seed decides which.
///
/// # Errors
/// If a changed network is not valid.
pub fn plant(kind: FaultKind, model: &Model, seed: u64) -> Result<Vec<Faulty>, ModelError> {
    let mut places = places(kind, model);
    let start = derive_seed(seed, &["fault", kind.name()]) as usize % places.len().max(1);
    places.rotate_left(start);
    let copies = COPIES.min(places.len());
    // Spread over the network, so that early and late layers are covered.
    let chosen = (0..copies).map(|copy| places[copy * places.len() / copies]);
    chosen.map(|id| planted(kind, model, id, seed)).collect()
}

fn planted(kind: FaultKind, model: &Model, id: NodeId, seed: u64) -> Result<Faulty, ModelError> {
    let graph = model.graph();
    let mut changed = model.weights().clone();
    change_weights(kind, graph, id, &mut changed, seed);
    let graph_with_fault = graph.rewritten(&mut |builder, at, inputs| match at == id {
        true => write(kind, builder, graph.node(id), inputs),
        false => builder.add(&graph.node(at).name, graph.node(at).op.clone(), inputs),
    })?;
    Ok(Faulty { node: graph.node(id).name.clone(), model: Model::new(graph_with_fault, changed)? })
}

/// Nodes that can have the fault.
fn places(kind: FaultKind, model: &Model) -> Vec<NodeId> {
    let (graph, weights) = (model.graph(), model.weights());
    let logits = graph.output(Graph::LOGITS);
    let channels = |node: &Node| graph.input_shapes(node)[0][0];
    let has_bias = |node: &Node| {
        let mut specs = node_params(graph, node).into_iter().filter(|spec| spec.name.ends_with(".bias"));
        specs.any(|spec| weights.get(&spec.name).is_some_and(|bias| bias.iter().any(|&value| value != 0.0)))
    };
    let fits = |id: NodeId| {
        let node = graph.node(id);
        match (kind, &node.op) {
            (FaultKind::Epsilon, Op::BatchNorm { .. } | Op::LayerNorm { .. })
            | (FaultKind::StaleStatistics, Op::BatchNorm { .. })
            | (FaultKind::Sign | FaultKind::Rounding, Op::Conv2d(_) | Op::Linear { .. })
            | (FaultKind::Pooling, Op::MaxPool(_) | Op::AvgPool { .. })
            | (FaultKind::Shortcut, Op::Add) => true,
            (FaultKind::ChannelOrder, Op::Conv2d(conv)) => conv.groups == 1 && channels(node) > 1,
            (FaultKind::PaddingSide, Op::Conv2d(conv)) => conv.padding != [0, 0],
            (FaultKind::Bias, Op::Conv2d(_) | Op::Linear { .. } | Op::BatchNorm { .. }) => has_bias(node),
            (FaultKind::FlippedKernel, Op::Conv2d(conv)) => conv.kernel != [1, 1],
            (FaultKind::Activation, Op::Relu | Op::Clip { .. }) => true,
            (FaultKind::Activation, Op::Unary(function)) => other_activation(*function).is_some(),
            (FaultKind::Pooling, Op::GlobalAvgPool) => graph.input_shapes(node)[0][1] > 1,
            (FaultKind::ClassOrder, Op::Linear { .. } | Op::Conv2d(_)) => {
                node.shape[0] > 1 && logits.is_some_and(|logits| gives(graph, id, logits))
            }
            (FaultKind::Shortcut, Op::Binary(Binary::Add)) => true,
            (_, _) => false,
        }
    };
    (1..graph.nodes().len()).map(|index| graph.id(index)).filter(|&id| fits(id)).collect()
}

/// Whether a node computes the logits, up to a later reshape.
fn gives(graph: &Graph, id: NodeId, mut logits: NodeId) -> bool {
    while logits != id {
        if !matches!(graph.node(logits).op, Op::Flatten | Op::Reshape { .. }) {
            return false;
        }
        logits = graph.node(logits).inputs[0];
    }
    true
}

fn change_weights(kind: FaultKind, graph: &Graph, id: NodeId, weights: &mut Weights, seed: u64) {
    let node = graph.node(id);
    let mut change = |suffix: &str, change: &dyn Fn(&mut ArrayD<f32>)| {
        let name = format!("{}.{suffix}", node.name);
        if let Some(mut array) = weights.remove(&name) {
            change(&mut array);
            weights.insert(name, array.as_standard_layout().into_owned());
        }
    };
    match kind {
        FaultKind::StaleStatistics => {
            change("running_mean", &|mean| mean.mapv_inplace(|value| 0.5 * value));
            change("running_var", &|variance| variance.mapv_inplace(|value| 0.5 * value + 0.5));
        }
        FaultKind::ChannelOrder => change("weight", &|weight| weight.invert_axis(Axis(1))),
        FaultKind::Sign => change("weight", &|weight| {
            let place = derive_seed(seed, &["sign", &node.name]) as usize % weight.len();
            if let Some(value) = weight.iter_mut().nth(place) {
                *value = -*value;
            }
        }),
        FaultKind::Bias => change("bias", &|bias| bias.fill(0.0)),
        FaultKind::FlippedKernel => change("weight", &|weight| {
            weight.invert_axis(Axis(2));
            weight.invert_axis(Axis(3));
        }),
        FaultKind::ClassOrder => {
            for suffix in ["weight", "bias"] {
                change(suffix, &|array| {
                    let first = array.index_axis(Axis(0), 0).to_owned();
                    let second = array.index_axis(Axis(0), 1).to_owned();
                    array.index_axis_mut(Axis(0), 0).assign(&second);
                    array.index_axis_mut(Axis(0), 1).assign(&first);
                });
            }
        }
        FaultKind::Rounding => {
            change("weight", &|weight| weight.mapv_inplace(|value| bf16::from_f32(value).to_f32()));
        }
        FaultKind::Epsilon
        | FaultKind::PaddingSide
        | FaultKind::Activation
        | FaultKind::Pooling
        | FaultKind::Shortcut => {}
    }
}

/// Adds the node with its fault.
fn write(
    kind: FaultKind,
    builder: &mut Builder,
    node: &Node,
    inputs: &[NodeId],
) -> Result<NodeId, GraphError> {
    let name = node.name.as_str();
    match (kind, &node.op) {
        (FaultKind::Epsilon, Op::BatchNorm { eps, momentum }) => {
            builder.add(name, Op::BatchNorm { eps: 100.0 * eps, momentum: *momentum }, inputs)
        }
        (FaultKind::Epsilon, Op::LayerNorm { axes, eps }) => {
            builder.add(name, Op::LayerNorm { axes: *axes, eps: 100.0 * eps }, inputs)
        }
        (FaultKind::PaddingSide, Op::Conv2d(conv)) => {
            let [vertical, horizontal] = conv.padding;
            let before = vec![0, 2 * vertical, 2 * horizontal];
            let pad = Op::Pad { before, after: vec![0; 3], value: 0.0 };
            let padded = builder.add(format!("{name}.pad"), pad, inputs)?;
            let mut bare = conv.clone();
            bare.padding = [0, 0];
            builder.add(name, Op::Conv2d(bare), &[padded])
        }
        (FaultKind::Activation, Op::Relu) => {
            builder.add(name, Op::Unary(Unary::LeakyRelu { slope: 0.01 }), inputs)
        }
        (FaultKind::Activation, Op::Clip { .. }) => builder.add(name, Op::Relu, inputs),
        (FaultKind::Activation, Op::Unary(function)) => {
            builder.add(name, Op::Unary(other_activation(*function).unwrap_or(*function)), inputs)
        }
        (FaultKind::Pooling, Op::MaxPool(pool)) => {
            builder.add(name, Op::AvgPool { pool: pool.clone(), count_include_pad: false }, inputs)
        }
        (FaultKind::Pooling, Op::AvgPool { pool, count_include_pad }) => {
            let op = match pool.padding {
                [0, 0] => Op::MaxPool(Pool { ..pool.clone() }),
                _ => Op::AvgPool { pool: pool.clone(), count_include_pad: !count_include_pad },
            };
            builder.add(name, op, inputs)
        }
        (FaultKind::Pooling, Op::GlobalAvgPool) => {
            let height = builder.shape(inputs[0])[1];
            let rows = Op::Slice { axis: 1, start: 0, end: height - 1, step: 1 };
            let rows = builder.add(format!("{name}.rows"), rows, inputs)?;
            builder.add(name, Op::GlobalAvgPool, &[rows])
        }
        (FaultKind::Shortcut, Op::Add | Op::Binary(Binary::Add)) => {
            let [first, .., last] = inputs else { return builder.add(name, node.op.clone(), inputs) };
            let sum = match inputs.len() {
                2 => *first,
                more => builder.add(format!("{name}.sum"), Op::Add, &inputs[..more - 1])?,
            };
            builder.add(name, Op::Binary(Binary::Sub), &[sum, *last])
        }
        (_, op) => builder.add(name, op.clone(), inputs),
    }
}

/// The activation that the fault puts in place of a function.
fn other_activation(function: Unary) -> Option<Unary> {
    match function {
        Unary::LeakyRelu { slope } => Some(Unary::LeakyRelu { slope: 10.0 * slope }),
        Unary::Sigmoid => Some(Unary::HardSigmoid { alpha: 0.2, beta: 0.5 }),
        Unary::HardSigmoid { alpha, beta } => Some(Unary::HardSigmoid { alpha: 1.2 * alpha, beta }),
        Unary::Erf => Some(Unary::Tanh),
        Unary::Tanh
        | Unary::Exp
        | Unary::Log
        | Unary::Sqrt
        | Unary::Abs
        | Unary::Neg
        | Unary::Reciprocal
        | Unary::Softplus
        | Unary::Floor
        | Unary::Ceil
        | Unary::Round
        | Unary::Sign
        | Unary::Sin
        | Unary::Cos
        | Unary::Tan
        | Unary::Asin
        | Unary::Acos
        | Unary::Atan
        | Unary::Sinh
        | Unary::Cosh
        | Unary::Asinh
        | Unary::Acosh
        | Unary::Atanh
        | Unary::Not => None,
    }
}
