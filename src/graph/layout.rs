//! The order of an image's axes and channels as part of a network.

use ndarray::Axis;

use super::build::{Builder, Graph, GraphError, NodeId};
use super::model::{Model, ModelError};
use super::op::{Op, Shape};

/// The model for images of `[height, width, channels]` instead of `[channels, height, width]`: it transposes them
/// and then computes the same as `model`.
///
/// # Errors
/// [`ModelError`] if the model does not take images of three axes.
pub fn with_channels_last(model: &Model) -> Result<Model, ModelError> {
    let planar = model.graph().input_shape();
    let last = planar.iter().skip(1).chain(planar.first()).copied().collect();
    behind(model, last, &mut |builder, image| {
        builder.add(unused(model.graph(), "image.planar"), Op::Transpose { order: vec![2, 0, 1] }, &[image])
    })
}

/// The model for images of `[channels, height, width]` instead of `[height, width, channels]`, the inverse of
/// [`with_channels_last`].
///
/// # Errors
/// As [`with_channels_last`].
pub fn with_channels_first(model: &Model) -> Result<Model, ModelError> {
    let last = model.graph().input_shape();
    let planar = last.last().into_iter().chain(&last[..last.len() - 1]).copied().collect();
    behind(model, planar, &mut |builder, image| {
        builder.add(
            unused(model.graph(), "image.interleaved"),
            Op::Transpose { order: vec![1, 2, 0] },
            &[image],
        )
    })
}

/// The model for images `[channels, height, width]` whose channels are in the opposite order. Where only convolutions read
/// the image, their weights change places, otherwise the channels do.
///
/// # Errors
/// As [`with_channels_last`].
pub fn with_reversed_channels(model: &Model) -> Result<Model, ModelError> {
    let graph = model.graph();
    let readers = graph.nodes().iter().filter(|node| node.inputs.contains(&graph.id(0)));
    let convolutions = readers.clone().all(|node| matches!(&node.op, Op::Conv2d(conv) if conv.groups == 1));
    if convolutions && graph.outputs().iter().all(|output| output.node != graph.id(0)) {
        let mut weights = model.weights().clone();
        for node in readers {
            let name = format!("{}.weight", node.name);
            if let Some(mut kernel) = weights.remove(&name) {
                kernel.invert_axis(Axis(1));
                weights.insert(name, kernel.as_standard_layout().into_owned());
            }
        }
        return Ok(Model::new(graph.clone(), weights)?);
    }
    let shape = graph.input_shape().clone();
    let channels = shape[0];
    behind(model, shape, &mut |builder, image| {
        let mut planes = Vec::new();
        for channel in (0..channels).rev() {
            let plane = Op::Slice { axis: 0, start: channel, end: channel + 1, step: 1 };
            planes.push(builder.add(unused(graph, &format!("image.channel{channel}")), plane, &[image])?);
        }
        let reversed = unused(graph, "image.reversed");
        if let [plane] = planes[..] {
            Ok(plane)
        } else {
            builder.add(reversed, Op::Concat { axis: 0 }, &planes)
        }
    })
}

/// A name that no node of a graph has.
fn unused(graph: &Graph, name: &str) -> String {
    let mut name = name.to_string();
    while graph.nodes().iter().any(|node| node.name == name) {
        name.push('_');
    }
    name
}

/// The model behind nodes that give it its image.
fn behind(
    model: &Model,
    image: Shape,
    before: &mut dyn FnMut(&mut Builder, NodeId) -> Result<NodeId, GraphError>,
) -> Result<Model, ModelError> {
    let graph = model.graph();
    let (mut builder, image) = Builder::new(image)?;
    let given = before(&mut builder, image)?;
    let rewritten = graph.rewritten_on(builder, given, &mut |builder, id, inputs| {
        let node = graph.node(id);
        builder.add(&node.name, node.op.clone(), inputs)
    })?;
    Ok(Model::new(rewritten, model.weights().clone())?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::{Conv2d, fold_batch_norm};

    #[test]
    fn channels_are_reversed_twice_without_a_trace() {
        let (mut builder, image) = Builder::new(vec![3, 4, 4]).unwrap();
        let conv = builder.add("conv", Op::Conv2d(Conv2d::square(2, 3, 1)), &[image]).unwrap();
        let model = Model::untrained(builder.finish(&[(Graph::LOGITS, conv)]), 1);
        let reversed = with_reversed_channels(&model).unwrap();
        assert_ne!(reversed, model);
        let kernel = |model: &Model| model.weights().get("conv.weight").unwrap().clone();
        assert_eq!(kernel(&reversed).index_axis(Axis(1), 0), kernel(&model).index_axis(Axis(1), 2));
        assert_eq!(with_reversed_channels(&reversed).unwrap(), model);
    }

    #[test]
    fn names_stay_apart_when_an_image_is_turned_more_than_once() {
        let (mut builder, image) = Builder::new(vec![3, 4, 5]).unwrap();
        let relu = builder.add("relu", Op::Relu, &[image]).unwrap();
        let mut model = Model::untrained(builder.finish(&[(Graph::LOGITS, relu)]), 1);
        for _ in 0..2 {
            model = with_channels_last(&model).unwrap();
            assert_eq!(model.graph().input_shape(), &[4, 5, 3]);
            model = with_reversed_channels(&with_channels_first(&model).unwrap()).unwrap();
            assert_eq!(model.graph().input_shape(), &[3, 4, 5]);
        }
        assert_eq!(fold_batch_norm(&model).unwrap(), model);
    }
}
