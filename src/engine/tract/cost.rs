//! The cost of nodes in multiply-accumulates.

use tract_onnx::prelude::{Node, TypedFact, TypedModel, TypedOp};
use tract_onnx::tract_core::ops::Cost;

/// Multiply-accumulates of a node per run, as tract itself counts them; `None` if it has none or tract cannot tell.
pub(super) fn macs(model: &TypedModel, node: &Node<TypedFact, Box<dyn TypedOp>>) -> Option<u64> {
    let inputs = model.node_input_facts(node.id).ok()?;
    let costs = node.op.cost(&inputs).ok()?;
    let products = costs.iter().filter(|(cost, _)| matches!(cost, Cost::FMA(_)));
    let macs: u64 = products.filter_map(|(_, count)| u64::try_from(count.to_i64().ok()?).ok()).sum();
    (macs > 0).then_some(macs)
}
