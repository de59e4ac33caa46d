//! QuantizeLinear and DequantizeLinear: their settings, and known numbers that are quantised or become what they stand
//! for.

use tract_onnx::pb::tensor_proto::DataType;

use crate::graph::Quantize;

use super::super::tensor::{Stored, elements, numbers};
use super::arguments::known;
use super::node::{FileNode, Input, axis_of};
use super::value::{Array, Budget, Numbers, Unread, Value, Whole};

/// The scales and zero points of a node on a tensor with this many axes in the file; so the axis is counted.
fn settings(node: &FileNode<'_>, axes: usize, budget: &mut Budget) -> Result<Quantize, String> {
    refuse_blocks(node)?;
    let scales = known(node.input(1)?, budget)?;
    let kind = match node.optional(2).map(|input| &input.value) {
        Some(Value::Unread(unread)) => unread.data_type(),
        Some(
            Value::Data(_)
            | Value::Known(_)
            | Value::Placed(_)
            | Value::Counted(_)
            | Value::Booleans(_)
            | Value::Quantized(_)
            | Value::Unknown,
        ) => {
            return Err("the type of its zero point is not known".into());
        }
        None => match i32::try_from(node.int("output_dtype", 0)?) {
            Ok(kind) if kind != 0 => kind,
            _ => DataType::Uint8 as i32,
        },
    };
    let (least, most) = match DataType::try_from(kind) {
        Ok(DataType::Uint8) => (0, 255),
        Ok(DataType::Int8) => (-128, 127),
        _ => return Err(format!("quantises to {}", super::super::tensor::type_name(kind))),
    };
    let count = scales.len();
    let zeros = match node.optional(2) {
        Some(input) => known(input, budget)?.ints()?,
        None => vec![0; count],
    };
    let axis = match count {
        1 => None,
        _ => Some(axis_of(node.int("axis", 1)?, axes)?),
    };
    let scales: Vec<f32> = scales.floats()?.into_iter().map(|scale| scale as f32).collect();
    let zeros = zeros.into_iter().map(i32::try_from).collect::<Result<Vec<_>, _>>();
    Ok(Quantize { scales, zeros: zeros.map_err(|_| "a zero point is too large")?, axis, least, most })
}

/// The same for data, whose first axis in the file is the batch.
pub fn settings_of_data(node: &FileNode<'_>, axes: usize, budget: &mut Budget) -> Result<Quantize, String> {
    let all = settings(node, axes + 1, budget)?;
    let axis = all.axis.map(|axis| axis.checked_sub(1).ok_or("has a scale for each image")).transpose()?;
    Ok(Quantize { axis, ..all })
}

fn refuse_blocks(node: &FileNode<'_>) -> Result<(), String> {
    if node.int("block_size", 0)? == 0 { Ok(()) } else { Err("blocks of scales are not supported".into()) }
}

/// The numbers that a node quantises or turns back, and their dimensions. They are charged to what the file stores, or else
/// to what may be folded.
fn read(input: &Input<'_>, budget: &mut Budget) -> Result<(Vec<usize>, Stored), String> {
    match &input.value {
        Value::Unread(Unread::Tensor(tensor)) => {
            let dims: Vec<usize> = tensor.dims.iter().map(|&dim| dim as usize).collect();
            let count = elements(tensor)?;
            budget.stored(count).or_else(|_| budget.take(&dims).map(|_| ()))?;
            Ok((dims, numbers(tensor)?))
        }
        Value::Unread(Unread::Filled(_))
        | Value::Data(_)
        | Value::Known(_)
        | Value::Placed(_)
        | Value::Counted(_)
        | Value::Booleans(_)
        | Value::Quantized(_)
        | Value::Unknown => {
            let array = known(input, budget)?;
            budget.stored(array.len()).or_else(|_| budget.take(&array.dims).map(|_| ()))?;
            let numbers = match &array.numbers {
                Numbers::Floats(values) => Stored::Floats(values.clone()),
                Numbers::Whole(_) => Stored::Ints(array.ints()?),
            };
            Ok((array.dims.clone(), numbers))
        }
    }
}

/// How many numbers in a row share a scale, if there are `count` scales along an axis of `dims`.
fn in_a_row(node: &FileNode<'_>, dims: &[usize], count: usize) -> Result<usize, String> {
    if count == 1 {
        return Ok(dims.iter().product::<usize>().max(1));
    }
    let axis = axis_of(node.int("axis", 1)?, dims.len())?;
    if count != dims[axis] {
        return Err(format!("{count} scales for axis {axis} of {dims:?}"));
    }
    Ok(dims[axis + 1..].iter().product::<usize>().max(1))
}

/// Known integers as the numbers they stand for: `(x − zero) · scale` in single precision, per tensor or per axis.
///
/// # Errors
/// If scales and zero points do not fit, or if the numbers are too many.
pub fn dequantized(node: &FileNode<'_>, budget: &mut Budget) -> Result<Array, String> {
    refuse_blocks(node)?;
    let (dims, Stored::Ints(values)) = read(node.input(0)?, budget)? else {
        return Err("reads no integers".into());
    };
    let scales = known(node.input(1)?, budget)?.floats()?;
    let (count, inner) = (scales.len(), in_a_row(node, &dims, scales.len())?);
    let zeros = match node.optional(2).map(|input| known(input, budget)).transpose()? {
        Some(zeros) if zeros.len() == count => zeros.ints()?,
        Some(zeros) if zeros.len() == 1 => vec![zeros.ints()?[0]; count],
        Some(zeros) => return Err(format!("{} zero points for {count} scales", zeros.len())),
        None => vec![0; count],
    };
    let value = |(place, value): (usize, i64)| {
        let at = place / inner % count;
        f64::from(value.saturating_sub(zeros[at]) as f32 * scales[at] as f32)
    };
    let numbers = Numbers::Floats(values.into_iter().enumerate().map(value).collect());
    Ok(Array { dims, numbers })
}

/// Known numbers quantised: `clamp(round(x / scale) + zero)`, halves to even, per tensor or per axis.
///
/// # Errors
/// As [`dequantized`].
pub fn quantized(node: &FileNode<'_>, budget: &mut Budget) -> Result<Array, String> {
    let (dims, Stored::Floats(values)) = read(node.input(0)?, budget)? else {
        return Err("reads no floats".into());
    };
    let Quantize { scales, zeros, least, most, .. } = settings(node, dims.len(), budget)?;
    let (count, inner) = (scales.len(), in_a_row(node, &dims, scales.len())?);
    if zeros.len() != count {
        return Err(format!("{} zero points for {count} scales", zeros.len()));
    }
    let place = |(place, value): (usize, f64)| {
        let at = place / inner % count;
        let rounded = (value as f32 / scales[at]).round_ties_even() + zeros[at] as f32;
        Whole::Plain(rounded.clamp(least as f32, most as f32) as i64)
    };
    let numbers = Numbers::Whole(values.into_iter().enumerate().map(place).collect());
    Ok(Array { dims, numbers })
}
