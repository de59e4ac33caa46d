//! The kinds of a file's outputs, as far as its last nodes show them.

use std::collections::HashMap;

use tract_onnx::pb::{GraphProto, NodeProto};

use crate::contract::{Contract, Output, OutputKind, TensorInfo};

/// Pairs each output of a file with its kind: a final softmax is recognised through nodes that keep its values; a
/// second output called `embedding` is an embedding; everything else counts as logits. Import follows every node
/// and is more reliable.
pub fn outputs(graph: &GraphProto, tensors: Vec<TensorInfo>) -> Vec<Output> {
    let nodes: HashMap<&str, &NodeProto> = graph
        .node
        .iter()
        .flat_map(|node| node.output.iter().map(move |output| (output.as_str(), node)))
        .collect();
    let several = tensors.len() > 1;
    let kind = |name: &str| match several && name == Contract::EMBEDDING {
        true => OutputKind::Embedding,
        false => by_last_nodes(&nodes, name),
    };
    tensors.into_iter().map(|tensor| Output { kind: kind(&tensor.name), tensor }).collect()
}

fn by_last_nodes(nodes: &HashMap<&str, &NodeProto>, name: &str) -> OutputKind {
    let mut node = nodes.get(name);
    let mut logarithm = false;
    // Nodes are in order, so this terminates.
    while let Some(last) = node {
        match last.op_type.as_str() {
            "Softmax" if logarithm => return OutputKind::LogProbabilities,
            "Softmax" => return OutputKind::Probabilities,
            "LogSoftmax" if !logarithm => return OutputKind::LogProbabilities,
            "Log" if !logarithm => logarithm = true,
            "Identity" | "Cast" | "Flatten" | "Reshape" | "Squeeze" | "Unsqueeze" if !logarithm => {}
            _ => return OutputKind::Logits,
        }
        node = last.input.first().and_then(|input| nodes.get(input.as_str()));
    }
    OutputKind::Logits
}
