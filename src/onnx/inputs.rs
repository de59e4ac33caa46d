//! The input and the declared tensors of a file: names, types and sizes, in whatever way exporters write them.
//!
//! What not every runtime takes (a free axis as -1, a symbol that is not a name) is tidied in the file that
//! engines load; what no runtime can run is refused with its remedy. Knows no weights and no runtime.

use std::collections::HashSet;

use tract_onnx::pb::tensor_proto::DataType;
use tract_onnx::pb::tensor_shape_proto::dimension;
use tract_onnx::pb::type_proto::{Tensor, Value};
use tract_onnx::pb::{GraphProto, ValueInfoProto};

use super::tensor::type_name;
use crate::contract::{Dim, Element, Layout, TensorInfo};
use crate::error::InputError;

/// Maximum number of inputs that are listed in a message.
const MAX_LISTED: usize = 6;

/// The file's only input. Inputs that also are initializers have values of their own and do not count, nor do inputs
/// that no node reads, which are removed.
///
/// # Errors
/// [`InputError`] if there are none or several, or if it is not a batch of numbers.
pub fn only_input(graph: &mut GraphProto) -> Result<TensorInfo, InputError> {
    let initializers: HashSet<&str> = graph
        .initializer
        .iter()
        .map(|tensor| tensor.name.as_str())
        .chain(
            graph.sparse_initializer.iter().filter_map(|sparse| Some(sparse.values.as_ref()?.name.as_str())),
        )
        .collect();
    let open: Vec<&ValueInfoProto> =
        graph.input.iter().filter(|input| !initializers.contains(input.name.as_str())).collect();
    let read: HashSet<&str> = graph.node.iter().flat_map(|node| &node.input).map(String::as_str).collect();
    let used: Vec<&&ValueInfoProto> =
        open.iter().filter(|input| read.contains(input.name.as_str())).collect();
    let input = match (&used[..], &open[..]) {
        ([input], _) => (**input).clone(),
        ([], [input]) => (*input).clone(),
        ([], []) => {
            return Err(InputError::new("the graph has no input")
                .hint("export the model with its images as an input, not with an example as a constant"));
        }
        (several, _) => return Err(several_inputs(several)),
    };
    let unread: HashSet<String> =
        open.iter().filter(|other| other.name != input.name).map(|other| other.name.clone()).collect();
    graph.input.retain(|input| !unread.contains(&input.name));
    let info = tensor_info(&input)?;
    if info.dims.len() == 1 {
        return Err(InputError::new(format!("input '{}' has one axis, without a batch", info.name))
            .hint("export the model for batches of images [batch, channels, height, width]"));
    }
    Ok(info)
}

fn several_inputs(inputs: &[&&ValueInfoProto]) -> InputError {
    let told = |input: &&&ValueInfoProto| match tensor_info(input) {
        Ok(info) => format!("'{}' {}", info.name, dims_text(&info.dims)),
        Err(_) => format!("'{}'", input.name),
    };
    let mut list: Vec<String> = inputs.iter().take(MAX_LISTED).map(told).collect();
    if inputs.len() > MAX_LISTED {
        list.push(format!("and {} more", inputs.len() - MAX_LISTED));
    }
    InputError::new(format!("{} inputs, expected the images alone: {}", inputs.len(), list.join(", ")))
        .hint("export the model with everything but the images as a constant")
}

/// Sizes of axes for messages: numbers, symbols, and `?` for an axis without a name.
pub fn dims_text(dims: &[Dim]) -> String {
    let text = |dim: &Dim| match dim {
        Dim::Fixed(size) => size.to_string(),
        Dim::Symbolic(symbol) if symbol.is_empty() => "?".into(),
        Dim::Symbolic(symbol) => symbol.clone(),
    };
    format!("[{}]", dims.iter().map(text).collect::<Vec<_>>().join(", "))
}

/// Name, type and sizes of a declared tensor.
///
/// # Errors
/// [`InputError`] if it is not a tensor of plain numbers, or if an axis has no elements.
pub fn tensor_info(value: &ValueInfoProto) -> Result<TensorInfo, InputError> {
    let name = value.name.clone();
    let Some(tensor) = tensor_of(value) else {
        return Err(InputError::new(format!("'{name}' is not a tensor"))
            .hint("export the model with tensors of numbers as its input and outputs"));
    };
    let element = element(tensor.elem_type).ok_or_else(|| {
        let kind = type_name(tensor.elem_type);
        InputError::new(format!("'{name}' is of type {kind}, which is not a plain number type"))
            .hint("export the model with numbers as its input and outputs")
    })?;
    let shape = tensor.shape.as_ref().map(|shape| shape.dim.as_slice()).unwrap_or_default();
    let dims = shape.iter().enumerate().map(|(axis, dim)| match &dim.value {
        Some(dimension::Value::DimValue(0)) => Err(no_elements(&name, axis)),
        Some(dimension::Value::DimValue(size)) if *size > 0 => Ok(Dim::Fixed(*size as usize)),
        Some(dimension::Value::DimParam(symbol)) => Ok(Dim::Symbolic(symbol.clone())),
        // Some exporters write a free axis as -1; runtimes take it as one.
        Some(dimension::Value::DimValue(_)) | None => Ok(Dim::Symbolic(String::new())),
    });
    let dims = dims.collect::<Result<Vec<_>, _>>()?;
    Ok(TensorInfo { name, element, dims })
}

fn no_elements(name: &str, axis: usize) -> InputError {
    let what = if axis == 0 { "a batch of 0".to_string() } else { format!("a size of 0 on axis {axis}") };
    InputError::new(format!("'{name}' declares {what}, which runtimes take as empty")).hint(format!(
        "a free axis has a name instead of a number: with Python's onnx, set .type.tensor_type.shape.dim[{axis}].dim_param \
         = 'batch' for this tensor and save the model"
    ))
}

/// The tensor type of a declaration.
pub fn tensor_of(value: &ValueInfoProto) -> Option<&Tensor> {
    match value.r#type.as_ref()?.value.as_ref()? {
        Value::TensorType(tensor) => Some(tensor),
    }
}

/// Rewrites free axes that not every engine reads as axes without a name: -1, and symbols that are not plain names
/// (`batch-size`, `?`), which tract takes for arithmetic. Returns whether anything changed.
pub fn tidy_axes(graph: &mut GraphProto) -> bool {
    let mut changed = false;
    for value in graph.input.iter_mut().chain(&mut graph.output).chain(&mut graph.value_info) {
        let Some(Value::TensorType(tensor)) = value.r#type.as_mut().and_then(|kind| kind.value.as_mut())
        else {
            continue;
        };
        for dim in tensor.shape.iter_mut().flat_map(|shape| &mut shape.dim) {
            let odd = match &dim.value {
                Some(dimension::Value::DimValue(size)) => *size < 0,
                Some(dimension::Value::DimParam(symbol)) => !is_name(symbol),
                None => false,
            };
            if odd {
                dim.value = None;
                changed = true;
            }
        }
    }
    changed
}

fn is_name(symbol: &str) -> bool {
    symbol.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_')
        && symbol.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

/// The order of an input's axes: channels last if only the last axis can be the channels of a grey or colour
/// image.
pub fn layout(input: &TensorInfo) -> Layout {
    let colours = |dim: &Dim| matches!(dim, Dim::Fixed(1 | 3));
    match input.dims.get(1..) {
        Some([first, _, last]) if colours(last) && !colours(first) => Layout::ChannelsLast,
        Some(_) | None => Layout::ChannelsFirst,
    }
}

#[expect(clippy::wildcard_enum_match_arm, reason = "ONNX's types, of which these are read")]
/// The element type of a tensor of an ONNX type; `None` for types that no input or output may have here.
pub fn element(data_type: i32) -> Option<Element> {
    let integer = |least: i64, most: i64| Some(Element::Integer { least, most });
    match DataType::try_from(data_type).ok()? {
        DataType::Float => Some(Element::Float32),
        DataType::Float16 => Some(Element::Float16),
        DataType::Bfloat16 => Some(Element::BFloat16),
        DataType::Double => Some(Element::Float64),
        DataType::Uint8 => integer(0, u8::MAX.into()),
        DataType::Int8 => integer(i8::MIN.into(), i8::MAX.into()),
        DataType::Uint16 => integer(0, u16::MAX.into()),
        DataType::Int16 => integer(i16::MIN.into(), i16::MAX.into()),
        DataType::Uint32 => integer(0, u32::MAX.into()),
        DataType::Int32 => integer(i32::MIN.into(), i32::MAX.into()),
        DataType::Int64 => integer(i64::MIN, i64::MAX),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::super::proto::{data_type, value_info};
    use super::*;

    #[test]
    fn a_type_that_can_be_read_is_written_as_itself() {
        use DataType::*;
        for expected in [Float, Float16, Bfloat16, Double, Uint8, Int8, Uint16, Int16, Uint32, Int32, Int64] {
            let read = element(expected as i32).unwrap();
            assert_eq!(data_type(read), expected, "{read:?}");
        }
    }

    fn with_batch(value: Option<dimension::Value>) -> ValueInfoProto {
        let mut info = value_info(&TensorInfo::batched("x", &[3, 8, 8]));
        let kind = info.r#type.as_mut().unwrap().value.as_mut().unwrap();
        let Value::TensorType(tensor) = kind;
        tensor.shape.as_mut().unwrap().dim[0].value = value;
        info
    }

    #[test]
    fn every_way_to_write_a_free_batch_is_one() {
        let symbol = |name: &str| Some(dimension::Value::DimParam(name.into()));
        for (written, read, tidied) in [
            (symbol("batch"), "batch", symbol("batch")),
            (symbol("batch-size"), "batch-size", None),
            (symbol("?"), "?", None),
            (symbol("1x"), "1x", None),
            (Some(dimension::Value::DimValue(-1)), "", None),
            (None, "", None),
        ] {
            let value = with_batch(written.clone());
            assert_eq!(tensor_info(&value).unwrap().dims[0], Dim::Symbolic(read.into()), "{written:?}");
            let mut graph = GraphProto { input: vec![value], ..GraphProto::default() };
            assert_eq!(tidy_axes(&mut graph), tidied != written, "{written:?}");
            let dim = &tensor_of(&graph.input[0]).unwrap().shape.as_ref().unwrap().dim[0];
            assert_eq!(dim.value, tidied, "{written:?}");
        }
        let refused = tensor_info(&with_batch(Some(dimension::Value::DimValue(0)))).unwrap_err();
        assert!(refused.message.contains("declares a batch of 0"), "{refused}");
        assert!(refused.hint.unwrap().contains("dim_param = 'batch'"));
    }
}
