//! The closed set of operations, and the shape each one gives.
//!
//! Every number that decides what an operation computes (eps, padding, ceil mode) is written here,
//! so that no interpreter has a default of its own.

/// Dimensions of one sample, without the batch: `[channels, height, width]` or `[features]`.
pub type Shape = Vec<usize>;

/// One operation. Each has exactly one output.
#[derive(Debug, Clone, PartialEq)]
pub enum Op {
    /// The image, normalised, `[channels, height, width]`.
    Input { shape: Shape },
    /// 2-D cross-correlation over `[channels, height, width]`.
    Conv2d(Conv2d),
    /// Batch normalisation over channels (Ioffe & Szegedy 2015). `momentum` is the weight of the
    /// new batch in the running statistics; the running variance is the unbiased one.
    BatchNorm { eps: f64, momentum: f64 },
    /// `max(x, 0)`.
    Relu,
    /// `min(max(x, min), max)`; ReLU6 is `min = 0, max = 6`.
    Clip { min: f64, max: f64 },
    /// Largest value of each window; padding never wins.
    MaxPool(Pool),
    /// Mean of each window. `count_include_pad` says whether padded zeros count in the divisor.
    AvgPool { pool: Pool, count_include_pad: bool },
    /// Mean over height and width: `[channels, height, width]` to `[channels, 1, 1]`.
    GlobalAvgPool,
    /// All dimensions of a sample to one: `[features]`.
    Flatten,
    /// `x · Wᵀ + b` with `W` of `[out_features, in_features]`.
    Linear { out_features: usize, bias: bool },
    /// Elementwise sum of inputs of equal shape.
    Add,
    /// Joins the inputs along the channels.
    Concat,
    /// Channels `start..end`.
    SliceChannels { start: usize, end: usize },
    /// Channel shuffle (ShuffleNet, Zhang et al. 2018): channels seen as `[groups, c / groups]`,
    /// transposed.
    ChannelShuffle { groups: usize },
}

/// Numbers of a convolution. Pairs are `[vertical, horizontal]`; padding is the same on both sides.
#[derive(Debug, Clone, PartialEq)]
pub struct Conv2d {
    pub out_channels: usize,
    pub kernel: [usize; 2],
    pub stride: [usize; 2],
    pub padding: [usize; 2],
    pub dilation: [usize; 2],
    pub groups: usize,
    pub bias: bool,
}

impl Conv2d {
    /// A square convolution with "same" padding for stride 1, no bias.
    pub fn square(out_channels: usize, kernel: usize, stride: usize) -> Self {
        Self {
            out_channels,
            kernel: [kernel; 2],
            stride: [stride; 2],
            padding: [kernel / 2; 2],
            dilation: [1; 2],
            groups: 1,
            bias: false,
        }
    }
}

/// Numbers of a pooling window. Pairs are `[vertical, horizontal]`.
#[derive(Debug, Clone, PartialEq)]
pub struct Pool {
    pub kernel: [usize; 2],
    pub stride: [usize; 2],
    pub padding: [usize; 2],
    pub ceil_mode: bool,
}

impl Pool {
    /// A square window without padding, sizes rounded down.
    pub fn square(kernel: usize, stride: usize) -> Self {
        Self { kernel: [kernel; 2], stride: [stride; 2], padding: [0; 2], ceil_mode: false }
    }
}

impl Op {
    /// The operation's name as people say it.
    pub fn kind(&self) -> &'static str {
        match self {
            Op::Input { .. } => "input",
            Op::Conv2d(_) => "conv2d",
            Op::BatchNorm { .. } => "batch_norm",
            Op::Relu => "relu",
            Op::Clip { .. } => "clip",
            Op::MaxPool(_) => "max_pool",
            Op::AvgPool { .. } => "avg_pool",
            Op::GlobalAvgPool => "global_avg_pool",
            Op::Flatten => "flatten",
            Op::Linear { .. } => "linear",
            Op::Add => "add",
            Op::Concat => "concat",
            Op::SliceChannels { .. } => "slice_channels",
            Op::ChannelShuffle { .. } => "channel_shuffle",
        }
    }

    /// The shape this operation gives for inputs of these shapes.
    ///
    /// # Errors
    /// A sentence that says what does not fit; the caller adds the node's name.
    pub fn infer(&self, inputs: &[&Shape]) -> Result<Shape, String> {
        match self {
            Op::Input { shape } => infer_input(shape, inputs),
            Op::Conv2d(conv) => infer_conv(conv, image(one(inputs)?)?),
            Op::BatchNorm { eps, momentum } => {
                positive("eps", *eps)?;
                if !(0.0..=1.0).contains(momentum) {
                    return Err(format!("momentum must lie in 0..1, found {momentum}"));
                }
                let [c, h, w] = image(one(inputs)?)?;
                Ok(vec![c, h, w])
            }
            Op::Relu => Ok(one(inputs)?.clone()),
            Op::Clip { min, max } => {
                if min.partial_cmp(max) != Some(std::cmp::Ordering::Less) {
                    return Err(format!("clip needs min < max, found {min} and {max}"));
                }
                Ok(one(inputs)?.clone())
            }
            Op::MaxPool(pool) | Op::AvgPool { pool, .. } => infer_pool(pool, image(one(inputs)?)?),
            Op::GlobalAvgPool => {
                let [c, _, _] = image(one(inputs)?)?;
                Ok(vec![c, 1, 1])
            }
            Op::Flatten => Ok(vec![elements(one(inputs)?)?]),
            Op::Linear { out_features, .. } => match one(inputs)?.as_slice() {
                [_] if *out_features > 0 => Ok(vec![*out_features]),
                [_] => Err("out_features must be at least 1".into()),
                other => Err(format!("a linear layer needs [features], found {other:?}; flatten first")),
            },
            Op::Add => infer_add(inputs),
            Op::Concat => infer_concat(inputs),
            Op::SliceChannels { start, end } => {
                let [c, h, w] = image(one(inputs)?)?;
                if start >= end || *end > c {
                    return Err(format!("channels {start}..{end} do not lie within 0..{c}"));
                }
                Ok(vec![end - start, h, w])
            }
            Op::ChannelShuffle { groups } => {
                let [c, h, w] = image(one(inputs)?)?;
                if *groups == 0 || !c.is_multiple_of(*groups) {
                    return Err(format!("{c} channels do not divide into {groups} groups"));
                }
                Ok(vec![c, h, w])
            }
        }
    }
}

fn one<'a>(inputs: &[&'a Shape]) -> Result<&'a Shape, String> {
    match inputs {
        [shape] => Ok(shape),
        other => Err(format!("takes one input, found {}", other.len())),
    }
}

fn image(shape: &Shape) -> Result<[usize; 3], String> {
    <[usize; 3]>::try_from(shape.as_slice())
        .map_err(|_| format!("needs [channels, height, width], found {shape:?}"))
}

fn positive(what: &str, value: f64) -> Result<(), String> {
    if value > 0.0 && value.is_finite() {
        return Ok(());
    }
    Err(format!("{what} must be positive, found {value}"))
}

fn elements(shape: &Shape) -> Result<usize, String> {
    shape
        .iter()
        .try_fold(1usize, |product, &dim| product.checked_mul(dim))
        .ok_or_else(|| format!("{shape:?} holds more elements than fit in memory"))
}

fn infer_input(shape: &Shape, inputs: &[&Shape]) -> Result<Shape, String> {
    if !inputs.is_empty() {
        return Err("an input takes no inputs".into());
    }
    image(shape)?;
    if elements(shape)? == 0 {
        return Err(format!("dimensions must be at least 1, found {shape:?}"));
    }
    Ok(shape.clone())
}

fn infer_conv(conv: &Conv2d, [c, h, w]: [usize; 3]) -> Result<Shape, String> {
    if conv.groups == 0 || !c.is_multiple_of(conv.groups) || !conv.out_channels.is_multiple_of(conv.groups) {
        return Err(format!(
            "{c} input and {} output channels do not divide into {} groups",
            conv.out_channels, conv.groups
        ));
    }
    if conv.out_channels == 0 {
        return Err("out_channels must be at least 1".into());
    }
    let side = |dim: usize, axis: usize| {
        if conv.dilation[axis] == 0 || conv.kernel[axis] == 0 {
            return Err("kernel and dilation must be at least 1".to_string());
        }
        let reach = conv.dilation[axis] * (conv.kernel[axis] - 1) + 1;
        window(dim, reach, conv.stride[axis], conv.padding[axis], false)
    };
    Ok(vec![conv.out_channels, side(h, 0)?, side(w, 1)?])
}

fn infer_pool(pool: &Pool, [c, h, w]: [usize; 3]) -> Result<Shape, String> {
    let side = |dim: usize, axis: usize| {
        if pool.padding[axis] * 2 > pool.kernel[axis] {
            return Err(format!(
                "padding {} is more than half of the window {}",
                pool.padding[axis], pool.kernel[axis]
            ));
        }
        window(dim, pool.kernel[axis], pool.stride[axis], pool.padding[axis], pool.ceil_mode)
    };
    Ok(vec![c, side(h, 0)?, side(w, 1)?])
}

/// Number of windows of `reach` along `dim`. In ceil mode the last one must start inside the
/// image or its leading padding, as PyTorch and ONNX (opset 19 on) have it.
fn window(dim: usize, reach: usize, stride: usize, padding: usize, ceil: bool) -> Result<usize, String> {
    if stride == 0 || reach == 0 {
        return Err("window and stride must be at least 1".into());
    }
    let padded = dim + 2 * padding;
    if padded < reach {
        return Err(format!("a window of {reach} does not fit into {dim} with padding {padding}"));
    }
    let span = padded - reach;
    let mut count = if ceil { span.div_ceil(stride) } else { span / stride } + 1;
    if ceil && (count - 1) * stride >= dim + padding {
        count -= 1;
    }
    Ok(count)
}

fn infer_add(inputs: &[&Shape]) -> Result<Shape, String> {
    let [first, rest @ ..] = inputs else { return Err("add needs inputs".into()) };
    if rest.is_empty() {
        return Err("add takes at least two inputs, found 1".into());
    }
    match rest.iter().find(|shape| *shape != first) {
        Some(other) => Err(format!("cannot add {first:?} and {other:?}")),
        None => Ok((*first).clone()),
    }
}

fn infer_concat(inputs: &[&Shape]) -> Result<Shape, String> {
    let [first, ..] = inputs else { return Err("concat needs inputs".into()) };
    let [_, height, width] = image(first)?;
    let mut channels = 0;
    for shape in inputs {
        let [c, h, w] = image(shape)?;
        if (h, w) != (height, width) {
            return Err(format!("cannot join {first:?} and {shape:?} along the channels"));
        }
        channels += c;
    }
    Ok(vec![channels, height, width])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn window_counts_match_pytorch() {
        // (dim, window, stride, padding, ceil) as torch.nn.MaxPool2d reports them.
        for (case, expected) in [
            ((32, 3, 2, 1, false), 16),
            ((32, 2, 2, 0, false), 16),
            ((7, 2, 2, 0, false), 3),
            ((7, 2, 2, 0, true), 4),
            ((6, 3, 2, 1, true), 4),
            ((5, 2, 3, 1, true), 2),
            ((3, 1, 3, 0, true), 1),
        ] {
            let (dim, reach, stride, padding, ceil) = case;
            assert_eq!(window(dim, reach, stride, padding, ceil), Ok(expected), "{case:?}");
        }
    }

    #[test]
    fn misfits_are_named() {
        let image = vec![3, 8, 8];
        let grouped = Op::Conv2d(Conv2d { groups: 2, ..Conv2d::square(8, 3, 1) });
        assert!(grouped.infer(&[&image]).unwrap_err().contains("2 groups"));
        let wide = Op::Conv2d(Conv2d { padding: [0, 0], ..Conv2d::square(8, 9, 1) });
        assert!(wide.infer(&[&image]).unwrap_err().contains("does not fit"));
        assert!(
            Op::Linear { out_features: 10, bias: true }.infer(&[&image]).unwrap_err().contains("flatten")
        );
        assert!(Op::Add.infer(&[&image, &vec![4, 8, 8]]).unwrap_err().contains("cannot add"));
    }
}
