//! Arguments that operators have as attributes in one operator set and as inputs in another: axes, cuts, orders,
//! new shapes. They are read in the same way for known tensors and for data.

use std::rc::Rc;

use super::node::{FileNode, Input, axis_of};
use super::value::{Array, Budget, MAX_AXES, Value, Whole};

/// Represents the size of a free batch.
pub const ANY_BATCH: usize = i32::MAX as usize;

/// A range of an axis: every `step`-th index from `start` to before `end`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cut {
    pub axis: usize,
    pub start: usize,
    pub end: usize,
    pub step: usize,
}

/// The indices that a Slice keeps along one axis.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Picked {
    Forwards(Cut),
    /// Indices that descend.
    Backwards {
        axis: usize,
        indices: Vec<usize>,
    },
}

/// The numbers of an input that must not depend on the image.
///
/// # Errors
/// If it does, or if it is too large to read.
pub fn known(input: &Input<'_>, budget: &mut Budget) -> Result<Rc<Array>, String> {
    match &input.value {
        Value::Known(array) => {
            budget.read(array.len())?;
            Ok(Rc::clone(array))
        }
        Value::Unread(unread) => Ok(Rc::new(unread.read(budget)?)),
        Value::Data(_)
        | Value::Placed(_)
        | Value::Counted(_)
        | Value::Booleans(_)
        | Value::Quantized(_)
        | Value::Unknown => Err(format!("'{}' is not the same for every image", input.name)),
    }
}

/// The integers of an attribute, or else of an input, or `None`.
///
/// # Errors
/// If they are not known.
pub fn integers(
    node: &FileNode<'_>,
    attribute: &str,
    place: usize,
    budget: &mut Budget,
) -> Result<Option<Vec<i64>>, String> {
    if let Some(values) = node.ints(attribute)? {
        return Ok(Some(values.to_vec()));
    }
    node.optional(place).map(|input| known(input, budget)?.ints()).transpose()
}

/// Axes of an attribute or an input as those of the graph, where the tensor has `own` axes; they ascend.
///
/// # Errors
/// If one is out of range or named twice, or if the images of a batch lie along it.
pub fn axes(
    node: &FileNode<'_>,
    place: usize,
    own: usize,
    budget: &mut Budget,
) -> Result<Option<Vec<usize>>, String> {
    let Some(values) = integers(node, "axes", place, budget)? else { return Ok(None) };
    let mut axes = values.into_iter().map(|axis| node.own_axis(axis, own)).collect::<Result<Vec<_>, _>>()?;
    axes.sort_unstable();
    if axes.windows(2).any(|pair| pair[0] == pair[1]) {
        return Err(format!("axes {axes:?} are named twice"));
    }
    Ok(Some(axes))
}

/// The order of axes in a Transpose.
///
/// # Errors
/// If it is not a permutation of the axes.
pub fn order(node: &FileNode<'_>, count: usize) -> Result<Vec<usize>, String> {
    let Some(order) = node.ints("perm")? else { return Ok((0..count).rev().collect()) };
    let order = order.iter().map(|&axis| axis_of(axis, count)).collect::<Result<Vec<_>, _>>()?;
    let mut sorted = order.clone();
    sorted.sort_unstable();
    if sorted.iter().copied().ne(0..count) {
        return Err(format!("{order:?} is not a permutation of {count} axes"));
    }
    Ok(order)
}

/// The indices that a Slice keeps along each axis; axes that stay whole are left out.
///
/// # Errors
/// If a step is 0, or the numbers are not known.
pub fn cuts(node: &FileNode<'_>, dims: &[usize], budget: &mut Budget) -> Result<Vec<Picked>, String> {
    let mut list = |name: &str, place: usize| integers(node, name, place, budget);
    let starts = list("starts", 1)?.ok_or("starts are missing")?;
    let ends = list("ends", 2)?.ok_or("ends are missing")?;
    let axes = list("axes", 3)?.unwrap_or_else(|| (0..starts.len() as i64).collect());
    let steps = list("steps", 4)?.unwrap_or_else(|| vec![1; starts.len()]);
    if [ends.len(), axes.len(), steps.len()].iter().any(|&length| length != starts.len()) {
        return Err("starts, ends, axes and steps are not equally many".into());
    }
    let mut cuts = Vec::new();
    for (((&start, &end), &axis), &step) in starts.iter().zip(&ends).zip(&axes).zip(&steps) {
        let axis = axis_of(axis, dims.len())?;
        let size = dims[axis] as i64;
        let from_start = |index: i64| if index < 0 { index.saturating_add(size) } else { index };
        if step < 0 {
            // The end may lie before the first index.
            let (first, last) = (from_start(start).min(size - 1), from_start(end).max(-1));
            let stride = usize::try_from(step.unsigned_abs()).unwrap_or(usize::MAX);
            if dims[axis] == ANY_BATCH {
                return Err("takes a part of the batch".into());
            }
            let first = first.max(-1);
            let last = last.min(first);
            budget.take(&[(first - last) as usize])?;
            let indices = (last + 1..=first).rev().step_by(stride).map(|index| index as usize).collect();
            cuts.push(Picked::Backwards { axis, indices });
            continue;
        }
        let [start, end] = [start, end].map(|index| from_start(index).clamp(0, size) as usize);
        let step = usize::try_from(step).ok().filter(|&step| step > 0).ok_or("its step is 0")?;
        let end = end.max(start);
        if (start, end, step) != (0, dims[axis], 1) {
            cuts.push(Picked::Forwards(Cut { axis, start, end, step }));
        }
    }
    Ok(cuts)
}

/// The lengths of the parts into which a Split divides an axis of `size`.
///
/// # Errors
/// If they do not add up.
pub fn parts(node: &FileNode<'_>, size: usize, budget: &mut Budget) -> Result<Vec<usize>, String> {
    let count = node.proto.output.len();
    let lengths = match integers(node, "split", 1, budget)? {
        Some(lengths) => {
            lengths.into_iter().map(|length| super::node::size("a part", length)).collect::<Result<_, _>>()?
        }
        None => {
            let each = size.div_ceil(count.max(1));
            (0..count).map(|part| each.min(size.saturating_sub(part * each))).collect::<Vec<usize>>()
        }
    };
    let whole = lengths.iter().try_fold(0usize, |sum, &length| sum.checked_add(length));
    if lengths.len() != count || whole != Some(size) || lengths.contains(&0) {
        return Err(format!("parts {lengths:?} of an axis of {size} for {count} outputs"));
    }
    Ok(lengths)
}

/// The shape that a Reshape asks for, with its zeros and its -1 resolved.
///
/// # Errors
/// If the number of elements differs, or if the shape is not defined.
pub fn new_shape(asked: &[Whole], from: &[Whole], keep_zeros: bool) -> Result<Vec<Whole>, String> {
    let problem = || format!("cannot see {} as {}", text(from), text(asked));
    let mut shape = Vec::with_capacity(asked.len());
    let mut open = None;
    for (place, &dim) in asked.iter().enumerate() {
        match dim {
            Whole::Plain(0) if !keep_zeros => shape.push(*from.get(place).ok_or_else(problem)?),
            Whole::Plain(-1) if open.is_none() => {
                open = Some(place);
                shape.push(Whole::Plain(1));
            }
            Whole::Plain(dim) if dim < 0 => return Err(problem()),
            Whole::Plain(_) | Whole::Batches(_) => shape.push(dim),
        }
    }
    let (all, given) = (product(from).ok_or_else(problem)?, product(&shape).ok_or_else(problem)?);
    if let Some(place) = open {
        shape[place] = divide(all, given).ok_or_else(problem)?;
    }
    if product(&shape) != Some(all) { Err(problem()) } else { Ok(shape) }
}

/// The number of elements of a shape; `None` if it overflows or the batch would be squared.
pub fn product(dims: &[Whole]) -> Option<Whole> {
    dims.iter().try_fold(Whole::Plain(1), |product, &dim| multiply(product, dim))
}

/// `None` if it overflows or the batch would be squared.
pub fn multiply(a: Whole, b: Whole) -> Option<Whole> {
    match (a, b) {
        (Whole::Plain(a), Whole::Plain(b)) => Some(Whole::Plain(a.checked_mul(b)?)),
        (Whole::Plain(a), Whole::Batches(b)) | (Whole::Batches(a), Whole::Plain(b)) => {
            Some(Whole::Batches(a.checked_mul(b)?))
        }
        (Whole::Batches(_), Whole::Batches(_)) => None,
    }
}

/// `None` if there is a remainder, or if the result would be neither a multiple of the batch nor independent of
/// it.
pub fn divide(a: Whole, b: Whole) -> Option<Whole> {
    let exact = |a: i64, b: i64| (a.checked_rem(b)? == 0).then(|| a.checked_div(b)).flatten();
    match (a, b) {
        (Whole::Plain(a), Whole::Plain(b)) => Some(Whole::Plain(exact(a, b)?)),
        (Whole::Batches(a), Whole::Plain(b)) => Some(Whole::Batches(exact(a, b)?)),
        (Whole::Batches(a), Whole::Batches(b)) => Some(Whole::Plain(exact(a, b)?)),
        (Whole::Plain(_), Whole::Batches(_)) => None,
    }
}

/// A shape for messages, with the batch as `N`; a long one is cut.
pub fn text(shape: &[Whole]) -> String {
    let (start, more) = match shape.split_at_checked(2 * MAX_AXES) {
        Some((start, [_, ..])) => (start, ", …"),
        Some(_) | None => (shape, ""),
    };
    let dim = |dim: &Whole| match dim {
        Whole::Plain(size) => size.to_string(),
        Whole::Batches(1) => "N".into(),
        Whole::Batches(times) => format!("{times}N"),
    };
    format!("[{}{more}]", start.iter().map(dim).collect::<Vec<_>>().join(", "))
}

#[cfg(test)]
mod tests {
    use super::Whole::{Batches, Plain};
    use super::*;

    #[test]
    fn shapes_are_worked_out_with_a_free_batch() {
        let from = [Batches(1), Plain(6), Plain(4)];
        let see = |asked: &[Whole], zeros| new_shape(asked, &from, zeros);
        assert_eq!(see(&[Plain(-1), Plain(24)], false), Ok(vec![Batches(1), Plain(24)]));
        assert_eq!(see(&[Plain(0), Plain(-1)], false), Ok(vec![Batches(1), Plain(24)]));
        assert_eq!(see(&[Batches(1), Plain(2), Plain(-1)], true), Ok(vec![Batches(1), Plain(2), Plain(12)]));
        assert_eq!(see(&[Batches(6), Plain(4)], false), Ok(vec![Batches(6), Plain(4)]));
        assert_eq!(see(&[Plain(-1)], false), Ok(vec![Batches(24)]));
        for wrong in [
            vec![Plain(1), Plain(24)],
            vec![Plain(-1), Plain(-1)],
            vec![Plain(-2), Plain(12)],
            vec![Plain(-1), Plain(7)],
            vec![Plain(0), Plain(0), Plain(0), Plain(0)],
            vec![Batches(1), Batches(24)],
            vec![Plain(i64::MAX), Plain(i64::MAX)],
            vec![Plain(-1), Plain(0)],
        ] {
            assert!(see(&wrong, wrong.len() == 2 && wrong[1] == Plain(0)).is_err(), "{wrong:?}");
        }
    }
}
