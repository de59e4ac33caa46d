//! VGG with batch normalisation (Simonyan & Zisserman 2015) in the form of the CIFAR distillation benchmarks:
//! global average pooling and one linear layer instead of three, and no pooling after the fourth stage unless
//! the shorter side of the image has at least 64 pixels.

use super::blocks::Net;
use super::error::BuildError;
use super::limits;
use crate::config::Vgg;
use crate::error::InputError;
use crate::graph::{Conv2d, Graph, Op, Pool};

const FAMILY: &str = "vgg";

/// Channels of the five stages, as multiples of the first stage's.
const WIDTHS: [usize; 5] = [1, 2, 4, 8, 8];

/// Minimum shorter side in pixels at which the fourth stage is pooled too.
const LARGE_IMAGE: usize = 64;

pub(super) fn build(spec: &Vgg, input: [usize; 3], classes: usize) -> Result<Graph, BuildError> {
    let convolutions = match spec.depth {
        8 => [1, 1, 1, 1, 1],
        11 => [1, 1, 2, 2, 2],
        13 => [2, 2, 2, 2, 2],
        16 => [2, 2, 3, 3, 3],
        19 => [2, 2, 4, 4, 4],
        other => {
            return Err(InputError::new(format!("{FAMILY}: there is no depth {other}"))
                .hint("depth is 8, 11, 13, 16 or 19")
                .into());
        }
    };
    limits::channels(FAMILY, "width", spec.width)?;
    let large = input[1].min(input[2]) >= LARGE_IMAGE;
    let (mut net, mut x) = Net::new(input)?;
    for (stage, count) in convolutions.into_iter().enumerate() {
        for index in 0..count {
            let conv = Conv2d { bias: true, ..Conv2d::square(spec.width * WIDTHS[stage], 3, 1) };
            x = net.conv_bn_relu(&format!("stage{}.{index}", stage + 1), "", conv, x)?;
        }
        if stage < 3 || (stage == 3 && large) {
            x = net.add(format!("stage{}.pool", stage + 1), Op::MaxPool(Pool::square(2, 2)), &[x])?;
        }
    }
    Ok(net.classify(x, classes)?)
}
