//! The closed set of operations.
//!
//! Every number that decides what an operation computes (eps, padding, ceil mode) is written here, so that no
//! interpreter has a default of its own. The shape of each operation's value is in `shape.rs`.

use ndarray::ArrayD;

use super::quantize::Quantize;
use super::resize::Resize;

/// Dimensions of one sample, without the batch: `[channels, height, width]` or `[features]`.
pub type Shape = Vec<usize>;

/// One operation. Each has exactly one output.
#[derive(Debug, Clone, PartialEq)]
pub enum Op {
    /// The image, `[channels, height, width]`, normalised; for a foreign file, whatever its input is.
    Input { shape: Shape },
    /// The same values for every image, broadcast over the batch; training does not change them.
    Constant { values: ArrayD<f32> },
    /// 2-D cross-correlation over `[channels, height, width]`.
    Conv2d(Conv2d),
    /// Batch normalisation over channels (Ioffe & Szegedy 2015). `momentum` is the weight of the
    /// new batch in the running statistics; the running variance is the unbiased one.
    BatchNorm { eps: f64, momentum: f64 },
    /// `max(x, 0)`.
    Relu,
    /// `min(max(x, min), max)`; ReLU6 is `min = 0, max = 6`.
    Clip { min: f64, max: f64 },
    /// Largest value of each window; padding never wins.
    MaxPool(Pool),
    /// Mean of each window. `count_include_pad` says whether padded zeros count in the divisor.
    AvgPool { pool: Pool, count_include_pad: bool },
    /// Mean over height and width: `[channels, height, width]` to `[channels, 1, 1]`.
    GlobalAvgPool,
    /// Flattens a sample to one dimension: `[features]`.
    Flatten,
    /// `x · Wᵀ + b` over the last axis, with `W` of `[out_features, in_features]`.
    Linear { out_features: usize, bias: bool },
    /// Elementwise sum of inputs of equal shape.
    Add,
    /// Concatenates the inputs along an axis; axis 0 is the channels.
    Concat { axis: usize },
    /// Every `step`-th index from `start` to before `end` along an axis; axis 0 is the channels.
    Slice { axis: usize, start: usize, end: usize, step: usize },
    /// Channel shuffle (ShuffleNet, Zhang et al. 2018): channels are viewed as `[groups, c / groups]` and
    /// transposed.
    ChannelShuffle { groups: usize },
    /// A function of each element.
    Unary(Unary),
    /// A function of two elements. Both shapes have the same number of axes; an axis of length 1 is
    /// broadcast.
    Binary(Binary),
    /// The second input where the first is not 0, else the third. All have the same number of axes; an axis of length 1
    /// is broadcast.
    Where,
    /// `exp(x) / Σ exp(x)` along an axis.
    Softmax { axis: usize },
    /// Layer normalisation (Ba et al. 2016) over the last `axes` axes, with a weight and a bias of their
    /// shape.
    LayerNorm { axes: usize, eps: f64 },
    /// Normalises each channel of an image, or of anything `[channels, …]`, by its own mean and variance over the other
    /// axes (Ulyanov et al. 2016), with a weight and a bias per channel.
    InstanceNorm { eps: f64 },
    /// Resizes `[channels, height, width]`.
    Resize(Resize),
    /// `(min(max(round(x / scale) + zero, least), most) - zero) · scale`, halves to even: the values that remain after
    /// quantisation.
    QuantizeDequantize(Quantize),
    /// Largest value over some axes, which keep length 1. The axes ascend.
    Max { axes: Vec<usize> },
    /// Mean over some axes, which keep length 1. The axes ascend.
    Mean { axes: Vec<usize> },
    /// The same elements in the same order, in another shape.
    Reshape { shape: Shape },
    /// Axis `i` of the result is axis `order[i]` of the input.
    Transpose { order: Vec<usize> },
    /// `value` padded before and after each axis.
    Pad { before: Vec<usize>, after: Vec<usize>, value: f64 },
    /// Matrix product over the last two axes; of the others, one of length 1 is broadcast.
    MatMul,
}

/// A function of each element.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Unary {
    /// `x` where positive, else `slope · x`.
    LeakyRelu {
        slope: f64,
    },
    Sigmoid,
    /// `min(max(alpha · x + beta, 0), 1)`.
    HardSigmoid {
        alpha: f64,
        beta: f64,
    },
    Tanh,
    Erf,
    Exp,
    Log,
    Sqrt,
    Abs,
    Neg,
    Reciprocal,
    /// `ln(1 + exp(x))`.
    Softplus,
    Floor,
    Ceil,
    /// To the nearest integer, halves to the even one.
    Round,
    /// 1, 0 or −1.
    Sign,
    Sin,
    Cos,
    Tan,
    Asin,
    Acos,
    Atan,
    Sinh,
    Cosh,
    Asinh,
    Acosh,
    Atanh,
    /// 1 where `x` is 0, else 0.
    Not,
}

/// A function of two elements.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Binary {
    Add,
    Sub,
    Mul,
    Div,
    Pow,
    Max,
    Min,
    /// 1 where both are equal, else 0.
    Equal,
    /// 1 where the first is smaller, else 0.
    Less,
    /// 1 where the first is not larger, else 0.
    LessOrEqual,
    /// 1 where both are not 0, else 0.
    And,
    /// 1 where one of them is not 0, else 0.
    Or,
}

/// Settings of a convolution. Pairs are `[vertical, horizontal]`; padding is the same on both sides.
#[derive(Debug, Clone, PartialEq)]
pub struct Conv2d {
    pub out_channels: usize,
    pub kernel: [usize; 2],
    pub stride: [usize; 2],
    pub padding: [usize; 2],
    pub dilation: [usize; 2],
    pub groups: usize,
    pub bias: bool,
}

impl Conv2d {
    /// A square convolution with "same" padding for stride 1, no bias.
    pub fn square(out_channels: usize, kernel: usize, stride: usize) -> Self {
        Self {
            out_channels,
            kernel: [kernel; 2],
            stride: [stride; 2],
            padding: [kernel / 2; 2],
            dilation: [1; 2],
            groups: 1,
            bias: false,
        }
    }
}

/// Settings of a pooling window. Pairs are `[vertical, horizontal]`.
#[derive(Debug, Clone, PartialEq)]
pub struct Pool {
    pub kernel: [usize; 2],
    pub stride: [usize; 2],
    pub padding: [usize; 2],
    pub ceil_mode: bool,
}

impl Pool {
    /// A square window without padding, sizes rounded down.
    pub fn square(kernel: usize, stride: usize) -> Self {
        Self { kernel: [kernel; 2], stride: [stride; 2], padding: [0; 2], ceil_mode: false }
    }
}

impl Op {
    /// The operation's usual name.
    pub fn kind(&self) -> &'static str {
        match self {
            Op::Input { .. } => "input",
            Op::Constant { .. } => "constant",
            Op::Conv2d(_) => "conv2d",
            Op::BatchNorm { .. } => "batch_norm",
            Op::Relu => "relu",
            Op::Clip { .. } => "clip",
            Op::MaxPool(_) => "max_pool",
            Op::AvgPool { .. } => "avg_pool",
            Op::GlobalAvgPool => "global_avg_pool",
            Op::Flatten => "flatten",
            Op::Linear { .. } => "linear",
            Op::Add => "add",
            Op::Concat { .. } => "concat",
            Op::Slice { .. } => "slice",
            Op::ChannelShuffle { .. } => "channel_shuffle",
            Op::Unary(unary) => unary.kind(),
            Op::Binary(binary) => binary.kind(),
            Op::Where => "where",
            Op::Softmax { .. } => "softmax",
            Op::LayerNorm { .. } => "layer_norm",
            Op::InstanceNorm { .. } => "instance_norm",
            Op::Resize(_) => "resize",
            Op::QuantizeDequantize(_) => "quantize_dequantize",
            Op::Max { .. } => "reduce_max",
            Op::Mean { .. } => "mean",
            Op::Reshape { .. } => "reshape",
            Op::Transpose { .. } => "transpose",
            Op::Pad { .. } => "pad",
            Op::MatMul => "mat_mul",
        }
    }
}

impl Unary {
    /// The function's usual name.
    pub fn kind(self) -> &'static str {
        match self {
            Unary::LeakyRelu { .. } => "leaky_relu",
            Unary::Sigmoid => "sigmoid",
            Unary::HardSigmoid { .. } => "hard_sigmoid",
            Unary::Tanh => "tanh",
            Unary::Erf => "erf",
            Unary::Exp => "exp",
            Unary::Log => "log",
            Unary::Sqrt => "sqrt",
            Unary::Abs => "abs",
            Unary::Neg => "neg",
            Unary::Reciprocal => "reciprocal",
            Unary::Softplus => "softplus",
            Unary::Floor => "floor",
            Unary::Ceil => "ceil",
            Unary::Round => "round",
            Unary::Sign => "sign",
            Unary::Sin => "sin",
            Unary::Cos => "cos",
            Unary::Tan => "tan",
            Unary::Asin => "asin",
            Unary::Acos => "acos",
            Unary::Atan => "atan",
            Unary::Sinh => "sinh",
            Unary::Cosh => "cosh",
            Unary::Asinh => "asinh",
            Unary::Acosh => "acosh",
            Unary::Atanh => "atanh",
            Unary::Not => "not",
        }
    }
}

impl Binary {
    /// The function's usual name.
    pub fn kind(self) -> &'static str {
        match self {
            Binary::Add => "add",
            Binary::Sub => "sub",
            Binary::Mul => "mul",
            Binary::Div => "div",
            Binary::Pow => "pow",
            Binary::Max => "max",
            Binary::Min => "min",
            Binary::Equal => "equal",
            Binary::Less => "less",
            Binary::LessOrEqual => "less_or_equal",
            Binary::And => "and",
            Binary::Or => "or",
        }
    }
}
