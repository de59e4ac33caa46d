//! The order of an image's axes as part of a network.

use super::build::Builder;
use super::model::{Model, ModelError};
use super::op::Op;

/// The model for images of `[height, width, channels]` instead of `[channels, height, width]`: it transposes them
/// and then computes the same as `model`.
///
/// # Errors
/// [`ModelError`] if the model does not take images of three axes.
pub fn with_channels_last(model: &Model) -> Result<Model, ModelError> {
    let graph = model.graph();
    let planar = graph.input_shape();
    let last = planar.iter().skip(1).chain(planar.first()).copied().collect();
    let (mut builder, image) = Builder::new(last)?;
    let transposed = builder.add("image.planar", Op::Transpose { order: vec![2, 0, 1] }, &[image])?;
    let rewritten = graph.rewritten_on(builder, transposed, &mut |builder, id, inputs| {
        let node = graph.node(id);
        builder.add(&node.name, node.op.clone(), inputs)
    })?;
    Ok(Model::new(rewritten, model.weights().clone())?)
}
