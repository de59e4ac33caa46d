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

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::path::Path;

    use tract_onnx::pb::{GraphProto, OperatorSetIdProto};

    use super::*;

    /// ONNX Runtime refuses two nodes of the same name, also where a file's own nodes are called as added ones would be.
    #[test]
    fn added_nodes_have_names_of_their_own() {
        let graph = GraphProto {
            node: vec![
                node("x.exposed", "Relu", &["image"], "x", vec![]),
                node("x.flat", "Relu", &["x"], "y", vec![]),
                node("x.float32", "Relu", &["y"], "logits", vec![]),
            ],
            input: vec![value_info(&TensorInfo::batched("image", &[3, 6, 6]))],
            output: vec![value_info(&TensorInfo::batched("logits", &[3, 6, 6]))],
            ..GraphProto::default()
        };
        let opset = OperatorSetIdProto { domain: String::new(), version: 17 };
        let model = ModelProto {
            ir_version: 8,
            opset_import: vec![opset],
            graph: Some(graph),
            ..ModelProto::default()
        };
        let file = OnnxFile::from_bytes(model.encode_to_vec(), Path::new("m.onnx")).unwrap();
        let names = |file: OnnxFile| -> Vec<String> {
            ModelProto::decode(file.bytes.as_slice())
                .unwrap()
                .graph
                .unwrap()
                .node
                .into_iter()
                .map(|node| node.name)
                .collect()
        };
        for (changed, nodes) in [
            (names(file.exposing(&["x"]).unwrap()), 4),
            // What the cut leaves out has no name any more; `x.exposed` is still there.
            (names(file.cut_after("y", 108).unwrap().exposing(&["x"]).unwrap()), 5),
            (names(file.cut_after("logits", 108).unwrap()), 5),
        ] {
            let distinct: HashSet<&String> = changed.iter().collect();
            assert_eq!((changed.len(), distinct.len()), (nodes, nodes), "{changed:?}");
        }
    }
}
