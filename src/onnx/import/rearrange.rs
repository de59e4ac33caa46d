//! Operators that move values and compute nothing. They accept integers as well.

use ndarray::ArrayD;

use crate::graph::{Binary, Op, Shape};

use tract_onnx::pb::tensor_proto::DataType;

use super::super::tensor::{is_float, type_name};
use super::arguments::{ANY_BATCH, Cut, Picked, cuts, known, parts, text};
use super::indexing::indices;
use super::node::{FileNode, Images, Input, axis_of, size};
use super::value::{Data, Numbers, Place, Value, Whole};
use super::views::View;
use super::walk::Walk;

/// Maximum number of runs into which the indices of a Gather may be divided.
pub const MAX_RUNS: usize = 64;

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
            "Slice" => self.slice(node, x)?,
            "Gather" => self.gather(node, x)?,
            "Tile" => self.tile(node, x)?,
            "Expand" => {
                let asked = known(node.input(1)?, &mut self.budget)?;
                let from = self.shape_read(node, x);
                self.expand(node, x, &from, asked.whole()?)?
            }
            _ => return Ok(None),
        };
        Ok(Some(vec![data(result)]))
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
            Some(Value::Unread(like)) => like.data_type(),
            Some(Value::Known(like)) => match like.numbers {
                Numbers::Floats(_) => DataType::Float as i32,
                Numbers::Whole(_) => DataType::Int64 as i32,
            },
            Some(
                Value::Placed(_)
                | Value::Counted(_)
                | Value::Booleans(_)
                | Value::Quantized(_)
                | Value::Unknown,
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

    /// Data with axes of length 1 repeated: times ones, which changes no value.
    fn expand(
        &mut self,
        node: &FileNode<'a>,
        x: usize,
        from: &[Whole],
        asked: &[Whole],
    ) -> Result<usize, String> {
        let problem = || format!("expands {} to {}", text(from), text(asked));
        let missing = from.len().checked_sub(asked.len()).ok_or_else(problem)?;
        let mut ones = vec![1; self.shape_of(x).len()];
        for (axis, (&has, &wanted)) in from[missing..].iter().zip(asked).enumerate() {
            match (has, wanted) {
                (has, wanted) if has == wanted || wanted == Whole::Plain(1) => {}
                (Whole::Plain(1), Whole::Plain(length)) => {
                    ones[node.own(axis + missing)?] = size("a length", length)?;
                }
                _ => return Err(problem()),
            }
        }
        if ones.iter().all(|&length| length == 1) {
            return Ok(x);
        }
        let values = ArrayD::ones(ones);
        let ones = self.add_part(node, "ones", Op::Constant { values }, &[])?;
        self.add(node, Op::Binary(Binary::Mul), &[x, ones], Vec::new())
    }

    /// The shape in the file of data that a node reads.
    fn shape_read(&self, node: &FileNode<'a>, x: usize) -> Vec<Whole> {
        let own = self.shape_of(x).clone();
        let (dims, place) = match node.images {
            Images::First => return self.batched(&own),
            Images::Within(axis) => (own, Some(Place { axis, outer: 1 })),
            Images::Nowhere => (own, None),
        };
        self.shape_in_file(&View { node: x, integers: false, dims, place })
    }

    /// The same as numbers; a free batch counts as longer than any index.
    fn dims(&self, node: &FileNode<'a>, x: usize) -> Vec<usize> {
        let length = |dim: Whole| match dim {
            Whole::Plain(length) => usize::try_from(length).unwrap_or(ANY_BATCH),
            Whole::Batches(_) => ANY_BATCH,
        };
        self.shape_read(node, x).into_iter().map(length).collect()
    }

    fn cut(&mut self, node: &FileNode<'a>, name: &str, x: usize, cut: Cut) -> Result<usize, String> {
        let Cut { axis, start, end, step } = cut;
        let axis = node.own(axis)?;
        if (start, end, step) == (0, self.shape_of(x)[axis], 1) {
            return Ok(x);
        }
        self.draft.add(name, &node.name, Op::Slice { axis, start, end, step }, &[x], Vec::new())
    }

    fn slice(&mut self, node: &FileNode<'a>, mut x: usize) -> Result<usize, String> {
        let cuts = cuts(node, &self.dims(node, x), &mut self.budget)?;
        let count = cuts.len();
        for (place, cut) in cuts.into_iter().enumerate() {
            let name =
                if place + 1 == count { node.name.clone() } else { format!("{}.cut{place}", node.name) };
            x = match cut {
                Picked::Forwards(cut) => self.cut(node, &name, x, cut)?,
                Picked::Backwards { axis, indices } => self.picked(node, &name, x, axis, &indices)?,
            };
        }
        Ok(x)
    }

    fn split(&mut self, node: &FileNode<'a>, x: usize) -> Result<Vec<usize>, String> {
        let dims = self.dims(node, x);
        let axis = axis_of(node.int("axis", 0)?, dims.len())?;
        let mut start = 0;
        let mut pieces = Vec::new();
        for (part, length) in parts(node, dims[axis], &mut self.budget)?.into_iter().enumerate() {
            let cut = Cut { axis, start, end: start + length, step: 1 };
            pieces.push(self.cut(node, &format!("{}.piece{part}", node.name), x, cut)?);
            start += length;
        }
        Ok(pieces)
    }

    /// The values at some indices along an axis of the file.
    fn gather(&mut self, node: &FileNode<'a>, x: usize) -> Result<usize, String> {
        let dims = self.dims(node, x);
        let axis = axis_of(node.int("axis", 0)?, dims.len())?;
        let asked = known(node.input(1)?, &mut self.budget)?;
        let picked = indices(&asked, dims[axis])?;
        if asked.dims.len() > 1 {
            return Err(format!("takes indices of {:?}", asked.dims));
        }
        let single = asked.dims.is_empty();
        let name = if single { format!("{}.taken", node.name) } else { node.name.clone() };
        let found = self.picked(node, &name, x, axis, &picked)?;
        if !single {
            return Ok(found);
        }
        let mut shape = self.shape_of(found).clone();
        shape.remove(node.own(axis)?);
        self.reshape(node, found, shape)
    }

    /// Data as often as asked along each axis, none of which is that of the images.
    fn tile(&mut self, node: &FileNode<'a>, mut x: usize) -> Result<usize, String> {
        let repeats = known(node.input(1)?, &mut self.budget)?.ints()?;
        if repeats.len() != node.axes_in_file(self.shape_of(x).len()) {
            return Err(format!("repeats {:?} {repeats:?} times", self.shape_of(x)));
        }
        for (axis, &times) in repeats.iter().enumerate().filter(|(_, times)| **times != 1) {
            let (times, length) = (size("a repeat", times)?, self.shape_of(x)[node.own(axis)?]);
            if times > MAX_RUNS {
                return Err(format!("repeats more than {MAX_RUNS} times"));
            }
            self.budget.take(&[times, length])?;
            let indices: Vec<usize> = (0..times).flat_map(|_| 0..length).collect();
            x = self.picked(node, &node.name, x, axis, &indices)?;
        }
        Ok(x)
    }

    /// Indices along an axis of the file, as slices: each run of consecutive indices is one slice.
    pub fn picked(
        &mut self,
        node: &FileNode<'a>,
        name: &str,
        x: usize,
        axis: usize,
        indices: &[usize],
    ) -> Result<usize, String> {
        let mut runs: Vec<Cut> = Vec::new();
        for &index in indices {
            match runs.last_mut() {
                Some(run) if run.end == index => run.end += 1,
                _ => runs.push(Cut { axis, start: index, end: index + 1, step: 1 }),
            }
            if runs.len() > MAX_RUNS {
                return Err(format!("takes indices in more than {MAX_RUNS} runs"));
            }
        }
        match runs[..] {
            [] => Err("takes no index".into()),
            [only] => self.cut(node, name, x, only),
            _ => {
                let mut pieces = Vec::new();
                for (place, run) in runs.into_iter().enumerate() {
                    pieces.push(self.cut(node, &format!("{name}.run{place}"), x, run)?);
                }
                let op = Op::Concat { axis: node.own(axis)? };
                self.draft.add(name, &node.name, op, &pieces, Vec::new())
            }
        }
    }

    /// Something known that is joined with data, as a node.
    fn joined_constant(
        &mut self,
        node: &FileNode<'a>,
        input: &Input<'a>,
        axes: usize,
    ) -> Result<usize, String> {
        let array = self.weights(input)?;
        let fits = array.ndim() == node.axes_in_file(axes)
            && match node.images {
                Images::First => self.fixed_batch == Some(array.shape()[0]),
                Images::Within(_) => false,
                Images::Nowhere => true,
            };
        if !fits {
            return Err(format!("joins '{}' of {:?} to every image", input.name, array.shape()));
        }
        let constant = self.constant(input, axes)?;
        if self.shape_of(constant).len() == axes { Ok(constant) } else { Err("axes do not fit".into()) }
    }

    fn concat(&mut self, node: &FileNode<'a>) -> Result<Vec<Value<'a>>, String> {
        let inputs = node.all()?;
        let data = |input: &&Input<'a>| if let Value::Data(data) = input.value { Some(data) } else { None };
        let kinds: Vec<Data> = inputs.iter().filter_map(data).collect();
        let Some(&Data { node: first, integers }) = kinds.first() else {
            return Err("joins nothing that depends on the image".into());
        };
        if kinds.iter().any(|data| data.integers != integers) {
            return Err("joins integers and floats".into());
        }
        let axes = self.shape_of(first).len();
        let axis = node.own_axis(node.int("axis", 0)?, axes)?;
        let mut nodes = Vec::new();
        for input in inputs {
            nodes.push(match data(&input) {
                Some(data) => data.node,
                None if matches!(input.value, Value::Unread(_) | Value::Known(_)) && !integers => {
                    self.joined_constant(node, input, axes)?
                }
                None => return Err(format!("joins '{}', which is the same for every image", input.name)),
            });
        }
        let joined = match nodes[..] {
            [only] => only,
            _ => self.add(node, Op::Concat { axis }, &nodes, Vec::new())?,
        };
        Ok(vec![Value::Data(Data { node: joined, integers })])
    }
}
