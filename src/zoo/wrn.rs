//! Wide ResNet (Zagoruyko & Komodakis 2016): normalisation and ReLU precede each convolution, and also the
//! final pooling.

use super::blocks::{Layer, Net};
use super::error::BuildError;
use super::limits;
use crate::config::Wrn;
use crate::graph::{Conv2d, Graph, NodeId, Op};

const FAMILY: &str = "wrn";

pub(super) fn build(spec: &Wrn, input: [usize; 3], classes: usize) -> Result<Graph, BuildError> {
    let blocks = limits::blocks(FAMILY, spec.depth, 4)?;
    limits::channels(FAMILY, "stem", spec.stem)?;
    limits::between(FAMILY, "widen", spec.widen, 1, 64)?;
    let (mut net, image) = Net::new(input)?;
    let mut x = net.conv("stem.conv", Conv2d::square(spec.stem, 3, 1), image)?;
    for stage in 0..3 {
        let channels = (spec.stem * spec.widen) << stage;
        for block in 0..blocks {
            let stride = if stage > 0 && block == 0 { 2 } else { 1 };
            x = pre_activation_block(&mut net, &format!("stage{}.{block}", stage + 1), channels, stride, x)?;
        }
    }
    let x = net.batch_norm("last.bn", x)?;
    let x = net.relu("last.relu", x)?;
    Ok(net.classify(x, classes)?)
}

/// `x + conv(relu(bn(conv(relu(bn(x))))))`; where the shape changes, `x` is replaced by the first activation
/// passed through a 1×1 convolution.
fn pre_activation_block(net: &mut Net, scope: &str, channels: usize, stride: usize, x: NodeId) -> Layer {
    let norm = net.batch_norm(format!("{scope}.bn1"), x)?;
    let active = net.relu(format!("{scope}.relu1"), norm)?;
    let inner = net.conv(format!("{scope}.conv1"), Conv2d::square(channels, 3, stride), active)?;
    let inner = net.batch_norm(format!("{scope}.bn2"), inner)?;
    let inner = net.relu(format!("{scope}.relu2"), inner)?;
    let body = net.conv(format!("{scope}.conv2"), Conv2d::square(channels, 3, 1), inner)?;
    let shortcut = if net.channels(x) == channels && stride == 1 {
        x
    } else {
        net.conv(format!("{scope}.shortcut.conv"), Conv2d::square(channels, 1, stride), active)?
    };
    net.add(format!("{scope}.add"), Op::Add, &[shortcut, body])
}
