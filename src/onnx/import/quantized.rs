//! QuantizeLinear and DequantizeLinear: weights become the numbers they stand for, and data keeps the values that remain
//! between the two.

use std::rc::Rc;

use tract_onnx::pb::tensor_proto::DataType;

use crate::graph::{Op, Quantize};

use super::super::tensor::{Stored, elements, numbers};
use super::arguments::known;
use super::node::{FileNode, axis_of};
use super::value::{Array, Budget, Data, Numbers, Quantized, Value, Whole};
use super::walk::Walk;

impl<'a> Walk<'a> {
    /// The value of a QuantizeLinear or DequantizeLinear of data; `None` if the node is not one.
    pub fn quantized(&mut self, node: &FileNode<'a>) -> Result<Option<Value<'a>>, String> {
        match (node.op(), node.optional(0).map(|input| &input.value)) {
            ("QuantizeLinear", Some(Value::Data(Data { integers: false, .. }))) => {
                let data = self.data(node, 0)?;
                let axes = self.shape_of(data).len() + 1;
                let settings = settings(node, axes, &mut self.budget)?;
                Ok(Some(Value::Quantized(Rc::new(Quantized { node: data, settings }))))
            }
            ("DequantizeLinear", Some(Value::Quantized(quantized))) => {
                let axes = self.shape_of(quantized.node).len() + 1;
                if settings(node, axes, &mut self.budget)? != quantized.settings {
                    return Err("its scale or zero point is not that of the QuantizeLinear before it".into());
                }
                let op = Op::QuantizeDequantize(quantized.settings.clone());
                let node = self.add(node, op, &[quantized.node], Vec::new())?;
                Ok(Some(Value::Data(Data { node, integers: false })))
            }
            _ => Ok(None),
        }
    }
}

/// The scales and zero points of a node on data with this many axes in the file.
fn settings(node: &FileNode<'_>, axes: usize, budget: &mut Budget) -> Result<Quantize, String> {
    let scales = known(node.input(1)?, budget)?;
    let kind = match node.optional(2).map(|input| &input.value) {
        Some(Value::Initializer(tensor)) => tensor.data_type,
        Some(
            Value::Data(_)
            | Value::Known(_)
            | Value::Row(_)
            | Value::Counted(_)
            | Value::Truths(_)
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
    if node.int("block_size", 0)? != 0 {
        return Err("blocks of scales are not supported".into());
    }
    let count = scales.len();
    let zeros = match node.optional(2) {
        Some(input) => known(input, budget)?.ints()?,
        None => vec![0; count],
    };
    let axis = match count {
        1 => None,
        _ => Some(axis_of(node.int("axis", 1)?, axes)?.checked_sub(1).ok_or("has a scale for each image")?),
    };
    let scales: Vec<f32> = scales.floats()?.into_iter().map(|scale| scale as f32).collect();
    let zeros = zeros.into_iter().map(i32::try_from).collect::<Result<Vec<_>, _>>();
    Ok(Quantize { scales, zeros: zeros.map_err(|_| "a zero point is too large")?, axis, least, most })
}

/// Known integers as the numbers they stand for: `(x − zero) · scale` in single precision, per tensor or per axis.
///
/// # Errors
/// If scales and zero points do not fit, or if the numbers are too many.
pub fn dequantized(node: &FileNode<'_>, budget: &mut Budget) -> Result<Array, String> {
    if node.int("block_size", 0)? != 0 {
        return Err("blocks of scales are not supported".into());
    }
    let (dims, numbers) = match &node.input(0)?.value {
        Value::Initializer(tensor) => {
            budget.stored(elements(tensor)?)?;
            let Stored::Ints(values) = numbers(tensor)? else { return Err("holds no integers".into()) };
            (tensor.dims.iter().map(|&dim| dim as usize).collect::<Vec<_>>(), values)
        }
        Value::Data(_)
        | Value::Known(_)
        | Value::Row(_)
        | Value::Counted(_)
        | Value::Truths(_)
        | Value::Quantized(_)
        | Value::Unknown => {
            let array = known(node.input(0)?, budget)?;
            budget.take(&array.dims)?;
            (array.dims.clone(), array.ints()?)
        }
    };
    let scales = known(node.input(1)?, budget)?;
    let zeros = node.optional(2).map(|input| known(input, budget)).transpose()?;
    // How many numbers in a row have the same scale, and how many scales there are.
    let (inner, count) = match scales.len() {
        1 => (numbers.len().max(1), 1),
        count => {
            let axis = axis_of(node.int("axis", 1)?, dims.len())?;
            if scales.dims != [dims[axis]] {
                return Err(format!("scales of {:?} for axis {axis} of {dims:?}", scales.dims));
            }
            (dims[axis + 1..].iter().product::<usize>().max(1), count)
        }
    };
    let scales = scales.floats()?;
    let zeros = match zeros {
        Some(zeros) if zeros.len() == 1 => vec![zeros.ints()?[0]; count],
        Some(zeros) if zeros.len() == count => zeros.ints()?,
        Some(zeros) => return Err(format!("{} zero points for {count} scales", zeros.len())),
        None => vec![0; count],
    };
    let value = |(place, value): (usize, i64)| {
        let at = place / inner % count;
        let steps = value.saturating_sub(zeros[at]) as f32;
        f64::from(steps * scales[at] as f32)
    };
    let numbers = Numbers::Floats(numbers.into_iter().enumerate().map(value).collect());
    Ok(Array { dims, numbers })
}

/// Known numbers quantised: `clamp(round(x / scale) + zero)`, halves to even. Per tensor only.
///
/// # Errors
/// If there are several scales.
pub fn quantized(node: &FileNode<'_>, budget: &mut Budget) -> Result<Array, String> {
    let array = known(node.input(0)?, budget)?;
    budget.take(&array.dims)?;
    let Quantize { scales, zeros, least, most, .. } = settings(node, array.dims.len(), budget)?;
    let ([scale], [zero]) = (&scales[..], &zeros[..]) else {
        return Err("quantises constants with several scales".into());
    };
    let place = |value: f64| {
        let rounded = (value as f32 / scale).round_ties_even() + *zero as f32;
        Whole::Plain(rounded.clamp(least as f32, most as f32) as i64)
    };
    let numbers = Numbers::Whole(array.floats()?.into_iter().map(place).collect());
    Ok(Array { dims: array.dims.clone(), numbers })
}
