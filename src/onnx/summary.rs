//! Layers, shapes, parameters and MACs, of a graph and of an ONNX file.

use std::collections::{HashMap, HashSet};

use serde::Serialize;
use tract_onnx::pb::NodeProto;

use crate::graph::{Graph, layer_costs};

use super::read::OnnxFile;
use super::tensor::is_float;

/// One layer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LayerRow {
    pub name: String,
    pub op: String,
    /// Shape for one image, without the batch; `None` where it could not be inferred.
    pub shape: Option<Vec<usize>>,
    pub params: u64,
    /// Multiply-accumulates for one image; `None` where the shape is unknown.
    pub macs: Option<u64>,
}

/// Sums over all layers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Totals {
    pub params: u64,
    pub macs: u64,
}

impl Totals {
    pub fn of(rows: &[LayerRow]) -> Self {
        Self {
            params: rows.iter().map(|row| row.params).sum(),
            macs: rows.iter().filter_map(|row| row.macs).sum(),
        }
    }
}

/// What an ONNX file says about itself.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Summary {
    pub producer: String,
    pub ir_version: i64,
    pub opset: i64,
    pub bytes: u64,
}

/// The rows of a graph.
pub fn graph_rows(graph: &Graph) -> Vec<LayerRow> {
    let nodes = graph.nodes().iter().zip(layer_costs(graph));
    let rows = nodes.map(|(node, cost)| LayerRow {
        name: node.name.clone(),
        op: node.op.kind().to_string(),
        shape: Some(node.shape.clone()),
        params: cost.params,
        macs: Some(cost.macs),
    });
    rows.collect()
}

impl OnnxFile {
    pub fn summary(&self) -> Summary {
        let opset = self.model.opset_import.iter().find(|set| matches!(set.domain.as_str(), "" | "ai.onnx"));
        let producer = format!("{} {}", self.model.producer_name, self.model.producer_version);
        Summary {
            producer: producer.trim().to_string(),
            ir_version: self.model.ir_version,
            opset: opset.map_or(0, |set| set.version),
            bytes: self.size_bytes(),
        }
    }

    /// Shape of the weight of the convolution that a tensor comes from, `[out_channels, in_channels / groups,
    /// height, width]`; only nodes that keep the tensor's shape may lie in between.
    pub fn convolution_behind(&self, tensor: &str) -> Option<&[i64]> {
        let graph = self.model.graph.as_ref()?;
        let mut tensor = tensor;
        // A graph that a runtime has accepted has no cycles; this also holds for one that none has seen.
        for _ in 0..graph.node.len() {
            let node =
                graph.node.iter().find(|node| node.output.first().is_some_and(|output| output == tensor))?;
            match node.op_type.as_str() {
                "Conv" => {
                    let weight = node.input.get(1)?;
                    let weight = graph.initializer.iter().find(|initializer| initializer.name == *weight)?;
                    return Some(&weight.dims);
                }
                "BatchNormalization" | "Relu" | "Clip" | "LeakyRelu" | "Sigmoid" | "HardSigmoid" | "Tanh"
                | "Add" => {
                    tensor = node.input.first()?;
                }
                _ => return None,
            }
        }
        None
    }

    /// The file's nodes. `shapes` has tensor shapes by name for a batch of one, including the batch.
    /// Parameters are float initializers, each counted where it is first read; running statistics and the
    /// bounds of Clip are not parameters.
    pub fn rows(&self, shapes: &HashMap<String, Vec<usize>>) -> Vec<LayerRow> {
        let Some(graph) = &self.model.graph else { return Vec::new() };
        let sizes: HashMap<&str, &[i64]> = graph
            .initializer
            .iter()
            .filter(|tensor| is_float(tensor.data_type))
            .map(|tensor| (tensor.name.as_str(), tensor.dims.as_slice()))
            .collect();
        let mut counted = HashSet::new();
        let rows = graph.node.iter().map(|node| {
            let shape = node.output.first().and_then(|output| shapes.get(output));
            let read = node.input.iter().enumerate().filter(|(place, _)| match node.op_type.as_str() {
                "BatchNormalization" => *place < 3,
                "Clip" => false,
                _ => true,
            });
            let params = read
                .filter(|(_, input)| counted.insert(input.as_str()))
                .filter_map(|(_, input)| sizes.get(input.as_str()))
                .map(|dims| elements(dims))
                .sum();
            LayerRow {
                name: if node.name.is_empty() { node.output.join(",") } else { node.name.clone() },
                op: node.op_type.clone(),
                shape: shape.map(|shape| shape.iter().skip(1).copied().collect()),
                params,
                macs: macs(node, shape, &sizes),
            }
        });
        rows.collect()
    }
}

fn elements(dims: &[i64]) -> u64 {
    dims.iter().map(|&dim| dim.max(0) as u64).product()
}

/// Multiply-accumulates for one image: the number of outputs times the length of each output's sum.
fn macs(node: &NodeProto, shape: Option<&Vec<usize>>, sizes: &HashMap<&str, &[i64]>) -> Option<u64> {
    let weight = node.input.get(1).and_then(|name| sizes.get(name.as_str()));
    let outputs = |shape: &Vec<usize>| shape.iter().map(|&dim| dim as u64).product::<u64>();
    match (node.op_type.as_str(), weight) {
        ("Conv", Some(dims)) => Some(outputs(shape?) * elements(&dims[1..])),
        ("Gemm" | "MatMul", Some(dims)) => {
            let shape = shape?;
            let last = *shape.last()? as u64;
            Some(outputs(shape) * (elements(dims) / last.max(1)))
        }
        _ => Some(0),
    }
}
