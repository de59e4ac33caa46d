//! AlexNet (Krizhevsky 2014, arXiv 1404.5997) for small images: five convolutions without normalisation and one
//! linear layer.

use super::blocks::{Layer, Net};
use super::error::BuildError;
use super::limits;
use crate::config::Alexnet;
use crate::graph::{Conv2d, Graph, NodeId, Op, Pool};

const FAMILY: &str = "alexnet";

/// Channels as multiples of the first layer's.
const FACTORS: [usize; 5] = [1, 3, 6, 4, 4];

pub(super) fn build(spec: &Alexnet, input: [usize; 3], classes: usize) -> Result<Graph, BuildError> {
    limits::between(FAMILY, "width", spec.width, 1, 8_192)?;
    let (mut net, image) = Net::new(input)?;
    let [first, second, third, fourth, fifth] = FACTORS.map(|factor| factor * spec.width);
    let x = conv_relu(&mut net, 1, Conv2d { padding: [5, 5], ..Conv2d::square(first, 11, 4) }, image)?;
    let x = pool(&mut net, 1, x)?;
    let x = conv_relu(&mut net, 2, Conv2d::square(second, 5, 1), x)?;
    let x = pool(&mut net, 2, x)?;
    let x = conv_relu(&mut net, 3, Conv2d::square(third, 3, 1), x)?;
    let x = conv_relu(&mut net, 4, Conv2d::square(fourth, 3, 1), x)?;
    let x = conv_relu(&mut net, 5, Conv2d::square(fifth, 3, 1), x)?;
    let x = pool(&mut net, 3, x)?;
    Ok(net.classify(x, classes)?)
}

fn conv_relu(net: &mut Net, number: usize, conv: Conv2d, x: NodeId) -> Layer {
    let x = net.conv(format!("conv{number}"), Conv2d { bias: true, ..conv }, x)?;
    net.relu(format!("relu{number}"), x)
}

fn pool(net: &mut Net, number: usize, x: NodeId) -> Layer {
    let window = Pool { ceil_mode: true, ..Pool::square(2, 2) };
    net.add(format!("pool{number}"), Op::MaxPool(window), &[x])
}
