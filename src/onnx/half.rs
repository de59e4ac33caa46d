//! Files that compute in half precision behind ends of float32.

use std::collections::HashMap;

use anyhow::{Result, bail};
use half::f16;
use tract_onnx::pb::tensor_proto::DataType;
use tract_onnx::pb::{GraphProto, TensorProto};

use super::proto::{int, node};
use super::tensor::floats;

/// What the half-precision tensor of an end is called, behind that end's own name.
const SUFFIX: &str = "float16";

/// Makes every initializer of float32 one of float16, and puts casts behind the input and before the outputs: all in
/// between is computed in float16, and the ends keep their names and types.
///
/// # Errors
/// If a weight is too large for float16.
pub fn in_half(graph: &mut GraphProto) -> Result<()> {
    for tensor in graph.initializer.iter_mut().filter(|tensor| tensor.data_type == DataType::Float as i32) {
        *tensor = rounded(tensor)?;
    }
    let ends = graph.input.iter().chain(&graph.output);
    let inner: HashMap<String, String> =
        ends.map(|end| (end.name.clone(), format!("{}.{SUFFIX}", end.name))).collect();
    for name in graph.node.iter_mut().flat_map(|node| node.input.iter_mut().chain(&mut node.output)) {
        if let Some(inner) = inner.get(name) {
            name.clone_from(inner);
        }
    }
    let cast = |from: &str, to: &str, kind: DataType, name: &str| {
        node(name, "Cast", &[from], to, vec![int("to", kind as i64)])
    };
    for end in &graph.input {
        let half = &inner[&end.name];
        graph.node.insert(0, cast(&end.name, half, DataType::Float16, half));
    }
    for end in &graph.output {
        let name = format!("{}.float32", end.name);
        graph.node.push(cast(&inner[&end.name], &end.name, DataType::Float, &name));
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
    use crate::graph::{Builder, Conv2d, Graph, Model, Op};
    use crate::onnx::{Element, EmitOptions, OnnxFile, emit};

    /// A network whose embedding is an output and what the logits are made of.
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

    const HALF: EmitOptions = EmitOptions { embedding: true, half: true };

    #[test]
    fn the_ends_stay_as_they_are() {
        let model = network();
        let load = |options: &EmitOptions| {
            OnnxFile::from_bytes(emit(&model, None, options).unwrap(), Path::new("m.onnx")).unwrap()
        };
        let (single, half) = (load(&EmitOptions { half: false, ..HALF }), load(&HALF));
        assert_eq!((&half.input, &half.outputs), (&single.input, &single.outputs));
        assert!(half.outputs.iter().all(|output| output.element == Element::Float32));
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
            emit(&Model::new(graph, weights).unwrap(), None, &HALF)
        };
        assert!(emitted(65_504.0).is_ok());
        let error = emitted(1e5).unwrap_err().to_string();
        assert_eq!(
            error,
            "'classifier.bias' holds 100000, which is too large for float16; export it in float32"
        );
    }
}
