//! Known numbers at places that indices name: Gather, GatherND, ScatterND, OneHot.

use super::arguments::known;
use super::arrays::{joined, strides, taken};
use super::node::{FileNode, axis_of, size};
use super::value::{Array, Budget};

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

pub fn gather(node: &FileNode<'_>, budget: &mut Budget) -> Result<Array, String> {
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
pub fn gathered(node: &FileNode<'_>, budget: &mut Budget) -> Result<Array, String> {
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
pub fn scattered(node: &FileNode<'_>, budget: &mut Budget) -> Result<Array, String> {
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
    Ok(joined(&[&both[0], &both[1]], 0)?.pick(array.dims.clone(), &from))
}

/// One of two numbers at each index of a new axis: the second where the index is the one given.
pub fn one_hot(node: &FileNode<'_>, budget: &mut Budget) -> Result<Array, String> {
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
