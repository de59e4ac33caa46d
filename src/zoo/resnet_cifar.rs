//! ResNet for small images (He et al. 2016) in the form of the CIFAR benchmarks: where a block changes the
//! shape, its shortcut is a 1×1 convolution with BatchNorm.

use super::blocks::Net;
use super::error::BuildError;
use super::limits;
use crate::config::ResnetCifar;
use crate::graph::{Conv2d, Graph};

const FAMILY: &str = "resnet_cifar";

pub(super) fn build(spec: &ResnetCifar, input: [usize; 3], classes: usize) -> Result<Graph, BuildError> {
    let blocks = limits::blocks(FAMILY, spec.depth, 2)?;
    let stem = spec.stem.unwrap_or(spec.width);
    limits::channels(FAMILY, "width", spec.width)?;
    limits::channels(FAMILY, "stem", stem)?;
    let (mut net, image) = Net::new(input)?;
    let mut x = net.conv_bn_relu("stem", "", Conv2d::square(stem, 3, 1), image)?;
    for stage in 0..3 {
        for block in 0..blocks {
            let stride = if stage > 0 && block == 0 { 2 } else { 1 };
            let scope = format!("stage{}.{block}", stage + 1);
            x = net.basic_block(&scope, spec.width << stage, stride, x)?;
        }
    }
    Ok(net.classify(x, classes)?)
}
