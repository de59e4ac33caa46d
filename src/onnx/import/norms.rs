//! Normalisations other than BatchNorm and LayerNorm.

use std::rc::Rc;

use ndarray::{ArrayD, IxDyn};

use crate::graph::{Binary, Op, Pool, Shape, Unary};

use super::node::{FileNode, size};
use super::walk::Walk;

impl<'a> Walk<'a> {
    pub fn instance_norm(&mut self, node: &FileNode<'a>) -> Result<usize, String> {
        let x = self.data(node, 0)?;
        let channels = self.shape_of(x).first().copied().unwrap_or(0);
        let params = [self.weights(node.input(1)?)?, self.weights(node.input(2)?)?];
        if let Some(wrong) = params.iter().find(|array| array.shape() != [channels]) {
            return Err(format!("weights of {:?} for {channels} channels", wrong.shape()));
        }
        let eps = node.float("epsilon", 1e-5)?;
        self.add(node, Op::InstanceNorm { eps }, &[x], params.to_vec())
    }

    /// Groups of channels as channels, which are normalised and given their shape back, then a scale and a bias (Wu & He
    /// 2018). From operator set 21 on these are per channel, before that per group.
    pub fn group_norm(&mut self, node: &FileNode<'a>) -> Result<usize, String> {
        let x = self.data(node, 0)?;
        let shape = self.shape_of(x).clone();
        let groups = size("num_groups", node.int("num_groups", 0)?)?;
        let Some((&channels, rest)) = shape.split_first() else { return Err("reads no channels".into()) };
        if rest.is_empty() || groups == 0 || !channels.is_multiple_of(groups) {
            return Err(format!("{shape:?} does not divide into {groups} groups"));
        }
        let grouped: Shape = vec![groups, shape.iter().product::<usize>() / groups];
        let seen = self.add_part(node, "groups", Op::Reshape { shape: grouped }, &[x])?;
        let eps = node.float("epsilon", 1e-5)?;
        let unit = [ArrayD::ones(IxDyn(&[groups])), ArrayD::zeros(IxDyn(&[groups]))].map(Rc::new).to_vec();
        let name = format!("{}.norm", node.name);
        let normed = self.draft.add(&name, &node.name, Op::InstanceNorm { eps }, &[seen], unit)?;
        let back = self.add_part(node, "back", Op::Reshape { shape: shape.clone() }, &[normed])?;
        let mut per_channel = |place: usize, part: &str| -> Result<usize, String> {
            let given = self.weights(node.input(place)?)?;
            let each = match given.shape() {
                [count] if *count == channels => 1,
                [count] if *count == groups => channels / groups,
                other => {
                    return Err(format!("weights of {other:?} for {channels} channels in {groups} groups"));
                }
            };
            let values: Vec<f32> = given.iter().flat_map(|value| std::iter::repeat_n(*value, each)).collect();
            let mut dims = vec![1; shape.len()];
            dims[0] = channels;
            let values = ArrayD::from_shape_vec(IxDyn(&dims), values).map_err(|error| error.to_string())?;
            self.add_part(node, part, Op::Constant { values }, &[])
        };
        let (scale, bias) = (per_channel(1, "scale")?, per_channel(2, "bias")?);
        let scaled = self.add_part(node, "scaled", Op::Binary(Binary::Mul), &[back, scale])?;
        self.add(node, Op::Binary(Binary::Add), &[scaled, bias], Vec::new())
    }

    /// `x / (bias + alpha / size · Σ x²)^beta`, where the sum is over the channels around each one (Krizhevsky et al.
    /// 2012): the mean of a window over the channels, which are an axis of an image for it.
    pub fn local_response_norm(&mut self, node: &FileNode<'a>) -> Result<usize, String> {
        let x = self.data(node, 0)?;
        let shape = self.shape_of(x).clone();
        let count = size("size", node.int("size", 0)?)?;
        let Some((&channels, rest)) = shape.split_first() else { return Err("reads no channels".into()) };
        if count == 0 || count > 2 * channels.max(1) {
            return Err(format!("a size of {count} for {channels} channels"));
        }
        let square = self.add_part(node, "square", Op::Binary(Binary::Mul), &[x, x])?;
        let area = rest.iter().product::<usize>();
        let seen = self.add_part(node, "seen", Op::Reshape { shape: vec![1, channels, area] }, &[square])?;
        let (before, after) = ((count - 1) / 2, count / 2);
        let pad = Op::Pad { before: vec![0, before, 0], after: vec![0, after, 0], value: 0.0 };
        let padded = self.add_part(node, "padded", pad, &[seen])?;
        let pool = Pool { kernel: [count, 1], stride: [1, 1], padding: [0, 0], ceil_mode: false };
        let window = Op::AvgPool { pool, count_include_pad: true };
        let mean = self.add_part(node, "mean", window, &[padded])?;
        let back = self.add_part(node, "back", Op::Reshape { shape: shape.clone() }, &[mean])?;
        let scaled = self.with_number(node, "scaled", Binary::Mul, back, node.float("alpha", 1e-4)?)?;
        let above = self.with_number(node, "above", Binary::Add, scaled, node.float("bias", 1.0)?)?;
        let power = self.with_number(node, "power", Binary::Pow, above, node.float("beta", 0.75)?)?;
        self.add(node, Op::Binary(Binary::Div), &[x, power], Vec::new())
    }

    /// `x / √(mean(x²) + ε) · scale` over the axes from a given one on (Zhang & Sennrich 2019).
    pub fn rms_norm(&mut self, node: &FileNode<'a>) -> Result<usize, String> {
        let x = self.data(node, 0)?;
        let count = self.shape_of(x).len();
        let first = node.own_axis(node.int("axis", -1)?, count)?;
        node.apart_from(first)?;
        let square = self.add_part(node, "square", Op::Binary(Binary::Mul), &[x, x])?;
        let mean = self.add_part(node, "mean", Op::Mean { axes: (first..count).collect() }, &[square])?;
        let above = self.with_number(node, "above", Binary::Add, mean, node.float("epsilon", 1e-5)?)?;
        let root = self.add_part(node, "root", Op::Unary(Unary::Sqrt), &[above])?;
        let normed = self.add_part(node, "norm", Op::Binary(Binary::Div), &[x, root])?;
        let scale = self.constant(node.input(1)?, count)?;
        self.add(node, Op::Binary(Binary::Mul), &[normed, scale], Vec::new())
    }

    /// `x / Σ|x|` or `x / √Σx²` along an axis; where the norm is 0, the values stay 0.
    pub fn lp_norm(&mut self, node: &FileNode<'a>) -> Result<usize, String> {
        let x = self.data(node, 0)?;
        let shape = self.shape_of(x).clone();
        let axis = node.own_axis(node.int("axis", -1)?, shape.len())?;
        let p = node.int("p", 2)?;
        let size = match p {
            1 => self.add_part(node, "size", Op::Unary(Unary::Abs), &[x])?,
            2 => self.add_part(node, "square", Op::Binary(Binary::Mul), &[x, x])?,
            other => return Err(format!("p is {other}")),
        };
        let mean = self.add_part(node, "mean", Op::Mean { axes: vec![axis] }, &[size])?;
        let sum = self.with_number(node, "sum", Binary::Mul, mean, shape[axis] as f64)?;
        let norm = if p == 1 { sum } else { self.add_part(node, "norm", Op::Unary(Unary::Sqrt), &[sum])? };
        let one = self.number(node, "one", 1.0, shape.len())?;
        let divisor = self.add_part(node, "divisor", Op::Where, &[norm, norm, one])?;
        self.add(node, Op::Binary(Binary::Div), &[x, divisor], Vec::new())
    }

    /// `(x − mean(x)) / (√var(x) + 1e-9)` over some axes.
    pub fn mean_variance_norm(&mut self, node: &FileNode<'a>) -> Result<usize, String> {
        let x = self.data(node, 0)?;
        let count = self.shape_of(x).len();
        let axes = node.ints("axes")?.unwrap_or(&[0, 2, 3]).iter().map(|&axis| node.own_axis(axis, count));
        let mut axes = axes.collect::<Result<Vec<_>, _>>()?;
        axes.sort_unstable();
        let mean = self.add_part(node, "mean", Op::Mean { axes: axes.clone() }, &[x])?;
        let apart = self.add_part(node, "apart", Op::Binary(Binary::Sub), &[x, mean])?;
        let square = self.add_part(node, "square", Op::Binary(Binary::Mul), &[apart, apart])?;
        let variance = self.add_part(node, "variance", Op::Mean { axes }, &[square])?;
        let deviation = self.add_part(node, "deviation", Op::Unary(Unary::Sqrt), &[variance])?;
        let above = self.with_number(node, "above", Binary::Add, deviation, 1e-9)?;
        self.add(node, Op::Binary(Binary::Div), &[apart, above], Vec::new())
    }
}
