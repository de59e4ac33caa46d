//! ResNet with four stages (He et al. 2016, table 1), for small images: a 3×3 stem without pooling.

use super::blocks::{Layer, Net};
use super::error::BuildError;
use super::limits;
use crate::config::Resnet;
use crate::error::InputError;
use crate::graph::{Conv2d, Graph, NodeId, Op};

const FAMILY: &str = "resnet";

/// Ratio of a bottleneck block's output channels to those of its inner convolutions.
const EXPANSION: usize = 4;

pub(super) fn build(spec: &Resnet, input: [usize; 3], classes: usize) -> Result<Graph, BuildError> {
    let (blocks, bottleneck) = match spec.depth {
        18 => ([2, 2, 2, 2], false),
        34 => ([3, 4, 6, 3], false),
        50 => ([3, 4, 6, 3], true),
        other => {
            let problem = format!("{FAMILY}: there is no depth {other}");
            return Err(InputError::new(problem).hint("depth is 18, 34 or 50").into());
        }
    };
    limits::between(FAMILY, "width", spec.width, 1, 2_048)?;
    let (mut net, image) = Net::new(input)?;
    let mut x = net.conv_bn_relu("stem", "", Conv2d::square(spec.width, 3, 1), image)?;
    for (stage, count) in blocks.into_iter().enumerate() {
        for block in 0..count {
            let stride = if stage > 0 && block == 0 { 2 } else { 1 };
            let scope = format!("stage{}.{block}", stage + 1);
            let channels = spec.width << stage;
            x = match bottleneck {
                true => bottleneck_block(&mut net, &scope, channels, stride, x)?,
                false => net.basic_block(&scope, channels, stride, x)?,
            };
        }
    }
    Ok(net.classify(x, classes)?)
}

/// A bottleneck block: 1×1, 3×3 with the stride, 1×1 to four times the channels, plus the shortcut.
fn bottleneck_block(net: &mut Net, scope: &str, channels: usize, stride: usize, x: NodeId) -> Layer {
    let wide = EXPANSION * channels;
    let inner = net.conv_bn_relu(scope, "1", Conv2d::square(channels, 1, 1), x)?;
    let inner = net.conv_bn_relu(scope, "2", Conv2d::square(channels, 3, stride), inner)?;
    let body = net.conv_bn(scope, "3", Conv2d::square(wide, 1, 1), inner)?;
    let shortcut = net.shortcut(scope, wide, stride, x)?;
    let sum = net.add(format!("{scope}.add"), Op::Add, &[body, shortcut])?;
    net.relu(format!("{scope}.relu3"), sum)
}
