//! What an engine may have computed instead of a node: every known way in which runtimes go wrong is tried,
//! and one that reproduces the engine's values explains them.

use half::{bf16, f16};
use ndarray::{ArrayD, Axis, Slice};

use crate::engine::torch::node_value;
use crate::graph::{Coordinates, Model, Node, Op, Quantize, Resize, Unary, node_params};

use super::passes::distance;

/// A hypothesis explains values if it comes this many times closer to them than the correct computation does.
const CLOSER: f64 = 10.0;

/// Default epsilons of common frameworks.
const EPSILONS: [f64; 6] = [0.0, 1e-12, 1e-6, 1e-5, 1e-3, 1e-2];

/// Rounds a number to a format with fewer digits.
type Rounding = fn(f64) -> f64;

/// An alternative way to compute a node.
struct Hypothesis {
    name: String,
    op: Op,
    params: Vec<ArrayD<f64>>,
    inputs: Vec<ArrayD<f64>>,
}

/// The first hypothesis that reproduces `found`, where the node at `place` should give `own` on the same
/// inputs.
pub fn guess(
    model: &Model,
    place: usize,
    inputs: &[ArrayD<f64>],
    found: &ArrayD<f64>,
    own: &ArrayD<f64>,
) -> Option<String> {
    let (graph, weights) = (model.graph(), model.weights());
    let node = &graph.nodes()[place];
    let params: Option<Vec<ArrayD<f64>>> =
        node_params(graph, node).iter().map(|spec| Some(weights.get(&spec.name)?.mapv(f64::from))).collect();
    let limit = distance(own, found) / CLOSER;
    let explains = |hypothesis: &Hypothesis| {
        let node = Node { op: hypothesis.op.clone(), ..node.clone() };
        node_value(&node, &hypothesis.params, &hypothesis.inputs)
            .is_ok_and(|value| distance(&value, found) < limit)
    };
    hypotheses(node, &params?, inputs).into_iter().find(explains).map(|hypothesis| hypothesis.name)
}

fn hypotheses(node: &Node, params: &[ArrayD<f64>], inputs: &[ArrayD<f64>]) -> Vec<Hypothesis> {
    let mut hypotheses = Vec::new();
    let mut add = |name: String, op: Op, params: &[ArrayD<f64>], inputs: &[ArrayD<f64>]| {
        hypotheses.push(Hypothesis { name, op, params: params.to_vec(), inputs: inputs.to_vec() });
    };
    match &node.op {
        Op::BatchNorm { eps, momentum } => {
            for other in EPSILONS.into_iter().filter(|other| other != eps) {
                let op = Op::BatchNorm { eps: other, momentum: *momentum };
                add(format!("epsilon {} instead of {}", short(other), short(*eps)), op, params, inputs);
            }
        }
        Op::LayerNorm { axes, eps } => {
            for other in EPSILONS.into_iter().filter(|other| other != eps) {
                let op = Op::LayerNorm { axes: *axes, eps: other };
                add(format!("epsilon {} instead of {}", short(other), short(*eps)), op, params, inputs);
            }
        }
        Op::InstanceNorm { eps } => {
            for other in EPSILONS.into_iter().filter(|other| other != eps && *other > 0.0) {
                let op = Op::InstanceNorm { eps: other };
                add(format!("epsilon {} instead of {}", short(other), short(*eps)), op, params, inputs);
            }
        }
        Op::Resize(resize) => {
            for coordinates in [
                Coordinates::HalfPixel,
                Coordinates::PytorchHalfPixel,
                Coordinates::HalfPixelSymmetric,
                Coordinates::AlignCorners,
                Coordinates::Asymmetric,
            ] {
                if coordinates != resize.coordinates {
                    let op = Op::Resize(Resize { coordinates, ..resize.clone() });
                    add(
                        format!("coordinates {coordinates:?} instead of {:?}", resize.coordinates),
                        op,
                        params,
                        inputs,
                    );
                }
            }
        }
        Op::QuantizeDequantize(quantize) => {
            if quantize.axis.is_some() {
                let first = Quantize {
                    scales: vec![quantize.scales[0]; quantize.scales.len()],
                    zeros: vec![quantize.zeros[0]; quantize.zeros.len()],
                    ..quantize.clone()
                };
                add(
                    "the first channel's scale for all".into(),
                    Op::QuantizeDequantize(first),
                    params,
                    inputs,
                );
            }
        }
        Op::MaxPool(pool) => {
            let mut other = pool.clone();
            other.ceil_mode = !pool.ceil_mode;
            add(format!("ceil mode {}", other.ceil_mode), Op::MaxPool(other), params, inputs);
        }
        Op::AvgPool { pool, count_include_pad } => {
            let other = Op::AvgPool { pool: pool.clone(), count_include_pad: !count_include_pad };
            let counted = if *count_include_pad { "not counted" } else { "counted" };
            add(format!("padding {counted} in the average"), other, params, inputs);
            let mut other = pool.clone();
            other.ceil_mode = !pool.ceil_mode;
            let name = format!("ceil mode {}", other.ceil_mode);
            let op = Op::AvgPool { pool: other, count_include_pad: *count_include_pad };
            add(name, op, params, inputs);
        }
        Op::Conv2d(conv) => {
            if conv.padding != [0, 0] {
                for (side, name) in [(true, "before"), (false, "after")] {
                    let mut bare = conv.clone();
                    bare.padding = [0, 0];
                    let padded = padded_on_one_side(&inputs[0], conv.padding, side);
                    let name = format!("all padding {name} the image instead of on both sides");
                    add(name, Op::Conv2d(bare), params, &[padded]);
                }
            }
            let kernel = &params[0];
            let changed = |invert: &[usize]| {
                let mut kernel = kernel.clone();
                invert.iter().for_each(|&axis| kernel.invert_axis(Axis(axis)));
                [&[kernel.as_standard_layout().into_owned()], &params[1..]].concat()
            };
            add("kernels flipped".into(), node.op.clone(), &changed(&[2, 3]), inputs);
            add("channels in reverse order".into(), node.op.clone(), &changed(&[1]), inputs);
        }
        Op::Relu => {
            add("no activation".into(), Op::Unary(Unary::LeakyRelu { slope: 1.0 }), params, inputs);
        }
        Op::Clip { min, max } => {
            let (low, high) = (f64::NEG_INFINITY, f64::INFINITY);
            add("no upper bound".into(), Op::Clip { min: *min, max: high }, params, inputs);
            add("no lower bound".into(), Op::Clip { min: low, max: *max }, params, inputs);
        }
        Op::Unary(Unary::LeakyRelu { slope }) => {
            for other in [0.0, 0.01, 0.1, 0.2, 0.3].into_iter().filter(|other| other != slope) {
                let op = Op::Unary(Unary::LeakyRelu { slope: other });
                add(format!("slope {} instead of {}", short(other), short(*slope)), op, params, inputs);
            }
        }
        Op::Unary(Unary::HardSigmoid { alpha, beta }) => {
            for other in [0.2, 1.0 / 6.0].into_iter().filter(|other| other != alpha) {
                let op = Op::Unary(Unary::HardSigmoid { alpha: other, beta: *beta });
                add(format!("alpha {other:.3} instead of {alpha:.3}"), op, params, inputs);
            }
        }
        Op::Input { .. }
        | Op::Constant { .. }
        | Op::GlobalAvgPool
        | Op::Flatten
        | Op::Linear { .. }
        | Op::Add
        | Op::Concat { .. }
        | Op::Slice { .. }
        | Op::ChannelShuffle { .. }
        | Op::Unary(_)
        | Op::Binary(_)
        | Op::Where
        | Op::Softmax { .. }
        | Op::Mean { .. }
        | Op::Max { .. }
        | Op::Reshape { .. }
        | Op::Transpose { .. }
        | Op::Pad { .. }
        | Op::MatMul => {}
    }
    if let Op::Conv2d(_) | Op::Linear { .. } = node.op
        && let [_, bias] = params
    {
        let without = [params[0].clone(), ArrayD::zeros(bias.shape())];
        add("no bias".into(), node.op.clone(), &without, inputs);
    }
    if let Op::Conv2d(_) | Op::Linear { .. } | Op::MatMul = node.op {
        let roundings: [(&str, Rounding); 3] = [
            ("products in TF32", tf32),
            ("computed in float16", |value| f16::from_f64(value).to_f64()),
            ("computed in bfloat16", |value| bf16::from_f64(value).to_f64()),
        ];
        for (name, round) in roundings {
            let all = |arrays: &[ArrayD<f64>]| -> Vec<ArrayD<f64>> {
                arrays.iter().map(|array| array.mapv(round)).collect()
            };
            add(name.into(), node.op.clone(), &all(params), &all(inputs));
        }
    }
    hypotheses
}

/// A setting as the file stores it, in single precision.
fn short(value: f64) -> String {
    let single = value as f32;
    if single != 0.0 && single.abs() < 1e-3 { format!("{single:e}") } else { single.to_string() }
}

/// Rounds to ten bits of fraction, which is what tensor cores keep of a float32 (NVIDIA, "TensorFloat-32").
fn tf32(value: f64) -> f64 {
    let bits = (value as f32).to_bits();
    let rounded = bits.wrapping_add(0x0fff + ((bits >> 13) & 1)) & !0x1fff;
    f64::from(f32::from_bits(rounded))
}

/// The image with twice the padding above and to the left, or below and to the right.
fn padded_on_one_side(image: &ArrayD<f64>, [vertical, horizontal]: [usize; 2], before: bool) -> ArrayD<f64> {
    let mut shape = image.shape().to_vec();
    let (height, width) = (shape[2], shape[3]);
    shape[2] += 2 * vertical;
    shape[3] += 2 * horizontal;
    let mut padded = ArrayD::zeros(shape);
    let [top, left] = if before { [2 * vertical, 2 * horizontal] } else { [0, 0] };
    let mut middle = padded.slice_axis_mut(Axis(2), Slice::from(top..top + height));
    middle.slice_axis_mut(Axis(3), Slice::from(left..left + width)).assign(image);
    padded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tf32_keeps_ten_bits() {
        assert_eq!(tf32(1.0), 1.0);
        assert_eq!(tf32(1.0 + 2f64.powi(-10)), 1.0 + 2f64.powi(-10));
        assert_eq!(tf32(1.0 + 2f64.powi(-12)), 1.0);
        assert_eq!(tf32(-1.0 - 2f64.powi(-11) - 2f64.powi(-14)), -1.0 - 2f64.powi(-10));
    }
}
