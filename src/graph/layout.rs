//! The order of an image's axes as part of a network.

use super::build::{Builder, NodeId};
use super::model::{Model, ModelError};
use super::op::Op;

/// The model for images `[height, width, channels]` in place of `[channels, height, width]`: it transposes them and
/// gives what `model` gives.
///
/// # Errors
/// [`ModelError`] if the model does not take images of three axes.
pub fn with_channels_last(model: &Model) -> Result<Model, ModelError> {
    let graph = model.graph();
    let planar = graph.input_shape();
    let last = planar.iter().skip(1).chain(planar.first()).copied().collect();
    let (mut builder, image) = Builder::new(last)?;
    let transposed = builder.add("image.planar", Op::Transpose { order: vec![2, 0, 1] }, &[image])?;
    let mut written = vec![transposed];
    for node in &graph.nodes()[1..] {
        let inputs: Vec<NodeId> = node.inputs.iter().map(|id| written[id.index()]).collect();
        written.push(builder.add(&node.name, node.op.clone(), &inputs)?);
    }
    let outputs: Vec<(&str, NodeId)> =
        graph.outputs().iter().map(|output| (output.name.as_str(), written[output.node.index()])).collect();
    Ok(Model::new(builder.finish(&outputs), model.weights().clone())?)
}
