//! Small constructors of protobuf messages.

use ndarray::ArrayD;
use tract_onnx::pb::attribute_proto::AttributeType;
use tract_onnx::pb::tensor_proto::DataType;
use tract_onnx::pb::tensor_shape_proto::{Dimension, dimension};
use tract_onnx::pb::type_proto::{Tensor, Value};
use tract_onnx::pb::{AttributeProto, NodeProto, TensorProto, TensorShapeProto, TypeProto, ValueInfoProto};

use super::info::Dim;

/// Name of the symbolic batch dimension.
pub const BATCH: &str = "batch";

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

/// A float32 tensor with a symbolic batch before `shape`.
pub fn batched(name: &str, shape: &[usize]) -> ValueInfoProto {
    let fixed = shape.iter().map(|&dim| dimension::Value::DimValue(dim as i64));
    float32(name, std::iter::once(dimension::Value::DimParam(BATCH.into())).chain(fixed))
}

/// A float32 tensor `[batch, values]`.
pub fn row(name: &str, batch: &Dim, values: usize) -> ValueInfoProto {
    let batch = match batch {
        Dim::Fixed(size) => dimension::Value::DimValue(*size as i64),
        Dim::Symbolic(symbol) => dimension::Value::DimParam(symbol.clone()),
    };
    float32(name, [batch, dimension::Value::DimValue(values as i64)])
}

fn float32(name: &str, dims: impl IntoIterator<Item = dimension::Value>) -> ValueInfoProto {
    let dim =
        dims.into_iter().map(|value| Dimension { value: Some(value), ..Dimension::default() }).collect();
    let tensor = Tensor { elem_type: DataType::Float as i32, shape: Some(TensorShapeProto { dim }) };
    ValueInfoProto {
        name: name.to_string(),
        r#type: Some(TypeProto { value: Some(Value::TensorType(tensor)), ..TypeProto::default() }),
        ..ValueInfoProto::default()
    }
}
