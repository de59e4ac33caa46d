//! Views over a whole batch, as PyTorch's newer exporter writes `as_strided`: all images' values in one row,
//! gathered by indices that continue from image to image. If each image gets its own values back, in order, that
//! is a change of shape; anything else would mix images.

use std::rc::Rc;

use super::arguments::{integers, known, multiply};
use super::arrays::{broadcast, expanded, unsqueezed};
use super::known::elementwise;
use super::node::{FileNode, axis_of};
use super::value::{Array, Counted, Data, Numbers, Placed, Value, Whole};
use super::walk::Walk;

impl<'a> Walk<'a> {
    /// The value of a step of such a view; `None` if the node is not one.
    pub fn strided(&mut self, node: &FileNode<'a>) -> Result<Option<Value<'a>>, String> {
        let value = |place: usize| node.optional(place).map(|input| &input.value);
        let counted = match (node.op(), value(0), value(1)) {
            ("Gather", Some(Value::Placed(row)), Some(_)) if self.shape_of(row.node).len() == 1 => {
                return self.taken_back(node, *row).map(Some);
            }
            ("Range", ..) => self.numbers_of_images(node)?,
            ("Mul", Some(Value::Counted(counted)), Some(_)) => Some(self.times(node, 1, counted)?),
            ("Mul", Some(_), Some(Value::Counted(counted))) => Some(self.times(node, 0, counted)?),
            ("Add", Some(Value::Counted(counted)), Some(_)) => Some(self.plus(node, 1, counted)?),
            ("Add", Some(_), Some(Value::Counted(counted))) => Some(self.plus(node, 0, counted)?),
            ("Unsqueeze", Some(Value::Counted(counted)), _) => {
                let named = integers(node, "axes", 1, &mut self.budget)?.ok_or("axes are missing")?;
                // The batch is represented by an axis that is not 1, to see where it ends up.
                let all = [&[super::arguments::ANY_BATCH], &counted.offset.dims[..]].concat();
                let dims = unsqueezed(&all, &named)?;
                if dims[0] == 1 {
                    return Err("puts an axis before the batch".into());
                }
                self.budget.take(&dims[1..])?;
                Some(Counted { step: counted.step, offset: counted.offset.with_dims(dims[1..].to_vec()) })
            }
            _ => None,
        };
        Ok(counted.map(|counted| Value::Counted(Rc::new(counted))))
    }

    /// A Range over the images of a batch of any size.
    fn numbers_of_images(&mut self, node: &FileNode<'a>) -> Result<Option<Counted>, String> {
        let mut single = |place: usize| -> Result<Option<Whole>, String> {
            match &known(node.input(place)?, &mut self.budget)?.numbers {
                Numbers::Whole(values) => Ok(values.first().filter(|_| values.len() == 1).copied()),
                Numbers::Floats(_) => Ok(None),
            }
        };
        let ends = (single(0)?, single(1)?, single(2)?);
        let one_each = ends == (Some(Whole::Plain(0)), Some(Whole::Batches(1)), Some(Whole::Plain(1)));
        let offset = Array { dims: Vec::new(), numbers: Numbers::Whole(vec![Whole::Plain(0)]) };
        Ok(one_each.then_some(Counted { step: 1, offset }))
    }

    fn times(&mut self, node: &FileNode<'a>, place: usize, counted: &Counted) -> Result<Counted, String> {
        let factor = known(node.input(place)?, &mut self.budget)?;
        let &[Whole::Plain(by)] = factor.whole()? else {
            return Err("is not multiplied by one number".into());
        };
        let step = counted.step.checked_mul(by).ok_or("overflows")?;
        let times = |&value: &Whole| multiply(value, Whole::Plain(by)).ok_or("overflows");
        let numbers = counted.offset.whole()?.iter().map(times).collect::<Result<_, _>>()?;
        self.budget.take(&counted.offset.dims)?;
        Ok(Counted {
            step,
            offset: Array { dims: counted.offset.dims.clone(), numbers: Numbers::Whole(numbers) },
        })
    }

    fn plus(&mut self, node: &FileNode<'a>, place: usize, counted: &Counted) -> Result<Counted, String> {
        let added = known(node.input(place)?, &mut self.budget)?;
        let own = counted.offset.dims.len();
        let dims = match added.dims.split_first() {
            Some((&1, rest)) if rest.len() == own => rest.to_vec(),
            _ if added.dims.len() <= own => added.dims.clone(),
            _ => return Err("adds numbers that are not the same for every image".into()),
        };
        let shape = broadcast(&counted.offset.dims, &dims)?;
        self.budget.take(&shape)?;
        let both = [expanded(&counted.offset, &shape), expanded(&added.with_dims(dims), &shape)];
        Ok(Counted { step: counted.step, offset: elementwise("Add", &both)? })
    }

    /// A Gather from one row, if each image gets its own values in order.
    fn taken_back(&mut self, node: &FileNode<'a>, row: Placed) -> Result<Value<'a>, String> {
        let own: usize = self.shape_of(row.node).iter().product();
        if row.place.is_some_and(|place| place.outer != 1) {
            return Err("mixes the images of a batch".into());
        }
        let input = node.input(1)?;
        axis_of(node.int("axis", 0)?, 1)?;
        let dims = match &input.value {
            Value::Counted(counted) => {
                let in_order = counted.offset.ints()?.into_iter().eq(0..own as i64);
                (in_order && counted.step == own as i64).then(|| counted.offset.dims.clone())
            }
            Value::Data(_)
            | Value::Unread(_)
            | Value::Known(_)
            | Value::Placed(_)
            | Value::Booleans(_)
            | Value::Quantized(_)
            | Value::Unknown => {
                let indices = known(input, &mut self.budget)?;
                let batch = self.fixed_batch.filter(|batch| indices.dims.first() == Some(batch));
                let in_order = |batch: usize| {
                    indices.ints().is_ok_and(|all| all.into_iter().eq(0..(batch * own) as i64))
                };
                batch.filter(|&batch| in_order(batch)).map(|_| indices.dims[1..].to_vec())
            }
        };
        let shape = dims.ok_or("mixes the images of a batch, or changes the order of their values")?;
        let node = self.reshape(node, row.node, shape)?;
        Ok(Value::Data(Data { node, integers: row.integers }))
    }
}
