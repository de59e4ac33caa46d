//! The one list of parameters behind libtorch's variables, ONNX initializers and checkpoints.

use super::build::{Graph, Node};
use super::op::{Op, Shape};

/// How a parameter starts.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Init {
    /// Normal with variance `2 / fan_out` (He et al. 2015), for convolutions before a ReLU.
    KaimingFanOut {
        fan_out: usize,
    },
    /// Uniform in `±1/√fan_in`, PyTorch's start for linear layers and for biases.
    UniformFanIn {
        fan_in: usize,
    },
    Zeros,
    Ones,
}

/// What training does with a parameter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Convolution and linear weights: trained, with weight decay.
    Weight,
    /// Biases and normalisation scales: trained; recipes often leave them without decay.
    NormOrBias,
    /// Running statistics: written by the forward pass, never by the optimiser.
    Buffer,
}

/// One parameter. Names follow PyTorch: `<node>.weight`, `.bias`, `.running_mean`, `.running_var`.
#[derive(Debug, Clone, PartialEq)]
pub struct ParamSpec {
    pub name: String,
    pub shape: Shape,
    pub init: Init,
    pub role: Role,
}

/// Every parameter of a graph, in node order.
pub fn params(graph: &Graph) -> Vec<ParamSpec> {
    graph.nodes().iter().flat_map(|node| node_params(graph, node)).collect()
}

/// The parameters of one node, in the order its operation reads them: weight, bias, running mean,
/// running variance.
pub fn node_params(graph: &Graph, node: &Node) -> Vec<ParamSpec> {
    let spec = |suffix: &str, shape: Shape, init: Init, role: Role| ParamSpec {
        name: format!("{}.{suffix}", node.name),
        shape,
        init,
        role,
    };
    let channels_in = || graph.input_shapes(node)[0][0];
    match &node.op {
        Op::Conv2d(conv) => {
            let area = conv.kernel[0] * conv.kernel[1];
            let fan_in = channels_in() / conv.groups * area;
            let fan_out = conv.out_channels / conv.groups * area;
            let shape = vec![conv.out_channels, channels_in() / conv.groups, conv.kernel[0], conv.kernel[1]];
            let mut specs = vec![spec("weight", shape, Init::KaimingFanOut { fan_out }, Role::Weight)];
            if conv.bias {
                specs.push(spec(
                    "bias",
                    vec![conv.out_channels],
                    Init::UniformFanIn { fan_in },
                    Role::NormOrBias,
                ));
            }
            specs
        }
        Op::BatchNorm { .. } => {
            let shape = vec![channels_in()];
            vec![
                spec("weight", shape.clone(), Init::Ones, Role::NormOrBias),
                spec("bias", shape.clone(), Init::Zeros, Role::NormOrBias),
                spec("running_mean", shape.clone(), Init::Zeros, Role::Buffer),
                spec("running_var", shape, Init::Ones, Role::Buffer),
            ]
        }
        Op::Linear { out_features, bias } => {
            let fan_in = graph.input_shapes(node)[0].last().copied().unwrap_or(1);
            let init = Init::UniformFanIn { fan_in };
            let mut specs = vec![spec("weight", vec![*out_features, fan_in], init, Role::Weight)];
            if *bias {
                specs.push(spec("bias", vec![*out_features], init, Role::NormOrBias));
            }
            specs
        }
        Op::LayerNorm { axes, .. } => {
            let shape = node.shape[node.shape.len() - axes..].to_vec();
            vec![
                spec("weight", shape.clone(), Init::Ones, Role::NormOrBias),
                spec("bias", shape, Init::Zeros, Role::NormOrBias),
            ]
        }
        Op::Input { .. }
        | Op::Constant { .. }
        | Op::Relu
        | Op::Clip { .. }
        | Op::MaxPool(_)
        | Op::AvgPool { .. }
        | Op::GlobalAvgPool
        | Op::Flatten
        | Op::Add
        | Op::Concat { .. }
        | Op::Slice { .. }
        | Op::ChannelShuffle { .. }
        | Op::Unary(_)
        | Op::Binary(_)
        | Op::Softmax { .. }
        | Op::Mean { .. }
        | Op::Reshape { .. }
        | Op::Transpose { .. }
        | Op::Pad { .. }
        | Op::MatMul => Vec::new(),
    }
}
