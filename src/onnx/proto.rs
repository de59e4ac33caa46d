//! Small constructors of protobuf messages.

use ndarray::ArrayD;
use tract_onnx::pb::attribute_proto::AttributeType;
use tract_onnx::pb::tensor_proto::DataType;
use tract_onnx::pb::tensor_shape_proto::{Dimension, dimension};
use tract_onnx::pb::type_proto::{Tensor, Value};
use tract_onnx::pb::{AttributeProto, NodeProto, TensorProto, TensorShapeProto, TypeProto, ValueInfoProto};

use crate::contract::{Dim, Element, TensorInfo};

/// A node of the default domain.
pub fn node(
    name: &str,
    op: &str,
    inputs: &[&str],
    output: &str,
    attributes: Vec<AttributeProto>,
) -> NodeProto {
    NodeProto {
        name: name.to_string(),
        op_type: op.to_string(),
        input: inputs.iter().map(|input| (*input).to_string()).collect(),
        output: vec![output.to_string()],
        attribute: attributes,
        ..NodeProto::default()
    }
}

pub fn int(name: &str, value: i64) -> AttributeProto {
    AttributeProto {
        name: name.into(),
        r#type: AttributeType::Int as i32,
        i: value,
        ..AttributeProto::default()
    }
}

pub fn ints(name: &str, values: impl IntoIterator<Item = i64>) -> AttributeProto {
    let ints = values.into_iter().collect();
    AttributeProto {
        name: name.into(),
        r#type: AttributeType::Ints as i32,
        ints,
        ..AttributeProto::default()
    }
}

pub fn float(name: &str, value: f64) -> AttributeProto {
    let f = value as f32;
    AttributeProto { name: name.into(), r#type: AttributeType::Float as i32, f, ..AttributeProto::default() }
}

pub fn text(name: &str, value: &str) -> AttributeProto {
    AttributeProto {
        name: name.into(),
        r#type: AttributeType::String as i32,
        s: value.as_bytes().to_vec(),
        ..AttributeProto::default()
    }
}

/// An initializer of int8, or of uint8 if not `signed`.
///
/// # Errors
/// If a value does not fit the type.
pub fn eight_bits(name: &str, dims: &[usize], values: &[i32], signed: bool) -> anyhow::Result<TensorProto> {
    let byte = |&value: &i32| match signed {
        true => i8::try_from(value).map(i8::cast_unsigned),
        false => u8::try_from(value),
    };
    Ok(TensorProto {
        name: name.to_string(),
        dims: dims.iter().map(|&dim| dim as i64).collect(),
        data_type: if signed { DataType::Int8 } else { DataType::Uint8 } as i32,
        raw_data: values.iter().map(byte).collect::<Result<_, _>>()?,
        ..TensorProto::default()
    })
}

/// An initializer of booleans: whether the values are not 0.
pub fn booleans(name: &str, array: &ArrayD<f32>) -> TensorProto {
    TensorProto {
        name: name.to_string(),
        dims: array.shape().iter().map(|&dim| dim as i64).collect(),
        data_type: DataType::Bool as i32,
        raw_data: array.iter().map(|&value| u8::from(value != 0.0)).collect(),
        ..TensorProto::default()
    }
}

/// A float32 initializer.
pub fn floats(name: &str, array: &ArrayD<f32>) -> TensorProto {
    TensorProto {
        name: name.to_string(),
        dims: array.shape().iter().map(|&dim| dim as i64).collect(),
        data_type: DataType::Float as i32,
        raw_data: array.iter().flat_map(|value| value.to_le_bytes()).collect(),
        ..TensorProto::default()
    }
}

/// An int64 initializer of one dimension.
pub fn indices(name: &str, values: &[i64]) -> TensorProto {
    TensorProto {
        name: name.to_string(),
        dims: vec![values.len() as i64],
        data_type: DataType::Int64 as i32,
        raw_data: values.iter().flat_map(|value| value.to_le_bytes()).collect(),
        ..TensorProto::default()
    }
}

/// The declaration of an input or output. Without dimensions only the type is given.
pub fn value_info(info: &TensorInfo) -> ValueInfoProto {
    let dims = info.dims.iter().map(|dim| {
        let value = match dim {
            Dim::Fixed(size) => Some(dimension::Value::DimValue(*size as i64)),
            Dim::Symbolic(symbol) if symbol.is_empty() => None,
            Dim::Symbolic(symbol) => Some(dimension::Value::DimParam(symbol.clone())),
        };
        Dimension { value, ..Dimension::default() }
    });
    let dim: Vec<Dimension> = dims.collect();
    let shape = (!dim.is_empty()).then_some(TensorShapeProto { dim });
    let tensor = Tensor { elem_type: data_type(info.element) as i32, shape };
    ValueInfoProto {
        name: info.name.clone(),
        r#type: Some(TypeProto { value: Some(Value::TensorType(tensor)), ..TypeProto::default() }),
        ..ValueInfoProto::default()
    }
}

/// ONNX's type for tensors of such elements.
pub fn data_type(element: Element) -> DataType {
    match element {
        Element::Float32 => DataType::Float,
        Element::Float16 => DataType::Float16,
        Element::BFloat16 => DataType::Bfloat16,
        Element::Float64 => DataType::Double,
        Element::Integer { least, most } => match (least < 0, most) {
            (false, 0..=0xff) => DataType::Uint8,
            (true, 0..=0x7f) => DataType::Int8,
            (false, 0..=0xffff) => DataType::Uint16,
            (true, 0..=0x7fff) => DataType::Int16,
            (false, 0..=0xffff_ffff) => DataType::Uint32,
            (true, 0..=0x7fff_ffff) => DataType::Int32,
            (_, _) => DataType::Int64,
        },
    }
}
