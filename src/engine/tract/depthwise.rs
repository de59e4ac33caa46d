//! Moves depthwise convolutions to the channels-last layout where that is faster.
//!
//! In the channels-first layout, tract computes along rows, which is fast only for long rows of stride 1. In the
//! channels-last layout, it computes along the channels. Between two matrix products, such as 1x1 convolutions, the
//! change of layout is free, because products read and write their axes in any order.

use tract_onnx::prelude::{OutletId, TractResult, TypedModel, TypedModelPatch};
use tract_onnx::tract_core::internal::Rewriter;
use tract_onnx::tract_core::model::TypedNode;
use tract_onnx::tract_core::ops::binary::TypedBinOp;
use tract_onnx::tract_core::ops::change_axes::AxisOp;
use tract_onnx::tract_core::ops::cnn::{Conv, PoolSpec};
use tract_onnx::tract_core::ops::einsum::EinSum;
use tract_onnx::tract_core::ops::element_wise::ElementWiseOp;
use tract_onnx::tract_core::ops::nn::DataFormat;

/// Output rows of stride 1 that are at least this long are faster with the channels first; it is the kernel's step.
const LONG_ROW: usize = 32;

/// Minimum number of channels; fewer do not fill a vector register.
const ENOUGH_CHANNELS: usize = 16;

/// Rewrites those depthwise convolutions of a network that gain from it.
pub(super) fn channels_last(model: &mut TypedModel) -> TractResult<()> {
    Rewriter::<()>::default().with_rule_for("depthwise-channels-last", rule).rewrite(&(), model)?;
    model.declutter()
}

fn rule(
    _: &(),
    model: &TypedModel,
    node: &TypedNode,
    name: &str,
    conv: &Conv,
) -> TractResult<Option<TypedModelPatch>> {
    let channels = conv.pool_spec.input_channels;
    let depthwise = conv.group == channels && conv.group == conv.pool_spec.output_channels;
    let fact = model.outlet_fact(node.inputs[0])?;
    let (last, to_channels) = match conv.pool_spec.data_format {
        DataFormat::NCHW => (DataFormat::NHWC, 1),
        DataFormat::CHW => (DataFormat::HWC, 0),
        DataFormat::NHWC | DataFormat::HWC => return Ok(None),
    };
    let row = node.outputs[0].fact.shape.as_concrete().and_then(|shape| shape.last().copied());
    let long =
        conv.pool_spec.strides().iter().all(|&stride| stride == 1) && row.is_none_or(|row| row >= LONG_ROW);
    let between = comes_from_product(model, node.inputs[0].node) && goes_to_product(model, node);
    if !depthwise || channels < ENOUGH_CHANNELS || long || !between || conv.q_params.is_some() {
        return Ok(None);
    }
    let to_end = fact.rank() - 1;
    let mut patch = TypedModelPatch::default();
    let mut inputs = patch.taps(model, &node.inputs)?;
    inputs[0] =
        patch.wire_node(format!("{name}.channels_last"), AxisOp::Move(to_channels, to_end), &[inputs[0]])?[0];
    let spec = PoolSpec { data_format: last, ..conv.pool_spec.clone() };
    let output = Conv { pool_spec: spec, ..conv.clone() }.wire_as_depth_wise(&mut patch, name, &inputs)?;
    let output =
        patch.wire_node(format!("{name}.channels_first"), AxisOp::Move(to_end, to_channels), &[output])?[0];
    patch.shunt_outside(model, node.id.into(), output)?;
    Ok(Some(patch))
}

/// Whether a value comes from a product, directly or through elementwise functions, each of which has a single reader.
fn comes_from_product(model: &TypedModel, mut id: usize) -> bool {
    loop {
        let node = model.node(id);
        match operand(model, node) {
            _ if node.outputs[0].successors.len() != 1 => return false,
            _ if node.op_is::<EinSum>() => return true,
            Some(before) => id = before,
            None => return false,
        }
    }
}

/// Whether the only reader of a node is a product, directly or through a chain of elementwise functions.
fn goes_to_product<'a>(model: &'a TypedModel, mut node: &'a TypedNode) -> bool {
    loop {
        let [next] = node.outputs[0].successors[..] else { return false };
        node = model.node(next.node);
        if node.op_is::<EinSum>() || operand(model, node).is_none() {
            return node.op_is::<EinSum>();
        }
    }
}

/// The only operand of an elementwise function that is not a constant.
fn operand(model: &TypedModel, node: &TypedNode) -> Option<usize> {
    let varies = |outlet: &&OutletId| model.outlet_fact(**outlet).is_ok_and(|fact| fact.konst.is_none());
    let mut operands = node.inputs.iter().filter(varies);
    let (first, second) = (operands.next()?, operands.next());
    let each = node.op_is::<TypedBinOp>() || node.op_is::<ElementWiseOp>();
    (each && second.is_none()).then_some(first.node)
}
