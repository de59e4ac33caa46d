//! The words of ONNX that changes draw from.

use std::sync::LazyLock;

use tract_onnx::pb::attribute_proto::AttributeType;

/// Operators that import knows, and two that it does not.
pub static OPS: LazyLock<Vec<&str>> = LazyLock::new(|| {
    let ops = "
        Abs Add And AveragePool BatchNormalization Cast CastLike Ceil Clip Concat Constant
        ConstantOfShape Conv Div Dropout Elu Equal Erf Exp Expand Flatten Floor Gather Gelu Gemm
        GlobalAveragePool GlobalMaxPool Greater GreaterOrEqual HardSigmoid HardSwish Identity
        LayerNormalization LeakyRelu Less LessOrEqual Log LogSoftmax MatMul Max MaxPool Min Mish Mod
        Mul Neg Not Or PRelu Pad Pow Range Reciprocal ReduceMax ReduceMean ReduceMin ReduceProd
        ReduceSum Relu Reshape Round Shape Sigmoid Sign Size Slice Softmax Softplus Split Sqrt
        Squeeze Sub Sum Swish Tanh Transpose Unsqueeze Where If Resize";
    ops.split_whitespace().collect()
});

/// Attributes that import reads, with what they hold.
pub static ATTRIBUTES: LazyLock<Vec<(&str, AttributeType)>> = LazyLock::new(|| {
    let names = [
        (AttributeType::Int, "axis to group keepdims start end transA transB ceil_mode count_include_pad"),
        (AttributeType::Int, "allowzero noop_with_empty_axes training_mode value_int"),
        (AttributeType::Ints, "axes perm kernel_shape strides pads dilations split starts ends value_ints"),
        (AttributeType::Float, "epsilon alpha beta momentum min max value_float"),
        (AttributeType::Floats, "value_floats"),
        (AttributeType::String, "auto_pad mode approximate"),
        (AttributeType::Tensor, "value"),
    ];
    names.iter().flat_map(|(kind, names)| names.split_whitespace().map(|name| (name, *kind))).collect()
});

pub const TEXTS: &[&str] =
    &["", "SAME_UPPER", "SAME_LOWER", "VALID", "NOTSET", "constant", "reflect", "none", "tanh"];

/// Names that import or emission may want for themselves.
pub const NAMES: &[&str] = &["logits", "embedding", "image", "batch", ""];

/// What emission puts behind the names of nodes, and import behind those of parts.
pub const SUFFIXES: &[&str] =
    &[".min", ".shape", ".weight", ".bias", ".2", ".output", ".product", ".1", ".flat", ".pad", ".starts"];

pub const LARGE: &[i64] = &[16, 64, 255, 1 << 12, 1 << 20, 1 << 28, 1 << 31, 1 << 40, i64::MAX, i64::MIN, -8];
