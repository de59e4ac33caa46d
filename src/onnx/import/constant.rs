//! The value of a Constant node.

use std::rc::Rc;

use super::node::FileNode;
use super::value::{Array, Budget, Numbers, Unread, Value, Whole};

/// The value of a Constant.
///
/// # Errors
/// If it holds none of the kinds of numbers that can be imported.
pub fn constant<'a>(node: &FileNode<'a>, budget: &mut Budget) -> Result<Value<'a>, String> {
    if let Some(tensor) = node.tensor("value")? {
        // Large constants are weights, whose values may never be needed here.
        return Ok(Value::Unread(Unread::Tensor(tensor)));
    }
    let attribute = node.proto.attribute.first().ok_or("holds no value")?;
    let whole = |values: &[i64]| Numbers::Whole(values.iter().copied().map(Whole::Plain).collect());
    let (dims, numbers) = match attribute.name.as_str() {
        "value_int" => (Vec::new(), whole(&[attribute.i])),
        "value_ints" => (vec![attribute.ints.len()], whole(&attribute.ints)),
        "value_float" => (Vec::new(), Numbers::Floats(vec![attribute.f.into()])),
        "value_floats" => {
            let floats = attribute.floats.iter().map(|&value| value.into()).collect();
            (vec![attribute.floats.len()], Numbers::Floats(floats))
        }
        other => return Err(format!("holds a '{other}', which is not supported")),
    };
    budget.take(&dims)?;
    Ok(Value::Known(Rc::new(Array { dims, numbers })))
}
