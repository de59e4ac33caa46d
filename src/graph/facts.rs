//! Facts about every operation that are not a computation: its parameters, its cost, and the names that its
//! tensors take.
//!
//! The only exhaustive list behind `params.rs` and `cost.rs`. Knows operations and shapes; no graph and no
//! weights.

use super::op::{Binary, Op, Shape, Unary};

/// Facts about an operation with given input and output shapes.
#[derive(Debug, Clone, PartialEq)]
pub struct Facts {
    /// Parameters in the order in which the operation reads them: weight, bias, running mean, running variance.
    pub params: Vec<Param>,
    /// Multiply-accumulates for one image, in convolutions, linear layers and matrix products.
    pub macs: u64,
    /// Suffixes of the names that a file gives to tensors of a node, besides the node's own name.
    pub parts: &'static [&'static str],
}

/// How a parameter is initialised.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Init {
    /// Normal with variance `2 / fan_out` (He et al. 2015), for convolutions before a ReLU.
    KaimingFanOut {
        fan_out: usize,
    },
    /// Uniform in `±1/√fan_in`, PyTorch's initialisation of linear layers and of biases.
    UniformFanIn {
        fan_in: usize,
    },
    Zeros,
    Ones,
}

/// How training treats a parameter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Convolution and linear weights: trained, with weight decay.
    Weight,
    /// Biases and normalisation scales: trained; recipes often leave them without decay.
    NormOrBias,
    /// Running statistics: written by the forward pass, never by the optimiser.
    Buffer,
}

/// A parameter of an operation, independent of the node that has it.
#[derive(Debug, Clone, PartialEq)]
pub struct Param {
    /// The part of the parameter's name after the node's name.
    pub suffix: &'static str,
    pub shape: Shape,
    pub init: Init,
    pub role: Role,
}

impl Op {
    /// The facts of an operation that reads `inputs` and gives `output`, both as shapes for one image.
    pub fn facts(&self, inputs: &[&Shape], output: &Shape) -> Facts {
        let channels_in = || inputs.first().and_then(|shape| shape.first()).copied().unwrap_or(1);
        let features_in = || inputs.first().and_then(|shape| shape.last()).copied().unwrap_or(1);
        let product_macs = || elements(output) * features_in() as u64;
        let only = |parts: &'static [&'static str]| Facts { params: Vec::new(), macs: 0, parts };
        match self {
            Op::Conv2d(conv) => {
                let area = conv.kernel[0] * conv.kernel[1];
                let depth = channels_in() / conv.groups;
                let (fan_in, fan_out) = (depth * area, conv.out_channels / conv.groups * area);
                let shape = vec![conv.out_channels, depth, conv.kernel[0], conv.kernel[1]];
                let mut params = vec![weight(shape, Init::KaimingFanOut { fan_out })];
                params
                    .extend(conv.bias.then(|| bias(vec![conv.out_channels], Init::UniformFanIn { fan_in })));
                Facts { params, macs: elements(output) * (area * depth) as u64, parts: &["weight", "bias"] }
            }
            Op::BatchNorm { .. } => {
                let shape = vec![channels_in()];
                Facts {
                    params: vec![
                        scale(shape.clone()),
                        bias(shape.clone(), Init::Zeros),
                        buffer("running_mean", shape.clone(), Init::Zeros),
                        buffer("running_var", shape, Init::Ones),
                    ],
                    macs: 0,
                    parts: &["weight", "bias", "running_mean", "running_var"],
                }
            }
            Op::Linear { out_features, bias: biased } => {
                let init = Init::UniformFanIn { fan_in: features_in() };
                let mut params = vec![weight(vec![*out_features, features_in()], init)];
                params.extend(biased.then(|| bias(vec![*out_features], init)));
                Facts { params, macs: product_macs(), parts: &["weight", "bias", "product"] }
            }
            Op::LayerNorm { axes, .. } => {
                let shape = output[output.len().saturating_sub(*axes)..].to_vec();
                let params = vec![scale(shape.clone()), bias(shape, Init::Zeros)];
                Facts { params, macs: 0, parts: &["weight", "bias"] }
            }
            Op::InstanceNorm { .. } => {
                let shape = vec![channels_in()];
                let params = vec![scale(shape.clone()), bias(shape, Init::Zeros)];
                Facts { params, macs: 0, parts: &["weight", "bias"] }
            }
            Op::Resize(_) => only(&["scales", "shape", "first", "second", "images", "size", "sizes"]),
            Op::QuantizeDequantize(_) => only(&["scale", "zero", "quantized"]),
            Op::MatMul => Facts { macs: product_macs(), ..only(&[]) },
            Op::Clip { .. } => only(&["min", "max"]),
            Op::Slice { .. } => only(&["starts", "ends", "axes", "steps"]),
            Op::ChannelShuffle { .. } => only(&["grouped", "swapped", "grouped.shape", "shape"]),
            Op::Reshape { .. } => only(&["shape"]),
            Op::Where => only(&["condition"]),
            Op::Unary(Unary::Not) => only(&["condition", "truth"]),
            Op::Binary(Binary::Equal | Binary::Less | Binary::LessOrEqual) => only(&["truth"]),
            Op::Binary(Binary::And | Binary::Or) => only(&["first", "second", "truth"]),
            Op::Pad { .. } => only(&["pads", "value"]),
            // A sum of more than two inputs is written as several, whose names end in numbers; import makes none.
            Op::Add
            | Op::Input { .. }
            | Op::Constant { .. }
            | Op::Relu
            | Op::MaxPool(_)
            | Op::AvgPool { .. }
            | Op::GlobalAvgPool
            | Op::Flatten
            | Op::Concat { .. }
            | Op::Unary(_)
            | Op::Binary(_)
            | Op::Softmax { .. }
            | Op::Mean { .. }
            | Op::Max { .. }
            | Op::Transpose { .. } => only(&[]),
        }
    }
}

fn weight(shape: Shape, init: Init) -> Param {
    Param { suffix: "weight", shape, init, role: Role::Weight }
}

/// The scale of a normalisation.
fn scale(shape: Shape) -> Param {
    Param { suffix: "weight", shape, init: Init::Ones, role: Role::NormOrBias }
}

fn bias(shape: Shape, init: Init) -> Param {
    Param { suffix: "bias", shape, init, role: Role::NormOrBias }
}

fn buffer(suffix: &'static str, shape: Shape, init: Init) -> Param {
    Param { suffix, shape, init, role: Role::Buffer }
}

/// The number of values in a shape.
pub(super) fn elements(shape: &[usize]) -> u64 {
    shape.iter().map(|&dim| dim as u64).product()
}
