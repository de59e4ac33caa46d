//! Shortens a file's graph so that one of its inner tensors is the only output.

use std::collections::HashSet;

use tract_onnx::pb::GraphProto;
use tract_onnx::pb::tensor_proto::DataType;

use super::names::Names;
use super::proto::{int, node, value_info};
use crate::contract::{Dim, Element, TensorInfo};

/// Makes a tensor the graph's only output, as float32 `[batch, values]`, and leaves out what it does not need.
pub fn cut_after(graph: &mut GraphProto, tensor: &str, batch: &Dim, values: usize) {
    keep_only(graph, HashSet::from([tensor.to_string()]));
    let mut names = Names::of(graph);
    let (flat, output) = (names.fresh(tensor, "flat"), names.fresh(tensor, "float32"));
    // The tensor may be of half precision, and may have more axes than two.
    graph.node.push(node(&flat, "Flatten", &[tensor], &flat, vec![int("axis", 1)]));
    graph.node.push(node(&output, "Cast", &[&flat], &output, vec![int("to", DataType::Float as i64)]));
    graph.value_info.clear();
    let dims = vec![batch.clone(), Dim::Fixed(values)];
    graph.output = vec![value_info(&TensorInfo { name: output, element: Element::Float32, dims })];
}

/// Leaves out nodes and initializers that none of the given tensors needs.
pub fn keep_only(graph: &mut GraphProto, mut needed: HashSet<String>) {
    let mut keep = vec![false; graph.node.len()];
    for (place, node) in graph.node.iter().enumerate().rev() {
        if node.output.iter().any(|output| needed.contains(output)) {
            keep[place] = true;
            needed.extend(node.input.iter().cloned());
        }
    }
    let mut keep = keep.into_iter();
    graph.node.retain(|_| keep.next().unwrap_or(true));
    graph.initializer.retain(|initializer| needed.contains(&initializer.name));
}
