//! Builds a graph from a model file.

use super::error::BuildError;
use super::{alexnet, layers, mobilenet_v2, resnet, resnet_cifar, shufflenet_v2, squeezenet, vgg, wrn};
use crate::config::{Family, ModelSpec};
use crate::error::InputError;
use crate::graph::{Graph, GraphError};

/// Builds the network of a model file for images of `[channels, height, width]`.
///
/// The graph has two outputs: [`Graph::LOGITS`] of `[classes]`, and [`Graph::EMBEDDING`], the
/// features before the classifier.
///
/// # Errors
/// [`InputError`] if a family does not accept a number, with the nearest accepted one, or if the images are
/// too small, with the node that does not fit.
pub fn build(spec: &ModelSpec, input: [usize; 3], classes: usize) -> Result<Graph, anyhow::Error> {
    if classes == 0 {
        return Err(InputError::new("a classifier needs at least one class, found 0").into());
    }
    let built = match spec {
        ModelSpec::Family(Family::ResnetCifar(numbers)) => resnet_cifar::build(numbers, input, classes),
        ModelSpec::Family(Family::Wrn(numbers)) => wrn::build(numbers, input, classes),
        ModelSpec::Family(Family::Vgg(numbers)) => vgg::build(numbers, input, classes),
        ModelSpec::Family(Family::MobilenetV2(numbers)) => mobilenet_v2::build(numbers, input, classes),
        ModelSpec::Family(Family::ShufflenetV2(numbers)) => shufflenet_v2::build(numbers, input, classes),
        ModelSpec::Family(Family::Resnet(numbers)) => resnet::build(numbers, input, classes),
        ModelSpec::Family(Family::Alexnet(numbers)) => alexnet::build(numbers, input, classes),
        ModelSpec::Family(Family::Squeezenet(numbers)) => squeezenet::build(numbers, input, classes),
        ModelSpec::Layers(list) => layers::build(list, input, classes),
    };
    built.map_err(|error| match error {
        BuildError::Number(error) => error.into(),
        BuildError::Graph(error) => misfit(spec, &error, input).into(),
    })
}

fn misfit(spec: &ModelSpec, error: &GraphError, [channels, height, width]: [usize; 3]) -> InputError {
    let remedy = match spec {
        ModelSpec::Family(Family::Vgg(_)) => {
            "vgg halves the image three times: use images of at least 8x8, or another family"
        }
        ModelSpec::Family(Family::Alexnet(_)) => {
            "alexnet has a stride of 4, then halves the image three times: use images of at least 17x17"
        }
        ModelSpec::Family(Family::Squeezenet(_)) => {
            "squeezenet halves the image three times: use images of at least 8x8"
        }
        ModelSpec::Family(
            Family::Resnet(_)
            | Family::ResnetCifar(_)
            | Family::Wrn(_)
            | Family::MobilenetV2(_)
            | Family::ShufflenetV2(_),
        ) => "every dimension of an image must be at least 1 and fit in memory",
        ModelSpec::Layers(_) => "the number in a node's name is its layer's index in the list, from 0",
    };
    InputError::new(format!("for images of {channels}x{height}x{width}, {error}")).hint(remedy)
}
