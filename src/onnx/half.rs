//! Weights in half precision.

use anyhow::{Result, bail};
use half::f16;
use tract_onnx::pb::tensor_proto::DataType;
use tract_onnx::pb::{GraphProto, TensorProto};

use super::tensor::floats;

/// Converts every float32 initializer to float16.
///
/// # Errors
/// If a weight is too large for float16.
pub fn weights_in_half(graph: &mut GraphProto) -> Result<()> {
    for tensor in graph.initializer.iter_mut().filter(|tensor| tensor.data_type == DataType::Float as i32) {
        *tensor = rounded(tensor)?;
    }
    Ok(())
}

fn rounded(tensor: &TensorProto) -> Result<TensorProto> {
    let mut bytes = Vec::with_capacity(2 * tensor.raw_data.len() / 4);
    for value in floats(tensor).map_err(anyhow::Error::msg)? {
        let half = f16::from_f32(value);
        if half.is_infinite() {
            bail!("'{}' holds {value}, which is too large for float16; export it in float32", tensor.name);
        }
        bytes.extend(half.to_le_bytes());
    }
    Ok(TensorProto {
        name: tensor.name.clone(),
        dims: tensor.dims.clone(),
        data_type: DataType::Float16 as i32,
        raw_data: bytes,
        ..TensorProto::default()
    })
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use ndarray::ArrayD;

    use super::*;
    use crate::contract::{Contract, Element, Precision};
    use crate::graph::{Builder, Conv2d, Graph, Model, Op};
    use crate::onnx::{OnnxFile, emit, plain_contract};

    /// A network whose embedding is an output and also the input of the logits.
    fn network() -> Model {
        let (mut builder, image) = Builder::new(vec![2, 4, 4]).unwrap();
        let conv = builder.add("conv", Op::Conv2d(Conv2d::square(3, 3, 1)), &[image]).unwrap();
        let clip = builder.add("clip", Op::Clip { min: 0.0, max: 6.0 }, &[conv]).unwrap();
        let flat = builder.add("flat", Op::Flatten, &[clip]).unwrap();
        let linear = Op::Linear { out_features: 5, bias: true };
        let logits = builder.add("classifier", linear, &[flat]).unwrap();
        let graph = builder.finish(&[(Graph::LOGITS, logits), (Graph::EMBEDDING, flat)]);
        Model::untrained(graph, 1)
    }

    fn contract(model: &Model, precision: Precision) -> Contract {
        Contract { precision, ..plain_contract(model.graph()).with_embedding(&[48]) }
    }

    #[test]
    fn input_and_outputs_stay_as_they_are() {
        let model = network();
        let load = |precision: Precision| {
            let bytes = emit(&model, &contract(&model, precision), None).unwrap();
            OnnxFile::from_bytes(bytes, Path::new("m.onnx")).unwrap()
        };
        let (single, half) = (load(Precision::Float32), load(Precision::Float16));
        assert_eq!(half.contract, Contract { precision: Precision::Float16, ..single.contract });
        assert!(half.contract.outputs.iter().all(|output| output.tensor.element == Element::Float32));
        let graph = half.model.graph.unwrap();
        let floats = graph.initializer.iter().filter(|tensor| tensor.data_type == DataType::Float as i32);
        assert_eq!(floats.count(), 0);
        let casts: Vec<(&str, &str)> = graph
            .node
            .iter()
            .filter(|node| node.op_type == "Cast")
            .map(|node| (node.input[0].as_str(), node.output[0].as_str()))
            .collect();
        let expected =
            [("image", "image.float16"), ("logits.float16", "logits"), ("embedding.float16", "embedding")];
        assert_eq!(casts, expected);
    }

    #[test]
    fn a_weight_too_large_is_named() {
        let emitted = |bias: f32| {
            let (graph, mut weights) = network().into_parts();
            weights.insert("classifier.bias", ArrayD::from_elem(vec![5], bias));
            let model = Model::new(graph, weights).unwrap();
            emit(&model, &contract(&model, Precision::Float16), None)
        };
        assert!(emitted(65_504.0).is_ok());
        let error = emitted(1e5).unwrap_err().to_string();
        assert_eq!(
            error,
            "'classifier.bias' holds 100000, which is too large for float16; export it in float32"
        );
    }
}
