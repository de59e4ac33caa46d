//! Operators that move values and compute nothing. They accept integers as well.

use crate::graph::{Op, Shape};

use tract_onnx::pb::tensor_proto::DataType;

use super::super::tensor::{is_float, type_name};
use super::arguments::{ANY_BATCH, Cut, axes, cuts, integers, known, new_shape, order, parts, text};
use super::fold::{indices, squeezed, unsqueezed};
use super::node::{FileNode, axis_of};
use super::value::{Data, MAX_AXES, Numbers, Value, Whole};
use super::walk::Walk;

/// Maximum number of runs into which the indices of a Gather may be divided.
const MAX_RUNS: usize = 64;

impl<'a> Walk<'a> {
    /// The value of a rearranging operator; `None` if the node has another operator.
    pub fn rearrange(&mut self, node: &FileNode<'a>) -> Result<Option<Vec<Value<'a>>>, String> {
        if node.op() == "Concat" {
            return self.concat(node).map(Some);
        }
        let Some(Value::Data(Data { node: x, integers })) = node.optional(0).map(|input| &input.value) else {
            return Ok(None);
        };
        let (x, integers) = (*x, *integers);
        let data = |node: usize| Value::Data(Data { node, integers });
        let result = match node.op() {
            "Cast" | "CastLike" => {
                return self.cast(node, Data { node: x, integers }).map(|value| Some(vec![value]));
            }
            "Split" => {
                let pieces = self.split(node, x)?;
                return Ok(Some(pieces.into_iter().map(data).collect()));
            }
            "Reshape" => {
                let asked = known(node.input(1)?, &mut self.budget)?;
                let from = self.batched(&self.shape_of(x).clone());
                let shape = new_shape(asked.whole()?, &from, node.flag("allowzero", false)?)?;
                let shape = self.of_one_image(&shape)?;
                self.reshape(node, x, shape)?
            }
            "Flatten" => {
                let shape = self.shape_of(x).clone();
                let axis = axis_of(node.int("axis", 1)?, shape.len() + 1)?;
                let before = axis.checked_sub(1).map(|end| shape[..end].iter().product::<usize>());
                if before != Some(1) {
                    return Err(format!("mixes the images of a batch: axis {axis} of {shape:?}"));
                }
                self.reshape(node, x, vec![shape.iter().product()])?
            }
            "Squeeze" => {
                let shape = self.shape_of(x).clone();
                let named = axes(node, 1, shape.len() + 1, &mut self.budget)?;
                if named.is_none() && self.fixed_batch == Some(1) {
                    return Err("removes the batch's axis".into());
                }
                let named = named.map(|named| named.into_iter().map(|axis| axis.checked_sub(1)).collect());
                let shape = match named {
                    Some(None) => return Err("removes the batch's axis".into()),
                    Some(Some(named)) => squeezed(&shape, Some(named))?,
                    None => squeezed(&shape, None)?,
                };
                self.reshape(node, x, shape)?
            }
            "Unsqueeze" => {
                let named = integers_of(self, node)?;
                let shape = self.shape_of(x).clone();
                // The batch is represented by an axis that is not 1, to see where it ends up.
                let all: Vec<usize> = std::iter::once(ANY_BATCH).chain(shape).collect();
                match unsqueezed(&all, &named)?.split_first() {
                    Some((&ANY_BATCH, rest)) => self.reshape(node, x, rest.to_vec())?,
                    _ => return Err("puts an axis before the batch".into()),
                }
            }
            "Transpose" => {
                let order = order(node, self.shape_of(x).len() + 1)?;
                let Some((0, rest)) = order.split_first() else {
                    return Err(format!("moves the batch's axis: {order:?}"));
                };
                let order: Vec<usize> = rest.iter().map(|axis| axis - 1).collect();
                if order.is_sorted() { x } else { self.add(node, Op::Transpose { order }, &[x], Vec::new())? }
            }
            "Slice" => self.slice(node, x)?,
            "Gather" => self.gather(node, x)?,
            "Expand" => {
                let asked = known(node.input(1)?, &mut self.budget)?;
                let from = self.batched(&self.shape_of(x).clone());
                let extra = asked.whole()?.len() > from.len();
                let trailing = asked.whole()?.iter().rev().zip(from.iter().rev());
                let grows =
                    trailing.into_iter().any(|(&asked, &has)| asked != has && asked != Whole::Plain(1));
                if extra || grows {
                    return Err(format!("expands {} to {}", text(&from), text(asked.whole()?)));
                }
                x
            }
            _ => return Ok(None),
        };
        Ok(Some(vec![data(result)]))
    }

    /// A shape without its batch, which must be the first axis.
    fn of_one_image(&self, shape: &[Whole]) -> Result<Shape, String> {
        let batch = self.batched(&[])[0];
        let mixes = || format!("mixes the images of a batch: a shape of {}", text(shape));
        let (&first, rest) = shape.split_first().ok_or_else(mixes)?;
        if first != batch || rest.len() >= MAX_AXES {
            return Err(mixes());
        }
        let plain = |dim: &Whole| match dim {
            Whole::Plain(size) => usize::try_from(*size).map_err(|_| mixes()),
            Whole::Batches(_) => Err(mixes()),
        };
        rest.iter().map(plain).collect()
    }

    /// The same values in another shape, under the node's name. A channel shuffle is recognised by its three
    /// steps.
    pub fn reshape(&mut self, node: &FileNode<'a>, x: usize, shape: Shape) -> Result<usize, String> {
        if *self.shape_of(x) == shape {
            return Ok(x);
        }
        if let Some((source, groups)) = self.shuffled(x, &shape) {
            return self.add(node, Op::ChannelShuffle { groups }, &[source], Vec::new());
        }
        self.add(node, Op::Reshape { shape }, &[x], Vec::new())
    }

    /// The image that was viewed in groups and transposed, and the number of groups, if it now gets its shape
    /// back.
    fn shuffled(&self, turned: usize, shape: &Shape) -> Option<(usize, usize)> {
        let turned = self.draft.node(turned);
        let Op::Transpose { order } = &turned.op else { return None };
        let grouped = self.draft.node(turned.inputs[0]);
        let Op::Reshape { shape: groups } = &grouped.op else { return None };
        let source = grouped.inputs[0];
        let &[channels, height, width] = &self.shape_of(source)[..] else { return None };
        let &[count, size, tall, wide] = &groups[..] else { return None };
        let seen = order[..] == [1, 0, 2, 3] && (tall, wide) == (height, width) && count * size == channels;
        (seen && shape == self.shape_of(source)).then_some((source, count))
    }

    fn cast(&self, node: &FileNode<'a>, from: Data) -> Result<Value<'a>, String> {
        let to = match node.optional(1).map(|like| &like.value) {
            Some(Value::Data(like)) => return Ok(Value::Data(Data { integers: like.integers, ..from })),
            Some(Value::Initializer(like)) => like.data_type,
            Some(Value::Known(like)) => match like.numbers {
                Numbers::Floats(_) => DataType::Float as i32,
                Numbers::Whole(_) => DataType::Int64 as i32,
            },
            Some(
                Value::Row(_) | Value::Counted(_) | Value::Booleans(_) | Value::Quantized(_) | Value::Unknown,
            )
            | None => i32::try_from(node.int("to", 0)?).map_err(|_| "casts to an unknown type")?,
        };
        let wide = [DataType::Int32, DataType::Int64].iter().any(|&kind| kind as i32 == to);
        match (is_float(to), from.integers && wide) {
            (true, _) => Ok(Value::Data(Data { integers: false, ..from })),
            (false, true) => Ok(Value::Data(from)),
            (false, false) => Err(format!("turns values into {}", type_name(to))),
        }
    }

    /// Dimensions with the batch; a free batch counts as longer than any index.
    fn dims(&self, x: usize) -> Vec<usize> {
        let batch = self.fixed_batch.unwrap_or(ANY_BATCH);
        std::iter::once(batch).chain(self.shape_of(x).iter().copied()).collect()
    }

    fn cut(&mut self, node: &FileNode<'a>, name: &str, x: usize, cut: Cut) -> Result<usize, String> {
        let Cut { axis, start, end, step } = cut;
        let axis = axis.checked_sub(1).ok_or("takes a part of the batch")?;
        if (start, end, step) == (0, self.shape_of(x)[axis], 1) {
            return Ok(x);
        }
        self.draft.add(name, &node.name, Op::Slice { axis, start, end, step }, &[x], Vec::new())
    }

    fn slice(&mut self, node: &FileNode<'a>, mut x: usize) -> Result<usize, String> {
        let cuts = cuts(node, &self.dims(x), &mut self.budget)?;
        let count = cuts.len();
        for (place, cut) in cuts.into_iter().enumerate() {
            let name = if place + 1 == count { node.name.clone() } else { format!("{}.{place}", node.name) };
            x = self.cut(node, &name, x, cut)?;
        }
        Ok(x)
    }

    fn split(&mut self, node: &FileNode<'a>, x: usize) -> Result<Vec<usize>, String> {
        let dims = self.dims(x);
        let axis = axis_of(node.int("axis", 0)?, dims.len())?;
        let mut start = 0;
        let mut pieces = Vec::new();
        for (part, length) in parts(node, dims[axis], &mut self.budget)?.into_iter().enumerate() {
            let cut = Cut { axis, start, end: start + length, step: 1 };
            pieces.push(self.cut(node, &format!("{}.{part}", node.name), x, cut)?);
            start += length;
        }
        Ok(pieces)
    }

    /// Indices along an axis, as slices: each run of consecutive indices is one slice.
    fn gather(&mut self, node: &FileNode<'a>, x: usize) -> Result<usize, String> {
        let dims = self.dims(x);
        let axis = axis_of(node.int("axis", 0)?, dims.len())?;
        let asked = known(node.input(1)?, &mut self.budget)?;
        let picked = indices(&asked, dims[axis])?;
        let mut runs: Vec<Cut> = Vec::new();
        for index in picked {
            match runs.last_mut() {
                Some(run) if run.end == index => run.end += 1,
                _ => runs.push(Cut { axis, start: index, end: index + 1, step: 1 }),
            }
        }
        if runs.is_empty() || runs.len() > MAX_RUNS || asked.dims.len() > 1 {
            return Err(format!("takes {:?} indices in {} runs", asked.dims, runs.len()));
        }
        let single = runs.len() == 1 && !asked.dims.is_empty();
        let mut pieces = Vec::new();
        for (place, run) in runs.into_iter().enumerate() {
            let name = if single { node.name.clone() } else { format!("{}.{place}", node.name) };
            pieces.push(self.cut(node, &name, x, run)?);
        }
        if asked.dims.is_empty() {
            let mut shape = self.shape_of(pieces[0]).clone();
            shape.remove(axis.checked_sub(1).ok_or("takes a part of the batch")?);
            return self.reshape(node, pieces[0], shape);
        }
        match pieces[..] {
            [only] => Ok(only),
            _ => {
                let axis = axis.checked_sub(1).ok_or("takes a part of the batch")?;
                self.add(node, Op::Concat { axis }, &pieces, Vec::new())
            }
        }
    }

    fn concat(&mut self, node: &FileNode<'a>) -> Result<Vec<Value<'a>>, String> {
        let mut nodes = Vec::new();
        let mut kinds = Vec::new();
        for input in node.all()? {
            let Value::Data(data) = input.value else {
                return Err(format!("joins '{}', which is the same for every image", input.name));
            };
            nodes.push(data.node);
            kinds.push(data.integers);
        }
        let axis = axis_of(node.int("axis", 0)?, self.shape_of(nodes[0]).len() + 1)?;
        let axis = axis.checked_sub(1).ok_or("joins the images of batches")?;
        let integers = kinds[0];
        if kinds.iter().any(|&kind| kind != integers) {
            return Err("joins integers and floats".into());
        }
        let joined = match nodes[..] {
            [only] => only,
            _ => self.add(node, Op::Concat { axis }, &nodes, Vec::new())?,
        };
        Ok(vec![Value::Data(Data { node: joined, integers })])
    }
}

fn integers_of(walk: &mut Walk<'_>, node: &FileNode<'_>) -> Result<Vec<i64>, String> {
    integers(node, "axes", 1, &mut walk.budget)?.ok_or_else(|| "axes are missing".into())
}
