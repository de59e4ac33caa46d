//! Makes tensors inside a file further outputs, to find the node at which a run leaves the reference.

use anyhow::Result;
use prost::Message;
use tract_onnx::pb::ModelProto;
use tract_onnx::pb::tensor_proto::DataType;

use super::names::Names;
use super::proto::{int, node, value_info};
use super::read::OnnxFile;
use crate::contract::{Element, Output, OutputKind, TensorInfo};

/// The last part of the name of an exposed tensor's output.
const SUFFIX: &str = "exposed";

impl OnnxFile {
    /// Returns the same file with the given tensors as further float32 outputs after its own, in that order. A
    /// runtime can then no longer fuse the nodes before and after such a tensor.
    ///
    /// # Errors
    /// If the file's bytes cannot be decoded again.
    pub fn exposing(&self, tensors: &[&str]) -> Result<Self> {
        let mut model = ModelProto::decode(self.bytes.as_slice())?;
        let Some(graph) = model.graph.as_mut() else { return Ok(self.clone()) };
        let mut names = Names::of(graph);
        let mut contract = self.contract.clone();
        for tensor in tensors {
            let name = names.fresh(tensor, SUFFIX);
            graph.node.push(node(&name, "Cast", &[tensor], &name, vec![int("to", DataType::Float as i64)]));
            let tensor = TensorInfo { name, element: Element::Float32, dims: Vec::new() };
            graph.output.push(value_info(&tensor));
            contract.outputs.push(Output { tensor, kind: OutputKind::Embedding });
        }
        let bytes = model.encode_to_vec();
        Ok(Self { bytes, contract, model, ..self.clone() })
    }
}
