//! Nodes that only read known tensors: their values are computed during import.

use std::rc::Rc;

use super::arguments::{Picked, axes, cuts, integers, known, new_shape, order, parts};
use super::arrays::{broadcast, expanded, joined, squeezed, taken, tiled, transposed, unsqueezed};
use super::indexing::{gather, gathered, one_hot, scattered};
use super::known::{cast, elementwise, is_elementwise, range, reduce};
use super::node::{FileNode, axis_of, size};
use super::quantized::{dequantized, quantized};
use super::value::{Array, Budget, Filled, Numbers, Unread, Value, Whole, look_into};

/// The value of a node whose inputs are all known; `None` if its operator is not computed during import.
///
/// # Errors
/// If its arguments are not valid, or the result is too large.
pub fn fold<'a>(node: &FileNode<'a>, budget: &mut Budget) -> Result<Option<Vec<Value<'a>>>, String> {
    if node.op() == "Split" {
        return split(node, budget).map(Some);
    }
    if node.op() == "ConstantOfShape" {
        return filled(node, budget).map(|value| Some(vec![value]));
    }
    let array = if is_elementwise(node.op()) {
        let inputs = arrays(node, budget)?;
        let shape = inputs.iter().try_fold(Vec::new(), |shape, array| broadcast(&shape, &array.dims))?;
        // Each input is broadcast to the shape of the result.
        inputs.iter().try_for_each(|_| budget.take(&shape).map(|_| ()))?;
        let inputs: Vec<Array> = inputs.iter().map(|array| expanded(array, &shape)).collect();
        elementwise(node.op(), &inputs)?
    } else {
        let array = match node.op() {
            "Gather" => Some(gather(node, budget)?),
            "Concat" => Some(concat(node, budget)?),
            "ScatterND" => Some(scattered(node, budget)?),
            "GatherND" => Some(gathered(node, budget)?),
            "Clip" => Some(clipped(node, budget)?),
            "CumSum" => Some(summed_up(node, budget)?),
            "OneHot" => Some(one_hot(node, budget)?),
            "Tile" => Some(tile(node, budget)?),
            "Range" => Some(range(&arrays(node, budget)?, budget)?),
            "DequantizeLinear" => Some(dequantized(node, budget)?),
            "QuantizeLinear" => Some(quantized(node, budget)?),
            "ReduceProd" | "ReduceSum" | "ReduceMax" | "ReduceMin" => reduced(node, budget)?,
            _ => rearranged(node, budget)?,
        };
        let Some(array) = array else { return Ok(None) };
        array
    };
    Ok(Some(vec![Value::Known(Rc::new(array))]))
}

/// Operators that give the same numbers in another shape or order, or a part of them.
fn rearranged(node: &FileNode<'_>, budget: &mut Budget) -> Result<Option<Array>, String> {
    let names = ["Cast", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Transpose", "Slice", "Expand"];
    if !names.contains(&node.op()) {
        return Ok(None);
    }
    let array = known(node.input(0)?, budget)?;
    let result = match node.op() {
        "Cast" => {
            budget.take(&array.dims)?;
            cast(&array, node.int("to", 0)?)?
        }
        "Flatten" => {
            let (count, axis) = (array.dims.len(), node.int("axis", 1)?);
            let axis = if axis == count as i64 { count } else { axis_of(axis, count)? };
            let (outer, inner) = array.dims.split_at(axis);
            let dims = vec![outer.iter().product(), inner.iter().product()];
            budget.take(&dims)?;
            array.with_dims(dims)
        }
        "Reshape" => {
            let asked = known(node.input(1)?, budget)?;
            let shape = new_shape(asked.whole()?, &plain(&array.dims), node.flag("allowzero", false)?)?;
            let dims = plain_dims(&shape)?;
            budget.take(&dims)?;
            array.with_dims(dims)
        }
        "Squeeze" => {
            let named = axes(node, 1, array.dims.len(), budget)?;
            let dims = squeezed(&array.dims, named)?;
            budget.take(&dims)?;
            array.with_dims(dims)
        }
        "Unsqueeze" => {
            let named = integers(node, "axes", 1, budget)?.ok_or("axes are missing")?;
            let dims = unsqueezed(&array.dims, &named)?;
            budget.take(&dims)?;
            array.with_dims(dims)
        }
        "Transpose" => {
            let order = order(node, array.dims.len())?;
            budget.take(&array.dims)?;
            transposed(&array, &order)
        }
        "Slice" => {
            budget.take(&array.dims)?;
            let mut part = (*array).clone();
            for picked in cuts(node, &array.dims, budget)? {
                let (axis, indices) = match picked {
                    Picked::Forwards(cut) => (cut.axis, (cut.start..cut.end).step_by(cut.step).collect()),
                    Picked::Backwards { axis, indices } => (axis, indices),
                };
                part = taken(&part, axis, &indices, budget)?;
            }
            part
        }
        _ => {
            let asked = known(node.input(1)?, budget)?;
            let shape = broadcast(&array.dims, &plain_dims(asked.whole()?)?)?;
            budget.take(&shape)?;
            expanded(&array, &shape)
        }
    };
    Ok(Some(result))
}

fn split<'a>(node: &FileNode<'a>, budget: &mut Budget) -> Result<Vec<Value<'a>>, String> {
    let array = known(node.input(0)?, budget)?;
    let axis = axis_of(node.int("axis", 0)?, array.dims.len())?;
    let mut start = 0;
    let mut pieces = Vec::new();
    for length in parts(node, array.dims[axis], budget)? {
        let indices: Vec<usize> = (start..start + length).collect();
        pieces.push(Value::Known(Rc::new(taken(&array, axis, &indices, budget)?)));
        start += length;
    }
    Ok(pieces)
}

/// The value of a ConstantOfShape. Floats are written out where they are needed, as weights can be stored so.
fn filled<'a>(node: &FileNode<'a>, budget: &mut Budget) -> Result<Value<'a>, String> {
    let dims = plain_dims(known(node.input(0)?, budget)?.whole()?)?;
    let array = match node.tensor("value")? {
        Some(tensor) => look_into(tensor, budget)?,
        None => Array::number(0.0),
    };
    if array.len() != 1 {
        return Err("its value is not one number".into());
    }
    if let Numbers::Floats(values) = &array.numbers {
        budget.fill(&dims)?;
        return Ok(Value::Unread(Unread::Filled(Rc::new(Filled { dims, value: values[0] }))));
    }
    let count = budget.take(&dims)?;
    Ok(Value::Known(Rc::new(array.pick(dims, &vec![0; count]))))
}

fn reduced(node: &FileNode<'_>, budget: &mut Budget) -> Result<Option<Array>, String> {
    let array = known(node.input(0)?, budget)?;
    let named = axes(node, 1, array.dims.len(), budget)?;
    let all = named.is_none_or(|named| named.len() == array.dims.len());
    let dims = if node.flag("keepdims", true)? { vec![1; array.dims.len()] } else { Vec::new() };
    if all { Ok(Some(reduce(node.op(), &array)?.with_dims(dims))) } else { Ok(None) }
}

fn arrays(node: &FileNode<'_>, budget: &mut Budget) -> Result<Vec<Rc<Array>>, String> {
    node.all()?.into_iter().map(|input| known(input, budget)).collect()
}

/// Dimensions that do not depend on the batch.
pub fn plain(dims: &[usize]) -> Vec<Whole> {
    dims.iter().map(|&dim| Whole::Plain(dim as i64)).collect()
}

/// Sizes that are not multiples of the batch.
///
/// # Errors
/// If one is, or is negative.
pub fn plain_dims(shape: &[Whole]) -> Result<Vec<usize>, String> {
    let dim = |dim: &Whole| match dim {
        Whole::Plain(dim) => size("a dimension", *dim),
        Whole::Batches(_) => Err("a constant cannot have the batch's size".into()),
    };
    shape.iter().map(dim).collect()
}

fn clipped(node: &FileNode<'_>, budget: &mut Budget) -> Result<Array, String> {
    let array = known(node.input(0)?, budget)?;
    budget.take(&array.dims)?;
    let mut result = (*array).clone();
    for (place, name, op) in [(1, "min", "Max"), (2, "max", "Min")] {
        let bound = match node.optional(place) {
            Some(input) => (*known(input, budget)?).clone(),
            None if place == 1 => Array::number(node.float(name, f32::NEG_INFINITY)?),
            None => Array::number(node.float(name, f32::INFINITY)?),
        };
        let open = matches!(&bound.numbers, Numbers::Floats(values) if values.iter().all(|value| value.is_infinite()));
        if bound.len() != 1 {
            return Err(format!("its {name} is not one number"));
        }
        if !open {
            let bound = bound.pick(result.dims.clone(), &vec![0; result.len()]);
            result = elementwise(op, &[result, bound])?;
        }
    }
    Ok(result)
}

/// Running sums along an axis.
fn summed_up(node: &FileNode<'_>, budget: &mut Budget) -> Result<Array, String> {
    let array = known(node.input(0)?, budget)?;
    let axis = axis_of(sum_axis(node, budget)?, array.dims.len())?;
    budget.take(&array.dims)?;
    let inner: usize = array.dims[axis + 1..].iter().product();
    let mut result = (*array).clone();
    for place in inner..array.len() {
        if (place / inner).is_multiple_of(array.dims[axis]) {
            continue;
        }
        let before = place - inner;
        match &mut result.numbers {
            Numbers::Floats(values) => values[place] += values[before],
            Numbers::Whole(values) => match (values[before], values[place]) {
                (Whole::Plain(sum), Whole::Plain(next)) => {
                    values[place] = Whole::Plain(sum.checked_add(next).ok_or("a sum overflows")?);
                }
                _ => return Err("depends on the batch size".into()),
            },
        }
    }
    Ok(result)
}

/// The axis of a CumSum, which must run forwards and include each number itself.
///
/// # Errors
/// If it does not.
pub fn sum_axis(node: &FileNode<'_>, budget: &mut Budget) -> Result<i64, String> {
    if node.flag("exclusive", false)? || node.flag("reverse", false)? {
        return Err("sums up backwards, or without the number itself".into());
    }
    match known(node.input(1)?, budget)?.ints()?[..] {
        [axis] => Ok(axis),
        _ => Err("its axis is not one number".into()),
    }
}

fn tile(node: &FileNode<'_>, budget: &mut Budget) -> Result<Array, String> {
    let (array, repeats) = (known(node.input(0)?, budget)?, known(node.input(1)?, budget)?);
    tiled(&array, &plain_dims(repeats.whole()?)?, budget)
}

fn concat(node: &FileNode<'_>, budget: &mut Budget) -> Result<Array, String> {
    let inputs = arrays(node, budget)?;
    let inputs: Vec<&Array> = inputs.iter().map(Rc::as_ref).collect();
    let axis = axis_of(node.int("axis", 0)?, inputs[0].dims.len())?;
    let count: usize = inputs.iter().map(|array| array.len()).sum();
    budget.take(&[count])?;
    joined(&inputs, axis)
}
