//! Tensors inside a file as outputs of their own, so that one can see where a run leaves the truth.

use std::collections::HashSet;

use anyhow::Result;
use prost::Message;
use tract_onnx::pb::ModelProto;
use tract_onnx::pb::tensor_proto::DataType;

use super::proto::{int, node, value_info};
use super::read::OnnxFile;
use crate::contract::{Element, Output, OutputKind, TensorInfo};

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
        let mut contract = self.contract.clone();
        for tensor in tensors {
            let mut name = format!("{tensor}{SUFFIX}");
            while !taken.insert(name.clone()) {
                name.push('_');
            }
            graph.node.push(node(&name, "Cast", &[tensor], &name, vec![int("to", DataType::Float as i64)]));
            let tensor = TensorInfo { name, element: Element::Float32, dims: Vec::new() };
            graph.output.push(value_info(&tensor));
            contract.outputs.push(Output { tensor, kind: OutputKind::Embedding });
        }
        let bytes = model.encode_to_vec();
        Ok(Self { bytes, contract, model, ..self.clone() })
    }
}
