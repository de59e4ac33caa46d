//! Activations that are composed of other functions, and rearrangements between channels and space.

use crate::graph::{Binary, Op, Unary};

use super::node::{FileNode, size};
use super::walk::Walk;

impl<'a> Walk<'a> {
    /// The value of an activation without an operation of its own; `None` if the node has another operator.
    pub fn activation(&mut self, node: &FileNode<'a>) -> Result<Option<usize>, String> {
        let value = match node.op() {
            "Elu" => self.elu(node, node.float("alpha", 1.0)?, 1.0)?,
            "Selu" => self.elu(node, node.float("alpha", 1.673_263_2)?, node.float("gamma", 1.050_701)?)?,
            "Celu" => self.celu(node)?,
            "PRelu" => self.prelu(node)?,
            "Softsign" => self.softsign(node)?,
            "ThresholdedRelu" => self.thresholded_relu(node)?,
            "Shrink" => self.shrink(node)?,
            "DepthToSpace" => self.depth_to_space(node)?,
            "SpaceToDepth" => self.space_to_depth(node)?,
            _ => return Ok(None),
        };
        Ok(Some(value))
    }

    /// `gamma · x` where positive, else `gamma · alpha · (exp(x) − 1)` (Clevert et al. 2015; Klambauer et al. 2017).
    fn elu(&mut self, node: &FileNode<'a>, alpha: f64, gamma: f64) -> Result<usize, String> {
        let x = self.data(node, 0)?;
        let positive = self.add_part(node, "positive", Op::Relu, &[x])?;
        let negative = self.with_number(node, "negative", Binary::Min, x, 0.0)?;
        let exp = self.add_part(node, "exp", Op::Unary(Unary::Exp), &[negative])?;
        let below = self.with_number(node, "below", Binary::Sub, exp, 1.0)?;
        let scaled = self.with_number(node, "scaled", Binary::Mul, below, alpha)?;
        if gamma == 1.0 {
            return self.add(node, Op::Add, &[positive, scaled], Vec::new());
        }
        let sum = self.add_part(node, "sum", Op::Add, &[positive, scaled])?;
        self.scaled_by(node, sum, gamma)
    }

    /// `x` where positive, else `alpha · (exp(x / alpha) − 1)` (Barron 2017).
    fn celu(&mut self, node: &FileNode<'a>) -> Result<usize, String> {
        let x = self.data(node, 0)?;
        let alpha = node.float("alpha", 1.0)?;
        if alpha.is_nan() || alpha <= 0.0 {
            return Err(format!("alpha is {alpha}"));
        }
        let positive = self.add_part(node, "positive", Op::Relu, &[x])?;
        let negative = self.with_number(node, "negative", Binary::Min, x, 0.0)?;
        let small = self.with_number(node, "small", Binary::Div, negative, alpha)?;
        let exp = self.add_part(node, "exp", Op::Unary(Unary::Exp), &[small])?;
        let below = self.with_number(node, "below", Binary::Sub, exp, 1.0)?;
        let scaled = self.with_number(node, "scaled", Binary::Mul, below, alpha)?;
        self.add(node, Op::Add, &[positive, scaled], Vec::new())
    }

    /// `max(x, 0) − slope · max(−x, 0)` (He et al. 2015).
    fn prelu(&mut self, node: &FileNode<'a>) -> Result<usize, String> {
        let x = self.data(node, 0)?;
        let positive = self.add_part(node, "positive", Op::Relu, &[x])?;
        let turned = self.add_part(node, "turned", Op::Unary(Unary::Neg), &[x])?;
        let negative = self.add_part(node, "negative", Op::Relu, &[turned])?;
        let axes = self.shape_of(x).len();
        let slope = self.constant(node.input(1)?, axes)?;
        let scaled = self.add_part(node, "scaled", Op::Binary(Binary::Mul), &[negative, slope])?;
        self.add(node, Op::Binary(Binary::Sub), &[positive, scaled], Vec::new())
    }

    /// `x / (1 + |x|)`.
    fn softsign(&mut self, node: &FileNode<'a>) -> Result<usize, String> {
        let x = self.data(node, 0)?;
        let size = self.add_part(node, "size", Op::Unary(Unary::Abs), &[x])?;
        let above = self.with_number(node, "above", Binary::Add, size, 1.0)?;
        self.add(node, Op::Binary(Binary::Div), &[x, above], Vec::new())
    }

    /// `x` where it is above alpha, else 0.
    fn thresholded_relu(&mut self, node: &FileNode<'a>) -> Result<usize, String> {
        let x = self.data(node, 0)?;
        let axes = self.shape_of(x).len();
        let alpha = self.number(node, "alpha", node.float("alpha", 1.0)?, axes)?;
        let zero = self.number(node, "zero", 0.0, axes)?;
        let above = self.add_part(node, "above", Op::Binary(Binary::Less), &[alpha, x])?;
        self.add(node, Op::Where, &[above, x, zero], Vec::new())
    }

    /// `x + bias` below −lambd, `x − bias` above lambd, else 0.
    fn shrink(&mut self, node: &FileNode<'a>) -> Result<usize, String> {
        let x = self.data(node, 0)?;
        let axes = self.shape_of(x).len();
        let (bias, lambd) = (node.float("bias", 0.0)?, node.float("lambd", 0.5)?);
        let [low, high, zero] = [("low", -lambd), ("high", lambd), ("zero", 0.0)]
            .map(|(part, value)| self.number(node, part, value, axes));
        let (low, high, zero) = (low?, high?, zero?);
        let less = self.with_number(node, "less", Binary::Sub, x, bias)?;
        let more = self.with_number(node, "more", Binary::Add, x, bias)?;
        let above = self.add_part(node, "above", Op::Binary(Binary::Less), &[high, x])?;
        let below = self.add_part(node, "below", Op::Binary(Binary::Less), &[x, low])?;
        let inner = self.add_part(node, "inner", Op::Where, &[above, less, zero])?;
        self.add(node, Op::Where, &[below, more, inner], Vec::new())
    }

    /// The sum of the inputs divided by how many there are.
    pub fn mean_of_inputs(&mut self, node: &FileNode<'a>) -> Result<usize, String> {
        let sum = self.chain(node, Binary::Add, &format!("{}.sum", node.name))?;
        let axes = self.shape_of(sum).len();
        let count = self.number(node, "count", node.inputs.len() as f64, axes)?;
        self.add(node, Op::Binary(Binary::Div), &[sum, count], Vec::new())
    }

    /// A value times a number, under the node's name.
    fn scaled_by(&mut self, node: &FileNode<'a>, x: usize, factor: f64) -> Result<usize, String> {
        let axes = self.shape_of(x).len();
        let factor = self.number(node, "factor", factor, axes)?;
        self.add(node, Op::Binary(Binary::Mul), &[x, factor], Vec::new())
    }

    /// The side of a block, and the channels, height and width of the image.
    fn blocks(&self, node: &FileNode<'a>, x: usize) -> Result<(usize, [usize; 3]), String> {
        let shape = self.shape_of(x);
        let &[channels, height, width] = &shape[..] else {
            return Err(format!("reads {shape:?}, not an image"));
        };
        match size("blocksize", node.int("blocksize", 0)?)? {
            side @ 1..=4096 => Ok((side, [channels, height, width])),
            other => Err(format!("blocksize is {other}")),
        }
    }

    /// Blocks of channels as blocks of pixels.
    fn depth_to_space(&mut self, node: &FileNode<'a>) -> Result<usize, String> {
        let x = self.data(node, 0)?;
        let (side, [channels, height, width]) = self.blocks(node, x)?;
        if !channels.is_multiple_of(side * side) {
            return Err(format!("{channels} channels do not divide into blocks of {side} x {side}"));
        }
        let left = channels / (side * side);
        let (seen, order) = match node.text("mode", "DCR")? {
            "DCR" => (vec![side, side, left, height, width], vec![2, 3, 0, 4, 1]),
            "CRD" => (vec![left, side, side, height, width], vec![0, 3, 1, 4, 2]),
            other => return Err(format!("mode is '{other}'")),
        };
        self.through(node, x, seen, order, vec![left, height * side, width * side])
    }

    /// Blocks of pixels as channels.
    fn space_to_depth(&mut self, node: &FileNode<'a>) -> Result<usize, String> {
        let x = self.data(node, 0)?;
        let (side, [channels, height, width]) = self.blocks(node, x)?;
        if !height.is_multiple_of(side) || !width.is_multiple_of(side) {
            return Err(format!("{height} x {width} does not divide into blocks of {side} x {side}"));
        }
        let [high, wide] = [height, width].map(|length| length / side);
        let seen = vec![channels, high, side, wide, side];
        self.through(node, x, seen, vec![2, 4, 0, 1, 3], vec![channels * side * side, high, wide])
    }

    /// A value seen in a shape, its axes in another order, and then in another shape.
    fn through(
        &mut self,
        node: &FileNode<'a>,
        x: usize,
        seen: Vec<usize>,
        order: Vec<usize>,
        shape: Vec<usize>,
    ) -> Result<usize, String> {
        let seen = self.add_part(node, "seen", Op::Reshape { shape: seen }, &[x])?;
        let turned = self.add_part(node, "turned", Op::Transpose { order }, &[seen])?;
        self.add(node, Op::Reshape { shape }, &[turned], Vec::new())
    }
}
