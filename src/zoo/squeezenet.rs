//! SqueezeNet (Iandola et al. 2016, arXiv 1602.07360) with simple bypass, for small images: a 3×3 stem, and
//! BatchNorm after every convolution.

use super::blocks::{Layer, Net};
use super::error::BuildError;
use crate::config::Squeezenet;
use crate::error::InputError;
use crate::graph::{Conv2d, Graph, NodeId, Op, Pool};

const FAMILY: &str = "squeezenet";

/// Channels of the stem.
const STEM: usize = 96;

/// Channels of each fire module: squeezed, and output.
const FIRES: [(usize, usize); 8] =
    [(16, 128), (16, 128), (32, 256), (32, 256), (48, 384), (48, 384), (64, 512), (64, 512)];

/// Fire modules whose input is added to their output, and those followed by a pooling; indices from 0.
const BYPASSED: [usize; 3] = [1, 3, 5];
const POOLED: [usize; 2] = [2, 6];

pub(super) fn build(spec: &Squeezenet, input: [usize; 3], classes: usize) -> Result<Graph, BuildError> {
    if !(spec.width > 0.0 && spec.width <= 64.0) {
        let problem = format!("{FAMILY}: width must be above 0 and at most 64, found {}", spec.width);
        return Err(InputError::new(problem).hint("1 is the paper's").into());
    }
    let scaled = |channels: usize| ((channels as f64 * spec.width).round() as usize).max(2);
    let (mut net, image) = Net::new(input)?;
    let stem = net.conv_bn_relu("stem", "", Conv2d::square(scaled(STEM), 3, 1), image)?;
    let mut x = pool(&mut net, "stem.pool", stem)?;
    for (index, (squeezed, given)) in FIRES.into_iter().enumerate() {
        let scope = format!("fire{}", index + 2);
        let fire = fire(&mut net, &scope, scaled(squeezed), scaled(given).div_ceil(2), x)?;
        x = match BYPASSED.contains(&index) {
            true => net.add(format!("{scope}.add"), Op::Add, &[fire, x])?,
            false => fire,
        };
        if POOLED.contains(&index) {
            x = pool(&mut net, &format!("{scope}.pool"), x)?;
        }
    }
    Ok(net.classify(x, classes)?)
}

/// A 1×1 convolution to few channels, then 1×1 and 3×3 convolutions side by side.
fn fire(net: &mut Net, scope: &str, squeezed: usize, half: usize, x: NodeId) -> Layer {
    let x = net.conv_bn_relu(&format!("{scope}.squeeze"), "", Conv2d::square(squeezed, 1, 1), x)?;
    let one = net.conv_bn_relu(&format!("{scope}.one"), "", Conv2d::square(half, 1, 1), x)?;
    let three = net.conv_bn_relu(&format!("{scope}.three"), "", Conv2d::square(half, 3, 1), x)?;
    net.add(format!("{scope}.concat"), Op::Concat { axis: 0 }, &[one, three])
}

fn pool(net: &mut Net, name: &str, x: NodeId) -> Layer {
    net.add(name, Op::MaxPool(Pool::square(2, 2)), &[x])
}
