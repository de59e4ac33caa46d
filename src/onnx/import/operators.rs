//! The ONNX operators that can be imported: the table in `docs/operators.md`, made by asking the importer.

use std::path::Path;

use prost::Message;
use tract_onnx::pb::{GraphProto, ModelProto, OperatorSetIdProto};

use super::super::proto::{node, value_info};
use super::super::read::OnnxFile;
use super::import;
use crate::contract::TensorInfo;

/// Operators of the default domain up to operator set 26 that compute with tensors of numbers.
/// Source: the list of operators in the ONNX documentation.
const OPERATORS: &str = "Abs Acos Acosh Add AffineGrid And ArgMax ArgMin Asin Asinh Atan Atanh Attention AveragePool \
    BatchNormalization Bernoulli BitShift BitwiseAnd BitwiseNot BitwiseOr BitwiseXor BlackmanWindow Cast CastLike Ceil \
    Celu CenterCropPad Clip Col2Im Compress Concat Constant ConstantOfShape Conv ConvInteger ConvTranspose Cos Cosh \
    CumSum DFT DeformConv DepthToSpace DequantizeLinear Det Div Dropout DynamicQuantizeLinear Einsum Elu Equal Erf Exp \
    Expand EyeLike Flatten Floor GRU Gather GatherElements GatherND Gelu Gemm GlobalAveragePool GlobalLpPool \
    GlobalMaxPool Greater GreaterOrEqual GridSample GroupNormalization HammingWindow HannWindow HardSigmoid HardSwish \
    Hardmax Identity If InstanceNormalization IsInf IsNaN LRN LSTM LayerNormalization LeakyRelu Less LessOrEqual Log \
    LogSoftmax Loop LpNormalization LpPool MatMul MatMulInteger Max MaxPool MaxRoiPool MaxUnpool Mean \
    MeanVarianceNormalization MelWeightMatrix Min Mish Mod Mul Multinomial Neg NegativeLogLikelihoodLoss \
    NonMaxSuppression NonZero Not OneHot Or PRelu Pad Pow QLinearConv QLinearMatMul QuantizeLinear RMSNormalization RNN \
    RandomNormal RandomNormalLike RandomUniform RandomUniformLike Range Reciprocal ReduceL1 ReduceL2 ReduceLogSum \
    ReduceLogSumExp ReduceMax ReduceMean ReduceMin ReduceProd ReduceSum ReduceSumSquare Relu Reshape Resize \
    ReverseSequence RoiAlign RotaryEmbedding Round STFT Scan ScatterElements ScatterND Selu Shape Shrink Sigmoid Sign \
    Sin Sinh Size Slice Softmax SoftmaxCrossEntropyLoss Softplus Softsign SpaceToDepth Split Sqrt Squeeze Sub Sum Swish \
    Tan Tanh TensorScatter ThresholdedRelu Tile TopK Transpose Trilu Unique Unsqueeze Where Xor";

/// The importer's message for an operator that it does not know.
const UNKNOWN: &str = "this operator is not supported";

/// Whether an operator is known when it reads data.
fn is_known(operator: &str) -> bool {
    let graph = GraphProto {
        node: vec![node("node", operator, &["image"], "logits", vec![])],
        input: vec![value_info(&TensorInfo::batched("image", &[3, 6, 6]))],
        output: vec![value_info(&TensorInfo::batched("logits", &[3, 6, 6]))],
        ..GraphProto::default()
    };
    let opset = OperatorSetIdProto { domain: String::new(), version: 26 };
    let model =
        ModelProto { ir_version: 8, opset_import: vec![opset], graph: Some(graph), ..Default::default() };
    let file = OnnxFile::from_bytes(model.encode_to_vec(), Path::new("m.onnx")).unwrap();
    import(&file).err().is_none_or(|error| !format!("{error:#}").contains(UNKNOWN))
}

fn list(names: &[&str]) -> String {
    names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}

/// With `COHORT_WRITE_DOCS=1` in the environment, the page is written again.
#[test]
fn the_table_of_operators_is_what_the_importer_knows() {
    let (known, unknown): (Vec<&str>, Vec<&str>) =
        OPERATORS.split_whitespace().partition(|operator| is_known(operator));
    assert!(known.len() > 50 && unknown.len() > 50 && known.contains(&"Conv") && unknown.contains(&"LSTM"));
    let page = format!(
        "# ONNX operators\n\nThis page is generated from the importer and checked by a test. To write it anew:\n\n\
         ```sh\nCOHORT_WRITE_DOCS=1 cargo test --release --locked --lib table_of_operators\n```\n\n\
         `verify` and `bench` take files with any operator that the engine has. Three things need a file to be *imported* \
         as well, and so all its operators to be in this table: a float64 reference computed from the file's own \
         nodes, blame (finding the node that is wrong), and the self-test. Arithmetic on shapes and constants is \
         evaluated during import and may use further operators. Some operators are imported in their common forms \
         only; the error then names the node and what is missing.\n\n\
         | | operators of the default domain, up to operator set 26 |\n| --- | --- |\n\
         | imported ({}) | {} |\n| not imported ({}) | {} |\n",
        known.len(),
        list(&known),
        unknown.len(),
        list(&unknown)
    );
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/operators.md");
    if std::env::var_os("COHORT_WRITE_DOCS").is_some() {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, &page).unwrap();
    }
    let written = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(written == page, "docs/operators.md is out of date; set COHORT_WRITE_DOCS=1 to write it");
}
