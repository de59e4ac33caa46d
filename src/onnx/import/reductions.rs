//! Reductions over some axes of data: means, sums, extremes and norms.

use std::rc::Rc;

use ndarray::ArrayD;

use crate::graph::{Binary, Op, Shape, Unary};

use super::arguments::axes;
use super::fold::sum_axis;
use super::node::FileNode;
use super::walk::Walk;

impl<'a> Walk<'a> {
    /// A reduction, as its formula over means and largest values.
    pub fn reduce(&mut self, node: &FileNode<'a>) -> Result<usize, String> {
        let x = self.data(node, 0)?;
        let shape = self.shape_of(x).clone();
        let named = axes(node, 1, shape.len(), &mut self.budget)?.filter(|axes| !axes.is_empty());
        let axes = match named {
            None if node.flag("noop_with_empty_axes", false)? => {
                return match node.op() {
                    "ReduceMean" | "ReduceSum" | "ReduceMax" | "ReduceMin" => Ok(x),
                    _ => Err("reduces no axis".into()),
                };
            }
            None => return Err("runs over the images of a batch".into()),
            Some(axes) => axes,
        };
        let keep = node.flag("keepdims", true)?;
        let last = if keep { "" } else { ".kept" };
        let result = self.reduced(node, last, x, &axes)?;
        if keep {
            return Ok(result);
        }
        let rest: Shape =
            (0..shape.len()).filter(|axis| !axes.contains(axis)).map(|axis| shape[axis]).collect();
        self.reshape(node, result, rest)
    }

    /// The result with its axes kept, under the node's name and a suffix.
    fn reduced(
        &mut self,
        node: &FileNode<'a>,
        suffix: &str,
        x: usize,
        axes: &[usize],
    ) -> Result<usize, String> {
        let name = format!("{}{suffix}", node.name);
        let last = |walk: &mut Self, op: Op, inputs: &[usize]| {
            walk.draft.add(&name, &node.name, op, inputs, Vec::new())
        };
        let max = Op::Max { axes: axes.to_vec() };
        match node.op() {
            "ReduceMean" => last(self, Op::Mean { axes: axes.to_vec() }, &[x]),
            "ReduceMax" => last(self, max, &[x]),
            "ReduceMin" => {
                let turned = self.add_part(node, "turned", Op::Unary(Unary::Neg), &[x])?;
                let most = self.add_part(node, "most", max, &[turned])?;
                last(self, Op::Unary(Unary::Neg), &[most])
            }
            "ReduceSum" => self.sum(node, &name, x, axes),
            "ReduceL1" => {
                let size = self.add_part(node, "size", Op::Unary(Unary::Abs), &[x])?;
                self.sum(node, &name, size, axes)
            }
            "ReduceSumSquare" => {
                let square = self.add_part(node, "square", Op::Binary(Binary::Mul), &[x, x])?;
                self.sum(node, &name, square, axes)
            }
            "ReduceL2" => {
                let square = self.add_part(node, "square", Op::Binary(Binary::Mul), &[x, x])?;
                let sum = self.sum(node, &format!("{}.sum", node.name), square, axes)?;
                last(self, Op::Unary(Unary::Sqrt), &[sum])
            }
            "ReduceLogSum" => {
                let sum = self.sum(node, &format!("{}.sum", node.name), x, axes)?;
                last(self, Op::Unary(Unary::Log), &[sum])
            }
            // The largest value is taken out, so that nothing overflows.
            _ => {
                let most = self.add_part(node, "most", max, &[x])?;
                let below = self.add_part(node, "below", Op::Binary(Binary::Sub), &[x, most])?;
                let exp = self.add_part(node, "exp", Op::Unary(Unary::Exp), &[below])?;
                let sum = self.sum(node, &format!("{}.sum", node.name), exp, axes)?;
                let log = self.add_part(node, "log", Op::Unary(Unary::Log), &[sum])?;
                last(self, Op::Binary(Binary::Add), &[log, most])
            }
        }
    }

    /// Running sums along an axis, as products with a triangle of ones.
    pub fn running_sums(&mut self, node: &FileNode<'a>) -> Result<usize, String> {
        let x = self.data(node, 0)?;
        let shape = self.shape_of(x).clone();
        let axis = node.own_axis(sum_axis(node, &mut self.budget)?, shape.len())?;
        let (length, last) = (shape[axis], shape.len() - 1);
        self.budget.take(&[length, length])?;
        let ones = ArrayD::from_shape_fn(vec![length, length], |at| f32::from(u8::from(at[1] <= at[0])));
        let mut order: Vec<usize> = (0..shape.len()).collect();
        order.swap(axis, last);
        let turned = self.add_part(node, "turned", Op::Transpose { order: order.clone() }, &[x])?;
        let op = Op::Linear { out_features: length, bias: false };
        let name = format!("{}.sums", node.name);
        let sums = self.draft.add(&name, &node.name, op, &[turned], vec![Rc::new(ones)])?;
        self.add(node, Op::Transpose { order }, &[sums], Vec::new())
    }

    /// A sum, as the mean times the number of values.
    fn sum(&mut self, node: &FileNode<'a>, name: &str, x: usize, axes: &[usize]) -> Result<usize, String> {
        let shape = self.shape_of(x).clone();
        let mean = self.draft.add(
            &format!("{}.mean", node.name),
            &node.name,
            Op::Mean { axes: axes.to_vec() },
            &[x],
            Vec::new(),
        )?;
        let count: usize = axes.iter().map(|&axis| shape[axis]).product();
        let factor = self.number(node, "count", count as f64, shape.len())?;
        self.draft.add(name, &node.name, Op::Binary(Binary::Mul), &[mean, factor], Vec::new())
    }
}
