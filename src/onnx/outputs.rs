//! What the outputs of a file are, as far as its last nodes tell.

use std::collections::HashMap;

use tract_onnx::pb::{GraphProto, NodeProto};

use crate::contract::{Contract, Output, OutputKind, TensorInfo};

/// Joins each output of a file with what it is: a softmax at its end is seen through what keeps its values; a second
/// output that is called `embedding` is one; everything else is taken for logits. Import, which follows every node,
/// knows better.
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
    // Nodes stand in order, so this ends.
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
