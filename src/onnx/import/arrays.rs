//! Known numbers in other shapes and orders, repeated, joined, and picked along an axis. Knows no nodes.

use super::node::axis_of;
use super::value::{Array, Budget, Numbers};

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

pub fn transposed(array: &Array, order: &[usize]) -> Array {
    let own = strides(&array.dims);
    let dims: Vec<usize> = order.iter().map(|&axis| array.dims[axis]).collect();
    let strides: Vec<usize> = order.iter().map(|&axis| own[axis]).collect();
    let places = places(&dims, &strides);
    array.pick(dims, &places)
}

/// Some indices along an axis.
pub fn taken(array: &Array, axis: usize, indices: &[usize], budget: &mut Budget) -> Result<Array, String> {
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

/// Arrays one after another along an axis.
pub fn joined(inputs: &[&Array], axis: usize) -> Result<Array, String> {
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
        let (a, mut budget) = (array(&[2, 3, 4]), Budget::limited(1000));
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
