//! Layers, shapes, parameters and MACs, of a graph and of an ONNX file.

use std::collections::{HashMap, HashSet};

use serde::Serialize;
use tract_onnx::pb::tensor_proto::DataType;
use tract_onnx::pb::{GraphProto, NodeProto, TensorProto};

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
    ///
    /// Parameters are stored numbers that nodes compute with, in whatever type they are stored, each counted at the node
    /// that first computes with it. Running statistics, the bounds of Clip, and the scales and zero points of
    /// quantisation are not parameters.
    pub fn rows(&self, shapes: &HashMap<String, Vec<usize>>) -> Vec<LayerRow> {
        let Some(graph) = &self.model.graph else { return Vec::new() };
        let stored = Stored::of(graph);
        let mut counted = HashSet::new();
        let rows = graph.node.iter().map(|node| {
            let shape = node.output.first().and_then(|output| shapes.get(output));
            let read =
                node.input.iter().enumerate().filter(|(place, _)| computes_with(&node.op_type, *place));
            let params = read
                .filter_map(|(_, input)| match node.op_type.as_str() {
                    "QLinearConv" | "QLinearMatMul" | "ConvInteger" | "MatMulInteger" => {
                        stored.integers(input)
                    }
                    _ => stored.weight(input),
                })
                .filter(|weight| counted.insert(std::ptr::from_ref::<TensorProto>(weight)))
                .map(|weight| elements(&weight.dims))
                .sum();
            LayerRow {
                name: if node.name.is_empty() { node.output.join(",") } else { node.name.clone() },
                op: node.op_type.clone(),
                shape: shape.map(|shape| shape.iter().skip(1).copied().collect()),
                params,
                macs: macs(node, shape, &stored),
            }
        });
        rows.collect()
    }
}

/// Operators through which a stored weight may pass before a node computes with it.
const PASSES: [&str; 8] = [
    "Cast",
    "Identity",
    "QuantizeLinear",
    "DequantizeLinear",
    "Transpose",
    "Reshape",
    "Squeeze",
    "Unsqueeze",
];

/// Whether a node computes with what it reads at a place, if that is stored in the file.
fn computes_with(op: &str, place: usize) -> bool {
    match op {
        "BatchNormalization" => place < 3,
        "Clip" => false,
        "QLinearConv" => place == 3 || place == 8,
        "QLinearMatMul" => place == 3,
        "ConvInteger" | "MatMulInteger" => place == 1,
        op => !PASSES.contains(&op),
    }
}

/// The numbers that a file stores, by the names of tensors, and the nodes they pass through.
struct Stored<'a> {
    tensors: HashMap<&'a str, &'a TensorProto>,
    passes: HashMap<&'a str, &'a NodeProto>,
}

impl<'a> Stored<'a> {
    fn of(graph: &'a GraphProto) -> Self {
        let initializers = graph.initializer.iter().map(|tensor| (tensor.name.as_str(), tensor));
        // Some exporters write weights as nodes.
        let constants = graph.node.iter().filter(|node| node.op_type == "Constant").filter_map(|node| {
            let value = node.attribute.iter().find(|attribute| attribute.name == "value")?;
            Some((node.output.first()?.as_str(), value.t.as_ref()?))
        });
        let tensors = initializers.chain(constants);
        let passes = graph.node.iter().filter(|node| PASSES.contains(&node.op_type.as_str()));
        let passes = passes.filter_map(|node| Some((node.output.first()?.as_str(), node)));
        Self { tensors: tensors.collect(), passes: passes.collect() }
    }

    /// The weight in an input: floats, or integers that a node turns into floats.
    fn weight(&self, input: &str) -> Option<&'a TensorProto> {
        let (mut name, mut scaled) = (input, false);
        // A file whose nodes are in order has no cycle; this also holds for one that was not checked.
        for _ in 0..=self.passes.len() {
            if let Some(&tensor) = self.tensors.get(name) {
                let quantised = matches!(tensor.data_type, INT8 | UINT8 | INT16 | UINT16 | INT32);
                return (is_float(tensor.data_type) || (scaled && quantised)).then_some(tensor);
            }
            let node = self.passes.get(name)?;
            scaled |= node.op_type == "DequantizeLinear";
            name = node.input.first()?;
        }
        None
    }

    /// The weight in an input of an operator on integers.
    fn integers(&self, input: &str) -> Option<&'a TensorProto> {
        self.tensors.get(input).copied()
    }
}

const INT8: i32 = DataType::Int8 as i32;
const UINT8: i32 = DataType::Uint8 as i32;
const INT16: i32 = DataType::Int16 as i32;
const UINT16: i32 = DataType::Uint16 as i32;
const INT32: i32 = DataType::Int32 as i32;

fn elements(dims: &[i64]) -> u64 {
    dims.iter().map(|&dim| dim.max(0) as u64).fold(1, u64::saturating_mul)
}

/// Multiply-accumulates for one image: the number of outputs times the length of each output's sum.
fn macs(node: &NodeProto, shape: Option<&Vec<usize>>, stored: &Stored<'_>) -> Option<u64> {
    let at = |place: usize| node.input.get(place);
    let weight = match node.op_type.as_str() {
        "Conv" | "Gemm" | "MatMul" => at(1).and_then(|name| stored.weight(name)),
        "ConvInteger" | "MatMulInteger" => at(1).and_then(|name| stored.integers(name)),
        "QLinearConv" | "QLinearMatMul" => at(3).and_then(|name| stored.integers(name)),
        _ => return Some(0),
    };
    let outputs = |shape: &Vec<usize>| shape.iter().map(|&dim| dim as u64).fold(1, u64::saturating_mul);
    // A product of two tensors that depend on the image has no weight.
    let Some(dims) = weight.map(|weight| weight.dims.as_slice()) else { return Some(0) };
    let shape = shape?;
    let sum = if node.op_type.contains("Conv") {
        elements(dims.get(1..).unwrap_or_default())
    } else {
        elements(dims) / (*shape.last()? as u64).max(1)
    };
    Some(outputs(shape).saturating_mul(sum))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use prost::Message;
    use tract_onnx::pb::{ModelProto, OperatorSetIdProto};

    use super::super::proto::{floats, int, node, value_info};
    use super::*;
    use crate::contract::TensorInfo;

    fn stored(name: &str, kind: i32, dims: &[i64]) -> TensorProto {
        let bytes = match kind {
            INT8 => 1,
            INT32 => 4,
            _ => 2,
        };
        let raw_data = vec![0; elements(dims) as usize * bytes];
        TensorProto {
            name: name.into(),
            dims: dims.to_vec(),
            data_type: kind,
            raw_data,
            ..Default::default()
        }
    }

    /// Parameters and MACs of a network of one convolution, in whatever type its weights are stored.
    #[test]
    fn weights_count_in_any_type_and_scales_do_not() {
        let half = DataType::Float16 as i32;
        let scalar = |name: &str| floats(name, &ndarray::ArrayD::from_elem(vec![], 0.5));
        let conv = |weight: &str, bias: &str| node("conv", "Conv", &["image", weight, bias], "y", vec![]);
        let quantised = vec![
            node("dq", "DequantizeLinear", &["w", "scale"], "weight", vec![]),
            node("dq2", "DequantizeLinear", &["b", "scale"], "bias", vec![]),
            conv("weight", "bias"),
        ];
        let cast = vec![
            node("cast", "Cast", &["w"], "weight", vec![int("to", 1)]),
            node("cast2", "Cast", &["b"], "bias", vec![int("to", 1)]),
            conv("weight", "bias"),
        ];
        let integers = NodeProto {
            input: ["image", "scale", "zero", "w", "scale", "zero", "scale", "zero", "b"]
                .map(String::from)
                .to_vec(),
            ..node("conv", "QLinearConv", &[], "y", vec![])
        };
        let shapes = HashMap::from([("y".to_string(), vec![1, 4, 6, 6])]);
        for (nodes, weight, bias) in
            [(quantised, INT8, INT32), (cast, half, half), (vec![integers], INT8, INT32)]
        {
            let op = nodes[nodes.len() - 1].op_type.clone();
            let graph = GraphProto {
                node: nodes,
                initializer: vec![
                    stored("w", weight, &[4, 3, 3, 3]),
                    stored("b", bias, &[4]),
                    scalar("scale"),
                    stored("zero", INT8, &[]),
                ],
                input: vec![value_info(&TensorInfo::batched("image", &[3, 8, 8]))],
                output: vec![value_info(&TensorInfo::batched("y", &[4, 6, 6]))],
                ..GraphProto::default()
            };
            let opset = OperatorSetIdProto { domain: String::new(), version: 17 };
            let model = ModelProto {
                ir_version: 8,
                opset_import: vec![opset],
                graph: Some(graph),
                ..Default::default()
            };
            let file = OnnxFile::from_bytes(model.encode_to_vec(), Path::new("m.onnx")).unwrap();
            let rows = file.rows(&shapes);
            assert_eq!(rows.last().unwrap().params, 4 * 27 + 4, "{op}");
            assert_eq!(Totals::of(&rows), Totals { params: 112, macs: 4 * 36 * 27 }, "{op}");
        }
    }
}
