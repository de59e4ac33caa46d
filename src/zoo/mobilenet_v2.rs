//! MobileNetV2 (Sandler et al. 2018) in the form of the CIFAR distillation benchmarks: the 24-channel stage
//! keeps its size, every block has its expansion (including the first, where it is 1), and the last
//! convolution does not shrink with the width.

use super::blocks::{Layer, Net};
use super::error::BuildError;
use super::limits;
use crate::config::{Activation, MobilenetV2};
use crate::error::InputError;
use crate::graph::{Conv2d, Graph, NodeId, Op};

const FAMILY: &str = "mobilenet_v2";

/// Per stage: channels before scaling by the width, number of blocks, and stride of the first block. The
/// first stage has no expansion.
const STAGES: [(usize, usize, usize); 7] =
    [(16, 1, 1), (24, 2, 1), (32, 3, 2), (64, 4, 2), (96, 3, 1), (160, 3, 2), (320, 1, 1)];

pub(super) fn build(spec: &MobilenetV2, input: [usize; 3], classes: usize) -> Result<Graph, BuildError> {
    limits::factor(FAMILY, "width", spec.width)?;
    limits::between(FAMILY, "expansion", spec.expansion, 1, 64)?;
    limits::between(FAMILY, "stem_stride", spec.stem_stride, 1, 2)?;
    let last = spec.last.unwrap_or((1280.0 * spec.width.max(1.0)) as usize);
    limits::channels(FAMILY, "last", last)?;
    let scaled = |channels: usize| (channels as f64 * spec.width) as usize;
    if scaled(STAGES[0].0) == 0 {
        let problem = format!("{FAMILY}: width {} leaves none of the first stage's 16 channels", spec.width);
        return Err(InputError::new(problem).hint("the smallest width is 0.0625").into());
    }

    let (mut net, image) = Net::new(input)?;
    let act = spec.activation;
    let stem = Conv2d::square(scaled(32), 3, spec.stem_stride);
    let mut x = conv_bn_act(&mut net, "stem", "", stem, act, image)?;
    for (index, (channels, blocks, first_stride)) in STAGES.into_iter().enumerate() {
        let expansion = if index == 0 { 1 } else { spec.expansion };
        for block in 0..blocks {
            let scope = format!("stage{}.{block}", index + 1);
            let stride = if block == 0 { first_stride } else { 1 };
            let numbers = Inverted { channels: scaled(channels), stride, expansion, act };
            x = inverted_residual(&mut net, &scope, &numbers, x)?;
        }
    }
    let x = conv_bn_act(&mut net, "last", "", Conv2d::square(last, 1, 1), act, x)?;
    Ok(net.classify(x, classes)?)
}

struct Inverted {
    channels: usize,
    stride: usize,
    expansion: usize,
    act: Activation,
}

/// A 1×1 convolution that expands, a depthwise 3×3 convolution, and a 1×1 convolution back without
/// activation; added to the input if the shapes agree.
fn inverted_residual(net: &mut Net, scope: &str, block: &Inverted, x: NodeId) -> Layer {
    let channels_in = net.channels(x);
    let wide = channels_in * block.expansion;
    let depthwise = Conv2d { groups: wide, ..Conv2d::square(wide, 3, block.stride) };
    let inner = conv_bn_act(net, scope, "1", Conv2d::square(wide, 1, 1), block.act, x)?;
    let inner = conv_bn_act(net, scope, "2", depthwise, block.act, inner)?;
    let body = net.conv_bn(scope, "3", Conv2d::square(block.channels, 1, 1), inner)?;
    if block.stride == 1 && channels_in == block.channels {
        return net.add(format!("{scope}.add"), Op::Add, &[x, body]);
    }
    Ok(body)
}

fn conv_bn_act(net: &mut Net, scope: &str, suffix: &str, conv: Conv2d, act: Activation, x: NodeId) -> Layer {
    let x = net.conv_bn(scope, suffix, conv, x)?;
    net.activation(format!("{scope}.relu{suffix}"), act, x)
}
