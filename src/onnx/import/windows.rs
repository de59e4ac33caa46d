//! Windows over an image: their size, steps and padding in files, pooling, Pad.

use ndarray::ArrayD;

use crate::graph::{Binary, Op, Pool};

use super::arguments::{integers, known};
use super::node::{FileNode, axis_of, size};
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
        let &[_, height, width] = &shape[..] else { return Err(format!("reads {shape:?}, not an image")) };
        let numbers = |name: &str, count: usize, default: usize| -> Result<Vec<usize>, String> {
            let Some(values) = node.ints(name)? else { return Ok(vec![default; count]) };
            if values.len() != count {
                return Err(format!("{name} are {values:?}, expected {count} numbers"));
            }
            values.iter().map(|&value| size(name, value)).collect()
        };
        let pair = |name: &str, default: usize| numbers(name, 2, default).map(|pair| [pair[0], pair[1]]);
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
        let pads = numbers("pads", 4, 0)?;
        let (mut before, mut after) = ([pads[0], pads[1]], [pads[2], pads[3]]);
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
        if ceil && !window.is_plain() {
            return Err("rounds sizes up with a padding that is not the same on both sides".into());
        }
        Ok((window, ceil))
    }

    pub fn max_pool(&mut self, node: &FileNode<'a>) -> Result<usize, String> {
        let x = self.data(node, 0)?;
        let (window, ceil) = self.pool_window(node, x)?;
        let x = self.padded(node, x, &window, f64::NEG_INFINITY)?;
        self.add(node, Op::MaxPool(window.pool(ceil)), &[x], Vec::new())
    }

    pub fn average_pool(&mut self, node: &FileNode<'a>) -> Result<usize, String> {
        let x = self.data(node, 0)?;
        let (window, ceil) = self.pool_window(node, x)?;
        let count_include_pad = node.flag("count_include_pad", false)?;
        let op = Op::AvgPool { pool: window.pool(ceil), count_include_pad };
        if window.is_plain() {
            return self.add(node, op, &[x], Vec::new());
        }
        let shape = self.shape_of(x).clone();
        let padded = self.padded(node, x, &window, 0.0)?;
        if count_include_pad {
            return self.add(node, op, &[padded], Vec::new());
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
        self.add(node, Op::Binary(Binary::Mul), &[mean, factor], Vec::new())
    }

    pub fn global_pool(&mut self, node: &FileNode<'a>, largest: bool) -> Result<usize, String> {
        let x = self.data(node, 0)?;
        let shape = self.shape_of(x).clone();
        match (&shape[..], largest) {
            (&[_, height, width], true) => {
                let pool = Pool { kernel: [height, width], ..Pool::square(1, 1) };
                self.add(node, Op::MaxPool(pool), &[x], Vec::new())
            }
            (&[_, _, _], false) => self.add(node, Op::GlobalAvgPool, &[x], Vec::new()),
            _ => Err(format!("reads {shape:?}, not an image")),
        }
    }

    pub fn pad(&mut self, node: &FileNode<'a>) -> Result<usize, String> {
        let x = self.data(node, 0)?;
        let mode = node.text("mode", "constant")?;
        if mode != "constant" {
            return Err(format!("mode '{mode}' is not supported"));
        }
        let count = self.shape_of(x).len() + 1;
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
        if (before.remove(0), after.remove(0)) != (0, 0) {
            return Err("adds images to the batch".into());
        }
        if before.iter().chain(&after).all(|&pad| pad == 0) {
            return Ok(x);
        }
        self.add(node, Op::Pad { before, after, value: f64::from(value as f32) }, &[x], Vec::new())
    }
}
