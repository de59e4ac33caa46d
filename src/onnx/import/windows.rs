//! Windows over an image: their size, steps and padding in files, pooling, Pad.

use ndarray::ArrayD;

use crate::graph::{Binary, Op, Pool, Unary};

use super::arguments::{integers, known};
use super::node::{FileNode, axis_of, size};
use super::rearrange::MAX_RUNS;
use super::walk::Walk;

/// A window's numbers, `[vertical, horizontal]`, with the padding before and after.
#[derive(Debug, Clone, Copy)]
pub struct Window {
    pub kernel: [usize; 2],
    pub stride: [usize; 2],
    pub dilation: [usize; 2],
    pub before: [usize; 2],
    pub after: [usize; 2],
    /// The maximum padding that an operation can have itself.
    pub most: [usize; 2],
}

impl Window {
    /// Whether an operation can have this padding: the same on both sides, and not too large.
    fn is_plain(&self) -> bool {
        self.before == self.after && (0..2).all(|axis| self.before[axis] <= self.most[axis])
    }

    /// The padding that is left to the operation.
    pub fn own_padding(&self) -> [usize; 2] {
        if self.is_plain() { self.before } else { [0; 2] }
    }

    /// The padding behind an axis of `dim` pixels with which as many windows fit as when their number is rounded up; the
    /// last one must start within the image or the padding before it.
    fn rounded_up(&self, axis: usize, dim: usize) -> Option<usize> {
        let (kernel, stride) = (self.kernel[axis], self.stride[axis]);
        let start = dim.checked_add(self.before[axis])?;
        let span = start.checked_add(self.after[axis])?.checked_sub(kernel)?;
        let mut last = span.div_ceil(stride).checked_mul(stride)?;
        if last >= start {
            last = last.checked_sub(stride)?;
        }
        Some(last.checked_add(kernel)?.saturating_sub(start))
    }

    fn pool(&self, ceil_mode: bool) -> Pool {
        Pool { kernel: self.kernel, stride: self.stride, padding: self.own_padding(), ceil_mode }
    }
}

impl<'a> Walk<'a> {
    /// The window of a convolution, whose kernel size follows from its weights, or of a pooling.
    pub fn window(
        &self,
        node: &FileNode<'a>,
        x: usize,
        kernel: Option<[usize; 2]>,
    ) -> Result<Window, String> {
        let shape = self.shape_of(x);
        // A sequence is an image of height one.
        let (height, width, sequence) = match shape[..] {
            [_, height, width] => (height, width, false),
            [_, length] => (1, length, true),
            _ => return Err(format!("reads {shape:?}, not an image")),
        };
        let numbers = |name: &str, count: usize, default: usize| -> Result<Vec<usize>, String> {
            let Some(values) = node.ints(name)? else { return Ok(vec![default; count]) };
            if values.len() != count {
                return Err(format!("{name} are {values:?}, expected {count} numbers"));
            }
            values.iter().map(|&value| size(name, value)).collect()
        };
        let pair = |name: &str, default: usize| -> Result<[usize; 2], String> {
            Ok(match numbers(name, if sequence { 1 } else { 2 }, default)?[..] {
                [vertical, horizontal] => [vertical, horizontal],
                [length] => [length.min(1), length],
                _ => return Err(format!("{name} are not two numbers")),
            })
        };
        let named = pair("kernel_shape", 0)?;
        let kernel = match kernel {
            Some(kernel) if named != [0, 0] && named != kernel => {
                return Err(format!("kernel_shape is {named:?}, the weights have {kernel:?}"));
            }
            Some(kernel) => kernel,
            None => named,
        };
        let (stride, dilation) = (pair("strides", 1)?, pair("dilations", 1)?);
        if [kernel, stride, dilation].iter().flatten().any(|&number| number == 0) {
            return Err("kernel, strides and dilations must be at least 1".into());
        }
        let (mut before, mut after) = match numbers("pads", if sequence { 2 } else { 4 }, 0)?[..] {
            [top, left, bottom, right] => ([top, left], [bottom, right]),
            [start, end] => ([0, start], [0, end]),
            _ => return Err("pads are not numbers for each side".into()),
        };
        match node.text("auto_pad", "NOTSET")? {
            "NOTSET" | "" => {}
            "VALID" => (before, after) = ([0; 2], [0; 2]),
            same @ ("SAME_UPPER" | "SAME_LOWER") => {
                for (axis, dim) in [height, width].into_iter().enumerate() {
                    let last = (dim.div_ceil(stride[axis]) - 1).saturating_mul(stride[axis]);
                    let reach = dilation[axis].saturating_mul(kernel[axis] - 1).saturating_add(1);
                    let total = last.saturating_add(reach).saturating_sub(dim);
                    let less = total / 2;
                    (before[axis], after[axis]) =
                        if same == "SAME_UPPER" { (less, total - less) } else { (total - less, less) };
                }
            }
            other => return Err(format!("auto_pad is '{other}'")),
        }
        Ok(Window { kernel, stride, dilation, before, after, most: [usize::MAX; 2] })
    }

    /// The input of a window: the image, with the padding that the operation cannot have itself.
    pub fn padded(
        &mut self,
        node: &FileNode<'a>,
        x: usize,
        window: &Window,
        value: f64,
    ) -> Result<usize, String> {
        if window.is_plain() {
            return Ok(x);
        }
        let side = |[vertical, horizontal]: [usize; 2]| vec![0, vertical, horizontal];
        let op = Op::Pad { before: side(window.before), after: side(window.after), value };
        self.add_part(node, "pad", op, &[x])
    }

    fn pool_window(&self, node: &FileNode<'a>, x: usize) -> Result<(Window, bool), String> {
        let mut window = self.window(node, x, None)?;
        window.most = window.kernel.map(|side| side / 2);
        let ceil = node.flag("ceil_mode", false)?;
        if window.dilation != [1, 1] {
            return Err("dilated pooling is not supported".into());
        }
        if !ceil || window.is_plain() {
            return Ok((window, ceil));
        }
        // The same windows, with more padding behind instead of a size that is rounded up.
        let dims = match self.shape_of(x)[1..] {
            [height, width] => [height, width],
            [length] => [1, length],
            _ => return Err("reads no image".into()),
        };
        for (axis, dim) in dims.into_iter().enumerate() {
            window.after[axis] = window.rounded_up(axis, dim).ok_or("its padding is too much")?;
        }
        Ok((window, false))
    }

    /// A sequence as an image of height one, and the name of a node that computes with it; an image stays as it is.
    pub fn as_image(&mut self, node: &FileNode<'a>, x: usize) -> Result<(usize, String), String> {
        let &[channels, length] = &self.shape_of(x)[..] else { return Ok((x, node.name.clone())) };
        let image = self.add_part(node, "image", Op::Reshape { shape: vec![channels, 1, length] }, &[x])?;
        Ok((image, format!("{}.row", node.name)))
    }

    /// The result of a node that computed with [`Walk::as_image`] of `x`: a sequence again if `x` is one.
    pub fn as_it_was(&mut self, node: &FileNode<'a>, x: usize, result: usize) -> Result<usize, String> {
        match (self.shape_of(x).len(), &self.shape_of(result)[..]) {
            (2, &[channels, _, length]) => self.reshape(node, result, vec![channels, length]),
            _ => Ok(result),
        }
    }

    pub fn max_pool(&mut self, node: &FileNode<'a>) -> Result<usize, String> {
        let x = self.data(node, 0)?;
        let (window, ceil) = self.pool_window(node, x)?;
        let (image, name) = self.as_image(node, x)?;
        let padded = self.padded(node, image, &window, f64::NEG_INFINITY)?;
        let op = Op::MaxPool(window.pool(ceil));
        let result = self.draft.add(&name, &node.name, op, &[padded], Vec::new())?;
        self.as_it_was(node, x, result)
    }

    pub fn average_pool(&mut self, node: &FileNode<'a>) -> Result<usize, String> {
        let x = self.data(node, 0)?;
        let (window, ceil) = self.pool_window(node, x)?;
        let (image, name) = self.as_image(node, x)?;
        let result = self.means(node, image, &window, ceil, &name)?;
        self.as_it_was(node, x, result)
    }

    /// The mean of each window of an image.
    fn means(
        &mut self,
        node: &FileNode<'a>,
        x: usize,
        window: &Window,
        ceil: bool,
        name: &str,
    ) -> Result<usize, String> {
        let count_include_pad = node.flag("count_include_pad", false)?;
        let op = Op::AvgPool { pool: window.pool(ceil), count_include_pad };
        if window.is_plain() {
            return self.draft.add(name, &node.name, op, &[x], Vec::new());
        }
        if count_include_pad && node.flag("ceil_mode", false)? {
            return Err("counts a padding that is not the same on both sides, and rounds sizes up".into());
        }
        let shape = self.shape_of(x).clone();
        let padded = self.padded(node, x, window, 0.0)?;
        if count_include_pad {
            return self.draft.add(name, &node.name, op, &[padded], Vec::new());
        }
        let mean = self.add_part(node, "mean", op, &[padded])?;
        let [_, high, wide] = self.shape_of(mean)[..] else { return Err("gives no image".into()) };
        // The mean over a whole window, times the window's area divided by the part of it that is image.
        let inside = |axis: usize, index: usize, dim: usize| {
            let (start, lead) = (index * window.stride[axis], window.before[axis]);
            let end = (start + window.kernel[axis]).min(dim + lead);
            window.kernel[axis] as f64 / end.saturating_sub(start.max(lead)).max(1) as f64
        };
        let values = ArrayD::from_shape_fn(vec![1, high, wide], |at| {
            (inside(0, at[1], shape[1]) * inside(1, at[2], shape[2])) as f32
        });
        let factor = self.add_part(node, "share", Op::Constant { values }, &[])?;
        self.draft.add(name, &node.name, Op::Binary(Binary::Mul), &[mean, factor], Vec::new())
    }

    /// `(Σ |x|^p)^(1/p)` over each window, or over everything but the channels.
    pub fn lp_pool(&mut self, node: &FileNode<'a>, global: bool) -> Result<usize, String> {
        let x = self.data(node, 0)?;
        let p = node.int("p", 2)?;
        if !(1..=64).contains(&p) {
            return Err(format!("p is {p}"));
        }
        let size = self.add_part(node, "size", Op::Unary(Unary::Abs), &[x])?;
        let power = if p == 1 { size } else { self.with_number(node, "power", Binary::Pow, size, p as f64)? };
        let (mean, count) = if global {
            let shape = self.shape_of(x).clone();
            let mean = Op::Mean { axes: (1..shape.len()).collect() };
            (self.add_part(node, "mean", mean, &[power])?, shape[1..].iter().product())
        } else {
            let (window, ceil) = self.pool_window(node, x)?;
            if ceil || node.flag("ceil_mode", false)? {
                return Err("rounds sizes up".into());
            }
            let (image, _) = self.as_image(node, power)?;
            let padded = self.padded(node, image, &window, 0.0)?;
            let op = Op::AvgPool { pool: window.pool(false), count_include_pad: true };
            let mean = self.add_part(node, "mean", op, &[padded])?;
            (self.as_it_was(node, x, mean)?, window.kernel.iter().product::<usize>())
        };
        let axes = self.shape_of(mean).len();
        let factor = self.number(node, "count", count as f64, axes)?;
        if p == 1 {
            return self.add(node, Op::Binary(Binary::Mul), &[mean, factor], Vec::new());
        }
        let sum = self.add_part(node, "sum", Op::Binary(Binary::Mul), &[mean, factor])?;
        let root = self.number(node, "root", 1.0 / p as f64, axes)?;
        self.add(node, Op::Binary(Binary::Pow), &[sum, root], Vec::new())
    }

    /// The mean or the largest value of each channel.
    pub fn global_pool(&mut self, node: &FileNode<'a>, largest: bool) -> Result<usize, String> {
        let x = self.data(node, 0)?;
        let axes: Vec<usize> = (1..self.shape_of(x).len()).collect();
        if axes.is_empty() {
            return Err("reads features, not an image".into());
        }
        self.add(node, if largest { Op::Max { axes } } else { Op::Mean { axes } }, &[x], Vec::new())
    }

    pub fn pad(&mut self, node: &FileNode<'a>) -> Result<usize, String> {
        let x = self.data(node, 0)?;
        let mode = node.text("mode", "constant")?;
        let count = node.axes_in_file(self.shape_of(x).len());
        let pads = integers(node, "pads", 1, &mut self.budget)?.ok_or("pads are missing")?;
        let value = match node.optional(2) {
            Some(value) => *known(value, &mut self.budget)?.floats()?.first().ok_or("its value is empty")?,
            None => node.float("value", 0.0)?,
        };
        let padded_axes = match node.optional(3) {
            Some(input) => {
                let list = known(input, &mut self.budget)?.ints()?;
                list.into_iter().map(|axis| axis_of(axis, count)).collect::<Result<Vec<_>, _>>()?
            }
            None => (0..count).collect(),
        };
        if pads.len() != 2 * padded_axes.len() {
            return Err(format!("{} pads for {} axes", pads.len(), padded_axes.len()));
        }
        let (mut before, mut after) = (vec![0; count], vec![0; count]);
        let (leading, trailing) = pads.split_at(padded_axes.len());
        for ((&axis, &lead), &trail) in padded_axes.iter().zip(leading).zip(trailing) {
            (before[axis], after[axis]) = (size("a pad", lead)?, size("a pad", trail)?);
        }
        if (0..count).any(|axis| node.own(axis).is_err() && (before[axis], after[axis]) != (0, 0)) {
            return Err("adds images to the batch".into());
        }
        let first = count - self.shape_of(x).len();
        let (before, after) = (before.split_off(first), after.split_off(first));
        if before.iter().chain(&after).all(|&pad| pad == 0) {
            return Ok(x);
        }
        if mode != "constant" {
            return self.pad_with_own(node, x, mode, &before, &after);
        }
        self.add(node, Op::Pad { before, after, value: f64::from(value as f32) }, &[x], Vec::new())
    }

    /// Data padded with its own values, which are picked along each axis.
    fn pad_with_own(
        &mut self,
        node: &FileNode<'a>,
        mut x: usize,
        mode: &str,
        before: &[usize],
        after: &[usize],
    ) -> Result<usize, String> {
        let axes: Vec<usize> = (0..before.len()).filter(|&axis| before[axis] + after[axis] > 0).collect();
        for (place, &axis) in axes.iter().enumerate() {
            let length = self.shape_of(x)[axis] as i64;
            let picked = |index: i64| match mode {
                "edge" => Ok(index.clamp(0, length - 1)),
                "wrap" => Ok(index.rem_euclid(length)),
                // Twice the last and the first index do not come.
                "reflect" if length > 1 => {
                    let round = index.rem_euclid(2 * (length - 1));
                    Ok(round.min(2 * (length - 1) - round))
                }
                "reflect" => Ok(0),
                other => Err(format!("mode '{other}' is not supported")),
            };
            if before[axis] + after[axis] > MAX_RUNS * length as usize {
                return Err(format!("pads by more than {MAX_RUNS} times the axis"));
            }
            self.budget.take(&[before[axis] + self.shape_of(x)[axis] + after[axis]])?;
            let indices = (-(before[axis] as i64)..length + after[axis] as i64)
                .map(|index| picked(index).map(|index| index as usize))
                .collect::<Result<Vec<_>, _>>()?;
            let last = place + 1 == axes.len();
            let name = if last { node.name.clone() } else { format!("{}.axis{axis}", node.name) };
            let in_file = axis + node.axes_in_file(0);
            x = self.picked(node, &name, x, in_file, &indices)?;
        }
        Ok(x)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Numbers of windows as ONNX's reference implementation and ONNX Runtime have them.
    #[test]
    fn sizes_that_are_rounded_up_are_padding_behind() {
        for ((dim, kernel, stride, before, after), expected, count) in [
            ((8, 2, 2, 0, 1), 0, 4),
            ((8, 2, 2, 1, 0), 1, 5),
            ((7, 3, 2, 0, 1), 2, 4),
            ((7, 2, 3, 1, 0), 0, 3),
            ((5, 3, 2, 1, 0), 1, 3),
        ] {
            let window = Window {
                kernel: [kernel; 2],
                stride: [stride; 2],
                dilation: [1; 2],
                before: [before; 2],
                after: [after; 2],
                most: [usize::MAX; 2],
            };
            let case = (dim, kernel, stride, before, after);
            assert_eq!(window.rounded_up(0, dim), Some(expected), "{case:?}");
            assert_eq!((dim + before + expected - kernel) / stride + 1, count, "{case:?}");
        }
    }
}
