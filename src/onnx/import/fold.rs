//! Nodes that only read known tensors: their values are computed during import.

use std::rc::Rc;

use super::arguments::{Picked, axes, cuts, integers, known, new_shape, order, parts};
use super::known::{cast, elementwise, is_elementwise, range, reduce};
use super::node::{FileNode, axis_of, size};
use super::quantized::{dequantized, quantized};
use super::value::{Array, Budget, Numbers, Value, Whole, look_into};

/// The value of a node whose inputs are all known; `None` if its operator is not computed during import.
///
/// # Errors
/// If its arguments are not valid, or the result is too large.
pub fn fold<'a>(node: &FileNode<'a>, budget: &mut Budget) -> Result<Option<Vec<Value<'a>>>, String> {
    if node.op() == "Split" {
        return split(node, budget).map(Some);
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
            "ConstantOfShape" => Some(filled(node, budget)?),
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

fn filled(node: &FileNode<'_>, budget: &mut Budget) -> Result<Array, String> {
    let dims = plain_dims(known(node.input(0)?, budget)?.whole()?)?;
    let count = budget.take(&dims)?;
    let value = match node.tensor("value")? {
        Some(tensor) => look_into(tensor, budget)?,
        None => Array { dims: vec![1], numbers: Numbers::Floats(vec![0.0]) },
    };
    if value.len() != 1 {
        return Err("its value is not one number".into());
    }
    Ok(value.pick(dims, &vec![0; count]))
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

/// Dimensions without the given axes of length 1, or without all axes of length 1.
///
/// # Errors
/// If a named axis is longer.
pub fn squeezed(dims: &[usize], named: Option<Vec<usize>>) -> Result<Vec<usize>, String> {
    let gone = named.unwrap_or_else(|| (0..dims.len()).filter(|&axis| dims[axis] == 1).collect());
    if let Some(&axis) = gone.iter().find(|&&axis| dims[axis] != 1) {
        return Err(format!("axis {axis} has length {}, not 1", dims[axis]));
    }
    Ok((0..dims.len()).filter(|axis| !gone.contains(axis)).map(|axis| dims[axis]).collect())
}

/// Dimensions with axes of length 1 inserted at the given places of the result.
///
/// # Errors
/// If a place is out of range or named twice.
pub fn unsqueezed(dims: &[usize], named: &[i64]) -> Result<Vec<usize>, String> {
    let count = dims.len() + named.len();
    if count > super::value::MAX_AXES {
        return Err(format!("makes {count} axes"));
    }
    let mut result = vec![None; count];
    for &axis in named {
        if result[axis_of(axis, count)?].replace(1).is_some() {
            return Err(format!("axis {axis} is named twice"));
        }
    }
    let mut rest = dims.iter();
    result
        .into_iter()
        .map(|dim| dim.or_else(|| rest.next().copied()).ok_or_else(|| "axes do not fit".into()))
        .collect()
}

/// The shape two shapes broadcast to.
///
/// # Errors
/// If they cannot be broadcast.
pub fn broadcast(a: &[usize], b: &[usize]) -> Result<Vec<usize>, String> {
    let count = a.len().max(b.len());
    let dim =
        |dims: &[usize], axis: usize| (axis + dims.len()).checked_sub(count).map_or(1, |place| dims[place]);
    (0..count)
        .map(|axis| match (dim(a, axis), dim(b, axis)) {
            (a, b) if a == b => Ok(a),
            (1, size) | (size, 1) => Ok(size),
            _ => Err(format!("{a:?} and {b:?} do not broadcast")),
        })
        .collect()
}

/// For each element of `dims` in order, its offset in an array whose axis `i` has the stride `strides[i]`.
pub fn places(dims: &[usize], strides: &[usize]) -> Vec<usize> {
    let count = dims.iter().product();
    let mut places = Vec::with_capacity(count);
    let mut at = vec![0usize; dims.len()];
    let mut place = 0;
    for _ in 0..count {
        places.push(place);
        for axis in (0..dims.len()).rev() {
            at[axis] += 1;
            place += strides[axis];
            if at[axis] < dims[axis] {
                break;
            }
            place -= strides[axis] * dims[axis];
            at[axis] = 0;
        }
    }
    places
}

/// The stride of each axis of numbers that lie row by row.
pub fn strides(dims: &[usize]) -> Vec<usize> {
    let mut strides = vec![1; dims.len()];
    for axis in (1..dims.len()).rev() {
        strides[axis - 1] = strides[axis] * dims[axis];
    }
    strides
}

/// An array broadcast along its axes of length 1 to a larger shape.
pub fn expanded(array: &Array, shape: &[usize]) -> Array {
    if array.dims == shape {
        return array.clone();
    }
    let missing = shape.len() - array.dims.len();
    let own = strides(&array.dims);
    let stride = |axis: usize| match axis.checked_sub(missing) {
        Some(place) if array.dims[place] > 1 => own[place],
        _ => 0,
    };
    let strides: Vec<usize> = (0..shape.len()).map(stride).collect();
    array.pick(shape.to_vec(), &places(shape, &strides))
}

fn transposed(array: &Array, order: &[usize]) -> Array {
    let own = strides(&array.dims);
    let dims: Vec<usize> = order.iter().map(|&axis| array.dims[axis]).collect();
    let strides: Vec<usize> = order.iter().map(|&axis| own[axis]).collect();
    let places = places(&dims, &strides);
    array.pick(dims, &places)
}

/// Some indices along an axis.
fn taken(array: &Array, axis: usize, indices: &[usize], budget: &mut Budget) -> Result<Array, String> {
    let mut dims = array.dims.clone();
    dims[axis] = indices.len();
    let count = budget.take(&dims)?;
    let inner: usize = array.dims[axis + 1..].iter().product();
    let outer: usize = array.dims[..axis].iter().product();
    let mut places = Vec::with_capacity(count);
    for block in 0..outer {
        for &index in indices {
            let start = (block * array.dims[axis] + index) * inner;
            places.extend(start..start + inner);
        }
    }
    Ok(array.pick(dims, &places))
}

/// Indices of a Gather, none of them negative, and their dimensions.
///
/// # Errors
/// If one is out of range.
pub fn indices(indices: &Array, length: usize) -> Result<Vec<usize>, String> {
    let list = indices.ints()?;
    list.into_iter()
        .map(|index| axis_of(index, length).map_err(|_| format!("index {index} of {length}")))
        .collect()
}

fn gather(node: &FileNode<'_>, budget: &mut Budget) -> Result<Array, String> {
    let array = known(node.input(0)?, budget)?;
    let asked = known(node.input(1)?, budget)?;
    let axis = axis_of(node.int("axis", 0)?, array.dims.len())?;
    let picked = taken(&array, axis, &indices(&asked, array.dims[axis])?, budget)?;
    let dims = [&array.dims[..axis], &asked.dims, &array.dims[axis + 1..]].concat();
    budget.take(&dims)?;
    Ok(picked.with_dims(dims))
}

/// The offsets of the blocks at which the rows of some indices point, and a block's dimensions.
fn blocks(array: &Array, asked: &Array) -> Result<(Vec<usize>, Vec<usize>), String> {
    let depth = *asked.dims.last().filter(|&&depth| depth > 0).ok_or("its indices have no last axis")?;
    let inner = array.dims.get(depth..).ok_or("its indices have too many axes")?;
    let strides = strides(&array.dims);
    let place = |index: &[i64]| {
        let steps = index.iter().zip(&array.dims).zip(&strides).map(|((&index, &length), stride)| {
            Ok(axis_of(index, length).map_err(|_| format!("index {index} of {length}"))? * stride)
        });
        steps.sum::<Result<usize, String>>()
    };
    Ok((asked.ints()?.chunks(depth).map(place).collect::<Result<_, _>>()?, inner.to_vec()))
}

/// The blocks at which indices point.
fn gathered(node: &FileNode<'_>, budget: &mut Budget) -> Result<Array, String> {
    if node.int("batch_dims", 0)? != 0 {
        return Err("takes other indices in each row".into());
    }
    let (array, asked) = (known(node.input(0)?, budget)?, known(node.input(1)?, budget)?);
    let (starts, inner) = blocks(&array, &asked)?;
    let dims = [&asked.dims[..asked.dims.len() - 1], &inner].concat();
    budget.take(&dims)?;
    let chunk = inner.iter().product::<usize>();
    let from: Vec<usize> = starts.into_iter().flat_map(|start| start..start + chunk).collect();
    Ok(array.pick(dims, &from))
}

/// Numbers with some of them replaced: a ScatterND that does not add.
fn scattered(node: &FileNode<'_>, budget: &mut Budget) -> Result<Array, String> {
    if node.text("reduction", "none")? != "none" {
        return Err("adds to what is there".into());
    }
    let (array, asked) = (known(node.input(0)?, budget)?, known(node.input(1)?, budget)?);
    let updates = known(node.input(2)?, budget)?;
    let (starts, inner) = blocks(&array, &asked)?;
    if updates.dims != [&asked.dims[..asked.dims.len() - 1], &inner].concat() {
        return Err(format!("puts {:?} into {:?} at {:?}", updates.dims, array.dims, asked.dims));
    }
    budget.take(&array.dims)?;
    let chunk = inner.iter().product::<usize>();
    let mut from: Vec<usize> = (0..array.len()).collect();
    for (update, place) in starts.into_iter().enumerate() {
        let start = array.len() + update * chunk;
        from[place..place + chunk].iter_mut().enumerate().for_each(|(offset, from)| *from = start + offset);
    }
    let both = [&*array, &*updates].map(|array| array.with_dims(vec![array.len()]));
    Ok(joined(&both, 0)?.pick(array.dims.clone(), &from))
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

/// One of two numbers at each index of a new axis: the second where the index is the one given.
fn one_hot(node: &FileNode<'_>, budget: &mut Budget) -> Result<Array, String> {
    let (asked, depth) = (known(node.input(0)?, budget)?, known(node.input(1)?, budget)?.floats()?);
    let values = known(node.input(2)?, budget)?;
    let (&[depth], 2) = (&depth[..], values.len()) else {
        return Err("its depth or values do not fit".into());
    };
    let depth = size("depth", depth as i64)?;
    let count = asked.dims.len() + 1;
    let axis = axis_of(node.int("axis", -1)?, count)?;
    let dims = [&asked.dims[..axis], &[depth], &asked.dims[axis..]].concat();
    budget.take(&dims)?;
    let inner: usize = asked.dims[axis..].iter().product();
    let mut places = vec![0; dims.iter().product()];
    for (place, index) in asked.floats()?.into_iter().enumerate() {
        let index = index as i64;
        let from_start = if index < 0 { index + depth as i64 } else { index };
        // Beyond the depth there is none.
        if let Some(index) = usize::try_from(from_start).ok().filter(|&index| index < depth) {
            places[(place / inner * depth + index) * inner + place % inner] = 1;
        }
    }
    Ok(values.pick(dims, &places))
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

/// Numbers as often as asked along each axis.
///
/// # Errors
/// If there are not as many repeats as axes, or if it makes too many numbers.
pub fn tiled(array: &Array, repeats: &[usize], budget: &mut Budget) -> Result<Array, String> {
    if repeats.len() != array.dims.len() {
        return Err(format!("repeats {:?} {repeats:?} times", array.dims));
    }
    let pairs = || array.dims.iter().zip(repeats);
    let dims = pairs().map(|(&dim, &times)| dim.checked_mul(times)).collect::<Option<Vec<_>>>();
    let dims = dims.ok_or("makes too many numbers")?;
    budget.take(&dims)?;
    // Each axis as a pair: how often, and its own length.
    let seen: Vec<usize> = array.dims.iter().flat_map(|&dim| [1, dim]).collect();
    let wide: Vec<usize> = pairs().flat_map(|(&dim, &times)| [times, dim]).collect();
    Ok(expanded(&array.with_dims(seen), &wide).with_dims(dims))
}

fn concat(node: &FileNode<'_>, budget: &mut Budget) -> Result<Array, String> {
    let inputs: Vec<Array> = arrays(node, budget)?.iter().map(|array| (**array).clone()).collect();
    let axis = axis_of(node.int("axis", 0)?, inputs[0].dims.len())?;
    let count: usize = inputs.iter().map(Array::len).sum();
    budget.take(&[count])?;
    joined(&inputs, axis)
}

/// Arrays one after another along an axis.
fn joined(inputs: &[Array], axis: usize) -> Result<Array, String> {
    let first = inputs.first().ok_or("an input is missing")?;
    let mut dims = first.dims.clone();
    dims[axis] = 0;
    for array in inputs {
        let alike = array.dims.len() == dims.len()
            && (0..dims.len()).all(|other| other == axis || array.dims[other] == dims[other]);
        if !alike {
            return Err(format!("{:?} and {:?} cannot be joined", first.dims, array.dims));
        }
        dims[axis] = dims[axis].checked_add(array.dims[axis]).ok_or("too much to join")?;
    }
    let outer: usize = dims[..axis].iter().product();
    let chunk = |array: &Array| array.dims[axis..].iter().product::<usize>();
    let whole = inputs.iter().all(|array| matches!(array.numbers, Numbers::Whole(_)));
    let (mut floats, mut wholes) = (Vec::new(), Vec::new());
    for block in 0..outer {
        for array in inputs {
            let range = block * chunk(array)..(block + 1) * chunk(array);
            match &array.numbers {
                Numbers::Whole(values) => wholes.extend_from_slice(&values[range]),
                Numbers::Floats(values) => floats.extend_from_slice(&values[range]),
            }
        }
    }
    match (whole, floats.is_empty() || wholes.is_empty()) {
        (true, _) => Ok(Array { dims, numbers: Numbers::Whole(wholes) }),
        (false, true) => Ok(Array { dims, numbers: Numbers::Floats(floats) }),
        (false, false) => Err("joins integers and floats".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn array(dims: &[usize]) -> Array {
        let count = dims.iter().product::<usize>();
        Array { dims: dims.to_vec(), numbers: Numbers::Floats((0..count).map(|n| n as f64).collect()) }
    }

    #[test]
    fn arrays_are_rearranged_as_ndarray_does() {
        let (a, mut budget) = (array(&[2, 3, 4]), Budget::new(1000, 0));
        let reference = ndarray::Array3::from_shape_fn((2, 3, 4), |(i, j, k)| (12 * i + 4 * j + k) as f64);
        let turned: Vec<f64> = reference.clone().permuted_axes([2, 0, 1]).iter().copied().collect();
        assert_eq!(transposed(&a, &[2, 0, 1]).floats(), Ok(turned));
        let picked: Vec<f64> = reference.select(ndarray::Axis(1), &[2, 0]).iter().copied().collect();
        let found = taken(&a, 1, &[2, 0], &mut budget).unwrap();
        assert_eq!((found.dims.clone(), found.floats()), (vec![2, 2, 4], Ok(picked)));
        let wide = expanded(&array(&[3, 1]), &[2, 3, 2]);
        assert_eq!(wide.floats(), Ok([[0., 0., 1., 1., 2., 2.]; 2].concat()));
        assert!(taken(&array(&[30]), 0, &[1; 2000], &mut budget).is_err(), "more than the budget");
        assert!(unsqueezed(&[1; 5], &[0, 1, 2, 3]).is_err() && unsqueezed(&[2], &[0, 0]).is_err());
        assert_eq!(unsqueezed(&[2, 3], &[0, -1]), Ok(vec![1, 2, 3, 1]));
        assert!(broadcast(&[2], &[3]).is_err());
    }
}
