//! Tensors inside a file as outputs of their own, so that one can see where a run leaves the truth.

use std::collections::HashSet;

use anyhow::Result;
use prost::Message;
use tract_onnx::pb::ModelProto;
use tract_onnx::pb::tensor_proto::DataType;

use super::info::{Element, TensorInfo};
use super::proto::{batched, int, node};
use super::read::OnnxFile;

/// How the name of an exposed tensor's output ends.
const SUFFIX: &str = ".exposed";

impl OnnxFile {
    /// The same file with those tensors, as float32, as further outputs behind its own, in that order. A runtime
    /// can then no longer join the nodes on both sides of one.
    ///
    /// # Errors
    /// If the file's bytes cannot be decoded again.
    pub fn exposing(&self, tensors: &[&str]) -> Result<Self> {
        let mut model = ModelProto::decode(self.bytes.as_slice())?;
        let Some(graph) = model.graph.as_mut() else { return Ok(self.clone()) };
        let mut taken: HashSet<String> = graph.node.iter().flat_map(|node| &node.output).cloned().collect();
        let mut outputs = self.outputs.clone();
        for tensor in tensors {
            let mut name = format!("{tensor}{SUFFIX}");
            while !taken.insert(name.clone()) {
                name.push('_');
            }
            graph.node.push(node(&name, "Cast", &[tensor], &name, vec![int("to", DataType::Float as i64)]));
            let mut info = batched(&name, &[]);
            forget_shape(&mut info);
            graph.output.push(info);
            outputs.push(TensorInfo { name, element: Element::Float32, dims: Vec::new() });
        }
        let bytes = model.encode_to_vec();
        Ok(Self { bytes, outputs, model, ..self.clone() })
    }
}

/// Leaves only the type of a tensor.
fn forget_shape(info: &mut tract_onnx::pb::ValueInfoProto) {
    use tract_onnx::pb::type_proto::Value;
    if let Some(Value::TensorType(tensor)) = info.r#type.as_mut().and_then(|kind| kind.value.as_mut()) {
        tensor.shape = None;
    }
}
