//! A network written as a plain list of layers. A node is named after its index in the list and its
//! operation: `0.conv`, `4.body.1.batch_norm`.

use super::blocks::Net;
use super::error::BuildError;
use super::limits;
use crate::config::{ConvSpec, Features, LayerSpec, LinearSpec, PoolSpec, ResidualSpec};
use crate::error::InputError;
use crate::graph::{Conv2d, Graph, NodeId, Op, Pool};

const FAMILY: &str = "layers";

pub(super) fn build(layers: &[LayerSpec], input: [usize; 3], classes: usize) -> Result<Graph, BuildError> {
    let Some((LayerSpec::Linear(LinearSpec { out: Features::Classes, bias }), body)) = layers.split_last()
    else {
        return Err(InputError::new(format!("{FAMILY}: the last layer does not output the classes"))
            .hint("end the list with `- linear: {out: classes}`")
            .into());
    };
    let (mut net, image) = Net::new(input)?;
    let embedding = sequence(&mut net, "", body, classes, image)?;
    let last = Op::Linear { out_features: classes, bias: *bias };
    net.flat("classifier", &last, embedding)?;
    let logits = net.add("classifier", last, &[embedding])?;
    Ok(net.finish(logits, embedding))
}

fn sequence(
    net: &mut Net,
    scope: &str,
    layers: &[LayerSpec],
    classes: usize,
    mut x: NodeId,
) -> Result<NodeId, BuildError> {
    for (index, layer) in layers.iter().enumerate() {
        x = one_layer(net, &format!("{scope}{index}"), layer, classes, x)?;
    }
    Ok(x)
}

fn one_layer(
    net: &mut Net,
    place: &str,
    layer: &LayerSpec,
    classes: usize,
    x: NodeId,
) -> Result<NodeId, BuildError> {
    let node = match layer {
        LayerSpec::Conv(spec) => conv(net, place, spec, x)?,
        LayerSpec::BatchNorm => net.batch_norm(format!("{place}.batch_norm"), x)?,
        LayerSpec::Relu => net.relu(format!("{place}.relu"), x)?,
        LayerSpec::Relu6 => net.add(format!("{place}.relu6"), Op::Clip { min: 0.0, max: 6.0 }, &[x])?,
        LayerSpec::MaxPool(spec) => {
            net.add(format!("{place}.max_pool"), Op::MaxPool(window(place, spec)?), &[x])?
        }
        LayerSpec::AvgPool(spec) => {
            let op = Op::AvgPool { pool: window(place, spec)?, count_include_pad: true };
            net.add(format!("{place}.avg_pool"), op, &[x])?
        }
        LayerSpec::GlobalAvgPool => net.add(format!("{place}.global_avg_pool"), Op::GlobalAvgPool, &[x])?,
        LayerSpec::Flatten => net.add(format!("{place}.flatten"), Op::Flatten, &[x])?,
        LayerSpec::Linear(spec) => linear(net, place, spec, classes, x)?,
        LayerSpec::ChannelShuffle(spec) => {
            let op = Op::ChannelShuffle { groups: spec.groups };
            net.add(format!("{place}.channel_shuffle"), op, &[x])?
        }
        LayerSpec::Residual(ResidualSpec { body, shortcut }) => {
            let inner = sequence(net, &format!("{place}.body."), body, classes, x)?;
            let outer = sequence(net, &format!("{place}.shortcut."), shortcut, classes, x)?;
            net.add(format!("{place}.add"), Op::Add, &[inner, outer])?
        }
    };
    Ok(node)
}

fn conv(net: &mut Net, place: &str, spec: &ConvSpec, x: NodeId) -> Result<NodeId, BuildError> {
    let at = format!("{FAMILY}[{place}].conv");
    limits::channels(&at, "out", spec.out)?;
    for (key, value) in [("kernel", spec.kernel), ("stride", spec.stride), ("dilation", spec.dilation)] {
        limits::side(&at, key, value, 1)?;
    }
    let padding = spec.padding.unwrap_or(spec.kernel / 2);
    limits::side(&at, "padding", padding, 0)?;
    let conv = Conv2d {
        padding: [padding; 2],
        dilation: [spec.dilation; 2],
        groups: spec.groups,
        bias: spec.bias,
        ..Conv2d::square(spec.out, spec.kernel, spec.stride)
    };
    Ok(net.conv(format!("{place}.conv"), conv, x)?)
}

fn window(place: &str, spec: &PoolSpec) -> Result<Pool, InputError> {
    let at = format!("{FAMILY}[{place}].pool");
    let stride = spec.stride.unwrap_or(spec.kernel);
    limits::side(&at, "kernel", spec.kernel, 1)?;
    limits::side(&at, "stride", stride, 1)?;
    limits::side(&at, "padding", spec.padding, 0)?;
    Ok(Pool { padding: [spec.padding; 2], ceil_mode: spec.ceil, ..Pool::square(spec.kernel, stride) })
}

fn linear(
    net: &mut Net,
    place: &str,
    spec: &LinearSpec,
    classes: usize,
    x: NodeId,
) -> Result<NodeId, BuildError> {
    let out_features = match spec.out {
        Features::Count(count) => count,
        Features::Classes => classes,
    };
    limits::channels(&format!("{FAMILY}[{place}].linear"), "out", out_features)?;
    let op = Op::Linear { out_features, bias: spec.bias };
    net.flat(&format!("{place}.linear"), &op, x)?;
    Ok(net.add(format!("{place}.linear"), op, &[x])?)
}
