//! The one list of parameters behind libtorch's variables, ONNX initializers and checkpoints.

use super::build::{Graph, Node};
use super::facts::{Init, Param, Role};
use super::op::Shape;

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

/// The parameters of one node, in the order in which its operation reads them: weight, bias, running mean,
/// running variance.
pub fn node_params(graph: &Graph, node: &Node) -> Vec<ParamSpec> {
    let params = node.op.facts(&graph.input_shapes(node), &node.shape).params.into_iter();
    params
        .map(|Param { suffix, shape, init, role }| ParamSpec {
            name: format!("{}.{suffix}", node.name),
            shape,
            init,
            role,
        })
        .collect()
}
