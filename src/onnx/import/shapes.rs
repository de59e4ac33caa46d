//! Nodes that return the shapes of tensors.

use std::rc::Rc;

use super::node::FileNode;
use super::value::{Array, Numbers, Value, Whole};
use super::walk::Walk;

impl<'a> Walk<'a> {
    /// The value of a Shape or a Size.
    pub fn shape(&mut self, node: &FileNode<'a>) -> Result<Value<'a>, String> {
        let shape: Vec<Whole> = match &node.input(0)?.value {
            Value::Booleans(node) => self.batched(&self.shape_of(*node).clone()),
            Value::Quantized(data) => self.batched(&self.shape_of(data.node).clone()),
            Value::Known(array) => super::fold::plain(&array.dims),
            Value::Unread(unread) => super::fold::plain(&unread.dims()),
            seen @ (Value::Data(_) | Value::Placed(_)) => {
                let view = self.view(seen).ok_or("reads what is not known")?;
                self.shape_in_file(&view)
            }
            Value::Counted(_) | Value::Unknown => return Err("reads what is not known".into()),
        };
        if node.op() == "Size" {
            let size = super::arguments::product(&shape);
            let numbers = Numbers::Whole(vec![size.ok_or("its size overflows")?]);
            return Ok(Value::Known(Rc::new(Array { dims: Vec::new(), numbers })));
        }
        let count = shape.len() as i64;
        let place = |index: i64| {
            (if index < 0 { index.saturating_add(count) } else { index }).clamp(0, count) as usize
        };
        let (start, end) = (place(node.int("start", 0)?), place(node.int("end", count)?));
        let part = shape.get(start..end.max(start)).unwrap_or_default().to_vec();
        self.budget.take(&[part.len()])?;
        Ok(Value::Known(Rc::new(Array::list(part))))
    }

    /// A shape with the batch before it.
    pub fn batched(&self, shape: &[usize]) -> Vec<Whole> {
        let batch = match self.fixed_batch {
            Some(size) => Whole::Plain(size as i64),
            None => Whole::Batches(1),
        };
        std::iter::once(batch).chain(super::fold::plain(shape)).collect()
    }
}
