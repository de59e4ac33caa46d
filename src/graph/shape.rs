//! The shape of each operation's value, and error messages for inputs that do not fit.

use super::op::{Conv2d, Op, Pool, Shape, Unary};
use super::resize::Resize;

impl Op {
    /// The shape of this operation's value for inputs of the given shapes.
    ///
    /// # Errors
    /// A sentence that says what does not fit; the caller adds the node's name.
    pub fn infer(&self, inputs: &[&Shape]) -> Result<Shape, String> {
        match self {
            Op::Input { shape } => infer_input(shape, inputs),
            Op::Constant { values } => infer_constant(values.shape(), inputs),
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
                [outer @ .., _] if *out_features > 0 => Ok([outer, &[*out_features]].concat()),
                [_, ..] => Err("out_features must be at least 1".into()),
                [] => Err("a linear layer needs features, found a single number".into()),
            },
            Op::Add => infer_add(inputs),
            Op::Concat { axis } => infer_concat(*axis, inputs),
            Op::Slice { axis, start, end, step } => {
                let mut shape = one(inputs)?.clone();
                let size = along(&shape, *axis)?;
                if start >= end || *end > size {
                    return Err(format!("indices {start}..{end} do not lie within 0..{size}"));
                }
                if *step == 0 {
                    return Err("a step must be at least 1".into());
                }
                shape[*axis] = (end - start).div_ceil(*step);
                Ok(shape)
            }
            Op::ChannelShuffle { groups } => {
                let [c, h, w] = image(one(inputs)?)?;
                if *groups == 0 || !c.is_multiple_of(*groups) {
                    return Err(format!("{c} channels do not divide into {groups} groups"));
                }
                Ok(vec![c, h, w])
            }
            Op::Unary(unary) => {
                match unary {
                    Unary::LeakyRelu { slope } => finite(unary.kind(), *slope)?,
                    Unary::HardSigmoid { alpha, beta } => {
                        finite(unary.kind(), *alpha)?;
                        finite(unary.kind(), *beta)?;
                    }
                    Unary::Sigmoid
                    | Unary::Tanh
                    | Unary::Erf
                    | Unary::Exp
                    | Unary::Log
                    | Unary::Sqrt
                    | Unary::Abs
                    | Unary::Neg
                    | Unary::Reciprocal
                    | Unary::Softplus
                    | Unary::Floor
                    | Unary::Ceil
                    | Unary::Round
                    | Unary::Sign
                    | Unary::Sin
                    | Unary::Cos
                    | Unary::Tan
                    | Unary::Asin
                    | Unary::Acos
                    | Unary::Atan
                    | Unary::Sinh
                    | Unary::Cosh
                    | Unary::Asinh
                    | Unary::Acosh
                    | Unary::Atanh
                    | Unary::Not => {}
                }
                Ok(one(inputs)?.clone())
            }
            Op::Binary(binary) => match inputs {
                [left, right] => broadcast(binary.kind(), left, right),
                _ => Err(format!("takes two inputs, found {}", inputs.len())),
            },
            Op::Where => match inputs {
                [condition, then, other] => broadcast("where", &broadcast("where", condition, then)?, other),
                _ => Err(format!("takes three inputs, found {}", inputs.len())),
            },
            Op::Softmax { axis } => {
                let shape = one(inputs)?;
                along(shape, *axis)?;
                Ok(shape.clone())
            }
            Op::LayerNorm { axes, eps } => {
                let shape = one(inputs)?;
                positive("eps", *eps)?;
                if *axes == 0 || *axes > shape.len() {
                    return Err(format!("cannot normalise the last {axes} axes of {shape:?}"));
                }
                Ok(shape.clone())
            }
            Op::InstanceNorm { eps } => {
                let shape = one(inputs)?;
                positive("eps", *eps)?;
                if shape.len() < 2 {
                    return Err(format!("needs channels and at least one more axis, found {shape:?}"));
                }
                Ok(shape.clone())
            }
            Op::Resize(resize) => infer_resize(resize, image(one(inputs)?)?),
            Op::QuantizeDequantize(quantize) => {
                let shape = one(inputs)?;
                quantize.check(shape)?;
                Ok(shape.clone())
            }
            Op::Mean { axes } | Op::Max { axes } => {
                let mut shape = one(inputs)?.clone();
                if axes.is_empty() || !axes.is_sorted_by(|a, b| a < b) {
                    return Err(format!("axes must ascend, found {axes:?}"));
                }
                for &axis in axes {
                    along(&shape, axis)?;
                    shape[axis] = 1;
                }
                Ok(shape)
            }
            Op::Reshape { shape } => {
                let from = one(inputs)?;
                if elements(from)? != elements(shape)? {
                    return Err(format!("{from:?} cannot be seen as {shape:?}"));
                }
                Ok(shape.clone())
            }
            Op::Transpose { order } => {
                let shape = one(inputs)?;
                let mut sorted = order.clone();
                sorted.sort_unstable();
                if sorted.iter().copied().ne(0..shape.len()) {
                    return Err(format!("{order:?} is not a permutation of the axes of {shape:?}"));
                }
                Ok(order.iter().map(|&axis| shape[axis]).collect())
            }
            Op::Pad { before, after, value } => infer_pad(before, after, *value, one(inputs)?),
            Op::MatMul => infer_mat_mul(inputs),
        }
    }
}

fn along(shape: &Shape, axis: usize) -> Result<usize, String> {
    shape.get(axis).copied().ok_or_else(|| format!("{shape:?} has no axis {axis}"))
}

fn finite(what: &str, value: f64) -> Result<(), String> {
    if value.is_finite() { Ok(()) } else { Err(format!("{what} has a number of {value}")) }
}

fn infer_constant(shape: &[usize], inputs: &[&Shape]) -> Result<Shape, String> {
    if !inputs.is_empty() {
        return Err("a constant takes no inputs".into());
    }
    if shape.contains(&0) {
        return Err(format!("a constant needs values, found {shape:?}"));
    }
    Ok(shape.to_vec())
}

fn infer_resize(resize: &Resize, [c, h, w]: [usize; 3]) -> Result<Shape, String> {
    let [height, width] = resize.size;
    if [h, w, height, width].contains(&0) {
        return Err(format!("cannot resize {h} x {w} to {height} x {width}"));
    }
    for scale in resize.scale {
        positive("scale", scale)?;
    }
    // The weights of an axis are a matrix.
    let entries =
        [(h, height), (w, width)].map(|(from, to)| from.checked_mul(to).filter(|&n| n <= MAX_RESIZE));
    if entries.contains(&None) {
        return Err(format!("resizing {h} x {w} to {height} x {width} is too much"));
    }
    Ok(vec![c, height, width])
}

/// Maximum weights along an axis of a resize: from 4,096 to 4,096 pixels.
const MAX_RESIZE: usize = 1 << 24;

/// The shape of a function of two elements, called `kind` in errors.
fn broadcast(kind: &str, left: &Shape, right: &Shape) -> Result<Shape, String> {
    let misfit = || format!("{left:?} {kind} {right:?} is not defined");
    if left.len() != right.len() {
        return Err(misfit());
    }
    let axis = |(&left, &right): (&usize, &usize)| match (left, right) {
        (left, right) if left == right => Ok(left),
        (1, size) | (size, 1) => Ok(size),
        _ => Err(misfit()),
    };
    left.iter().zip(right.iter()).map(axis).collect()
}

fn infer_pad(before: &[usize], after: &[usize], value: f64, shape: &Shape) -> Result<Shape, String> {
    if before.len() != shape.len() || after.len() != shape.len() || value.is_nan() {
        return Err(format!("cannot pad {shape:?} by {before:?} and {after:?} with {value}"));
    }
    let side = |axis: usize| shape[axis].checked_add(before[axis])?.checked_add(after[axis]);
    let padded: Option<Shape> = (0..shape.len()).map(side).collect();
    padded.ok_or_else(|| format!("padding {before:?} and {after:?} is too much"))
}

fn infer_mat_mul(inputs: &[&Shape]) -> Result<Shape, String> {
    let [left, right] = inputs else { return Err(format!("takes two inputs, found {}", inputs.len())) };
    match (left.as_slice(), right.as_slice()) {
        ([outer @ .., rows, inner], [others @ .., depth, columns]) if inner == depth => {
            let mut shape = broadcast("matrix product", &outer.to_vec(), &others.to_vec())?;
            shape.extend([rows, columns]);
            Ok(shape)
        }
        _ => Err(format!("{left:?} and {right:?} have no matrix product")),
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
        let reach =
            conv.dilation[axis].checked_mul(conv.kernel[axis] - 1).and_then(|last| last.checked_add(1));
        let reach = reach.ok_or("the kernel reaches too far")?;
        window(dim, reach, conv.stride[axis], conv.padding[axis], false)
    };
    Ok(vec![conv.out_channels, side(h, 0)?, side(w, 1)?])
}

fn infer_pool(pool: &Pool, [c, h, w]: [usize; 3]) -> Result<Shape, String> {
    let side = |dim: usize, axis: usize| {
        if pool.padding[axis] > pool.kernel[axis] / 2 {
            return Err(format!(
                "padding {} is more than half of the window {}",
                pool.padding[axis], pool.kernel[axis]
            ));
        }
        window(dim, pool.kernel[axis], pool.stride[axis], pool.padding[axis], pool.ceil_mode)
    };
    Ok(vec![c, side(h, 0)?, side(w, 1)?])
}

/// Number of windows of length `reach` along `dim`. In ceil mode the last one must start inside the image or its
/// leading padding, as in PyTorch and ONNX (from opset 19).
fn window(dim: usize, reach: usize, stride: usize, padding: usize, ceil: bool) -> Result<usize, String> {
    if stride == 0 || reach == 0 {
        return Err("window and stride must be at least 1".into());
    }
    let padded = padding.checked_mul(2).and_then(|both| both.checked_add(dim));
    let padded = padded.ok_or_else(|| format!("padding {padding} is too much"))?;
    if padded < reach {
        return Err(format!("a window of {reach} does not fit into {dim} with padding {padding}"));
    }
    let span = padded - reach;
    let mut count = if ceil { span.div_ceil(stride) } else { span / stride } + 1;
    if ceil && (count - 1).saturating_mul(stride) >= dim + padding {
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

fn infer_concat(axis: usize, inputs: &[&Shape]) -> Result<Shape, String> {
    let [first, ..] = inputs else { return Err("concat needs inputs".into()) };
    let mut joined = (*first).clone();
    along(first, axis)?;
    joined[axis] = 0;
    for shape in inputs {
        let alike = shape.len() == first.len()
            && (0..first.len()).all(|other| other == axis || shape[other] == first[other]);
        if !alike {
            return Err(format!("cannot join {first:?} and {shape:?} along axis {axis}"));
        }
        joined[axis] = joined[axis].checked_add(shape[axis]).ok_or("too much to join")?;
    }
    Ok(joined)
}

#[cfg(test)]
mod tests {
    use super::super::op::Binary;
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
        let linear = Op::Linear { out_features: 10, bias: true };
        assert_eq!(linear.infer(&[&image]), Ok(vec![3, 8, 10]));
        let slice = Op::Slice { axis: 0, start: 1, end: 4, step: 1 };
        assert!(slice.infer(&[&image]).unwrap_err().contains("0..3"));
        let far = Op::Pad { before: vec![usize::MAX, 0, 0], after: vec![0; 3], value: 0.0 };
        assert!(far.infer(&[&image]).unwrap_err().contains("too much"));
        let order = Op::Transpose { order: vec![0, 0, 1] };
        assert!(order.infer(&[&image]).unwrap_err().contains("not a permutation"));
        assert!(Op::MatMul.infer(&[&image, &image]).is_ok());
        assert!(Op::MatMul.infer(&[&image, &vec![3, 7, 8]]).unwrap_err().contains("no matrix product"));
        assert_eq!(Op::Binary(Binary::Mul).infer(&[&image, &vec![3, 1, 1]]), Ok(image.clone()));
        assert!(
            Op::Binary(Binary::Mul).infer(&[&image, &vec![2, 1, 1]]).unwrap_err().contains("not defined")
        );
        assert!(Op::Add.infer(&[&image, &vec![4, 8, 8]]).unwrap_err().contains("cannot add"));
    }
}
