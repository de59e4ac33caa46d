//! ShuffleNetV2 (Ma et al. 2018) in the form of the CIFAR distillation benchmarks: a 1×1 stem that keeps the
//! image's size, and no pooling after it.

use super::blocks::{Layer, Net};
use super::error::BuildError;
use crate::config::ShufflenetV2;
use crate::error::InputError;
use crate::graph::{Conv2d, Graph, NodeId, Op};

const FAMILY: &str = "shufflenet_v2";
const STEM: usize = 24;

/// Number of plain blocks per stage, after the block that halves the size.
const BLOCKS: [usize; 3] = [3, 7, 3];

/// Table 5 of the paper: width, channels of the three stages, channels of the last convolution.
const SIZES: [(f64, [usize; 3], usize); 4] = [
    (0.5, [48, 96, 192], 1024),
    (1.0, [116, 232, 464], 1024),
    (1.5, [176, 352, 704], 1024),
    (2.0, [244, 488, 976], 2048),
];

pub(super) fn build(spec: &ShufflenetV2, input: [usize; 3], classes: usize) -> Result<Graph, BuildError> {
    let Some((_, stages, last)) = SIZES.into_iter().find(|(width, ..)| *width == spec.width) else {
        let problem = format!("{FAMILY}: there is no width {}", spec.width);
        return Err(InputError::new(problem).hint("width is 0.5, 1, 1.5 or 2").into());
    };
    let (mut net, image) = Net::new(input)?;
    let mut x = net.conv_bn_relu("stem", "", Conv2d::square(STEM, 1, 1), image)?;
    for (stage, channels) in stages.into_iter().enumerate() {
        x = down_block(&mut net, &format!("stage{}.0", stage + 1), channels, x)?;
        for block in 1..=BLOCKS[stage] {
            x = split_block(&mut net, &format!("stage{}.{block}", stage + 1), x)?;
        }
    }
    let x = net.conv_bn_relu("last", "", Conv2d::square(last, 1, 1), x)?;
    Ok(net.classify(x, classes)?)
}

/// Passes one half of the channels through unchanged and the other through 1×1, depthwise 3×3 and 1×1.
fn split_block(net: &mut Net, scope: &str, x: NodeId) -> Layer {
    let channels = net.channels(x);
    let half = channels / 2;
    let kept = net.add(format!("{scope}.kept"), Op::Slice { axis: 0, start: 0, end: half, step: 1 }, &[x])?;
    let other = Op::Slice { axis: 0, start: half, end: channels, step: 1 };
    let other = net.add(format!("{scope}.other"), other, &[x])?;
    let branch = bottleneck(net, scope, half, 1, other)?;
    join(net, scope, kept, branch)
}

/// Both branches see all channels, and both halve the size.
fn down_block(net: &mut Net, scope: &str, channels: usize, x: NodeId) -> Layer {
    let half = channels / 2;
    let left_scope = format!("{scope}.left");
    let left = net.conv_bn(&left_scope, "1", depthwise(net.channels(x), 2), x)?;
    let left = net.conv_bn_relu(&left_scope, "2", Conv2d::square(half, 1, 1), left)?;
    let right = bottleneck(net, &format!("{scope}.right"), half, 2, x)?;
    join(net, scope, left, right)
}

fn bottleneck(net: &mut Net, scope: &str, channels: usize, stride: usize, x: NodeId) -> Layer {
    let x = net.conv_bn_relu(scope, "1", Conv2d::square(channels, 1, 1), x)?;
    let x = net.conv_bn(scope, "2", depthwise(channels, stride), x)?;
    net.conv_bn_relu(scope, "3", Conv2d::square(channels, 1, 1), x)
}

fn depthwise(channels: usize, stride: usize) -> Conv2d {
    Conv2d { groups: channels, ..Conv2d::square(channels, 3, stride) }
}

fn join(net: &mut Net, scope: &str, left: NodeId, right: NodeId) -> Layer {
    let both = net.add(format!("{scope}.concat"), Op::Concat { axis: 0 }, &[left, right])?;
    net.add(format!("{scope}.shuffle"), Op::ChannelShuffle { groups: 2 }, &[both])
}
