//! Writes a graph and its weights as an ONNX file.

use std::collections::HashSet;

use anyhow::{Context, Result};
use ndarray::{Axis, IxDyn};
use prost::Message;
use tract_onnx::pb::tensor_proto::DataType;
use tract_onnx::pb::{GraphProto, ModelProto, NodeProto, OperatorSetIdProto, TensorProto};

use crate::contract::{Contract, Precision, TensorInfo};
use crate::graph::{Binary, Graph, Model, Node, NodeId, Op, Quantize, Resize, Unary, Weights, node_params};

use super::attributes::{
    OPSET, batched_axes, binary, is_exact, pads, pair, resize_attributes, resize_scales, unary, window,
};
use super::half::weights_in_half;
use super::idioms::{conditions, hard_swish_gates, numbers};
use super::interface::{self, graph_outputs};
use super::metadata::Metadata;
use super::proto::{booleans, eight_bits, float, floats, indices, int, ints, node, value_info};

/// IR version of emitted files, which belongs to that operator set.
pub const IR_VERSION: i64 = 8;

/// Writes a model as an ONNX file with the interface of a contract; nodes and inner tensors carry the graph's names.
///
/// # Errors
/// [`crate::error::InputError`] if the contract asks for a precision that cannot be written; other errors if a
/// weight does not fit that precision, or if the contract's image or outputs are not the model's.
pub fn emit(model: &Model, contract: &Contract, metadata: Option<&Metadata>) -> Result<Vec<u8>> {
    contract.precision.check_writable()?;
    let (graph, weights) = (model.graph(), model.weights());
    let outputs = graph_outputs(graph, contract)?;
    let half = contract.precision == Precision::Float16;
    let mut emitter = Emitter {
        graph,
        weights,
        half,
        gates: hard_swish_gates(graph),
        numbers: numbers(graph),
        conditions: conditions(graph),
        varying: varying(graph),
        nodes: Vec::new(),
        initializers: Vec::new(),
    };
    for (index, node) in graph.nodes().iter().enumerate().skip(1) {
        emitter.node(graph.id(index), node)?;
    }
    let (mut plain, mut shapes) = (Vec::new(), Vec::new());
    for (name, id) in outputs {
        emitter.nodes.push(node(&format!("{name}.output"), "Identity", &[emitter.tensor(id)], name, vec![]));
        plain.push(value_info(&TensorInfo::batched(name, &graph.node(id).shape)));
        shapes.push(&graph.node(id).shape);
    }
    let (nodes, initializers) = (emitter.nodes, emitter.initializers);
    let mut graph_proto = GraphProto {
        name: metadata.map_or("network", |metadata| &metadata.student).to_string(),
        node: without_identities(nodes),
        initializer: initializers,
        input: vec![value_info(&TensorInfo::batched(&graph.nodes()[0].name, graph.input_shape()))],
        output: plain,
        ..GraphProto::default()
    };
    if half {
        weights_in_half(&mut graph_proto)?;
    }
    interface::keep(&mut graph_proto, contract, graph.input_shape(), &shapes)?;
    let proto = ModelProto {
        ir_version: IR_VERSION,
        opset_import: vec![OperatorSetIdProto { domain: String::new(), version: OPSET }],
        producer_name: env!("CARGO_PKG_NAME").into(),
        producer_version: env!("CARGO_PKG_VERSION").into(),
        graph: Some(graph_proto),
        metadata_props: metadata.map_or(Ok(Vec::new()), Metadata::to_props)?,
        ..ModelProto::default()
    };
    Ok(proto.encode_to_vec())
}

struct Emitter<'a> {
    graph: &'a Graph,
    weights: &'a Weights,
    half: bool,
    /// Nodes that are written as part of the product after them.
    gates: HashSet<NodeId>,
    /// Constants that are written as scalars.
    numbers: HashSet<NodeId>,
    /// Constants that are written as booleans.
    conditions: HashSet<NodeId>,
    /// For each node, whether its value differs from image to image.
    varying: Vec<bool>,
    nodes: Vec<NodeProto>,
    initializers: Vec<TensorProto>,
}

impl<'a> Emitter<'a> {
    /// The tensor that holds a node's value, which has the node's name.
    fn tensor(&self, id: NodeId) -> &'a str {
        &self.graph.node(id).name
    }

    fn node(&mut self, id: NodeId, written: &Node) -> Result<()> {
        if self.gates.contains(&id) {
            return Ok(());
        }
        let name = &written.name;
        let mut inputs: Vec<String> = written.inputs.iter().map(|id| self.tensor(*id).to_string()).collect();
        // tract reads a Gemm of float16 as one of float32.
        if let Op::Linear { .. } = written.op
            && (written.shape.len() > 1 || self.half)
        {
            return self.linear(written, &inputs[0]);
        }
        if written.inputs.iter().any(|input| self.gates.contains(input)) {
            self.nodes.push(node(name, "HardSwish", &[&inputs[0]], name, vec![]));
            return Ok(());
        }
        for spec in node_params(self.graph, written) {
            let array = self.weights.get(&spec.name).context("weights were checked to fit")?;
            self.initializers.push(floats(&spec.name, array));
            inputs.push(spec.name);
        }
        let (op, attributes) = match &written.op {
            Op::Input { .. } => return Ok(()),
            Op::Constant { values } => {
                let written = if self.numbers.contains(&id) {
                    values.to_shape(IxDyn(&[]))?.into_owned()
                } else {
                    values.clone().insert_axis(Axis(0))
                };
                self.initializers.push(match self.conditions.contains(&id) {
                    true => booleans(name, &written),
                    false => floats(name, &written),
                });
                return Ok(());
            }
            Op::Conv2d(conv) => (
                "Conv",
                vec![
                    pair("kernel_shape", conv.kernel),
                    pair("strides", conv.stride),
                    pads(conv.padding),
                    pair("dilations", conv.dilation),
                    int("group", conv.groups as i64),
                ],
            ),
            Op::BatchNorm { eps, momentum } => {
                ("BatchNormalization", vec![float("epsilon", *eps), float("momentum", 1.0 - momentum)])
            }
            Op::Relu => ("Relu", vec![]),
            Op::Clip { min, max } => {
                for (suffix, bound) in [("min", *min), ("max", *max)] {
                    let bound_name = format!("{name}.{suffix}");
                    let scalar = ndarray::ArrayD::from_elem(vec![], bound as f32);
                    self.initializers.push(floats(&bound_name, &scalar));
                    inputs.push(bound_name);
                }
                ("Clip", vec![])
            }
            Op::MaxPool(pool) => ("MaxPool", window(pool)),
            Op::AvgPool { pool, count_include_pad } => {
                let mut attributes = window(pool);
                attributes.push(int("count_include_pad", i64::from(*count_include_pad)));
                ("AveragePool", attributes)
            }
            Op::GlobalAvgPool => ("GlobalAveragePool", vec![]),
            Op::Flatten => ("Flatten", vec![int("axis", 1)]),
            Op::Linear { .. } => ("Gemm", vec![int("transB", 1)]),
            Op::Add => return self.add(name, &inputs),
            Op::Concat { axis } => {
                self.spread_constants(written, &mut inputs);
                ("Concat", vec![int("axis", *axis as i64 + 1)])
            }
            Op::Slice { axis, start, end, step } => {
                let mut operands = vec![("starts", *start), ("ends", *end), ("axes", axis + 1)];
                if *step > 1 {
                    operands.push(("steps", *step));
                }
                for (suffix, value) in operands {
                    self.index(&mut inputs, name, suffix, &[value as i64]);
                }
                ("Slice", vec![])
            }
            Op::ChannelShuffle { groups } => return self.shuffle(id, *groups, &inputs[0]),
            Op::Unary(Unary::Not) => {
                let condition = self.condition(written, 0, "condition");
                self.truth(name, "Not", &[&condition]);
                return Ok(());
            }
            Op::Binary(function @ (Binary::And | Binary::Or)) => {
                let both = [self.condition(written, 0, "first"), self.condition(written, 1, "second")];
                self.truth(name, binary(*function), &[&both[0], &both[1]]);
                return Ok(());
            }
            Op::Binary(function @ (Binary::Equal | Binary::Less | Binary::LessOrEqual)) => {
                self.truth(name, binary(*function), &[&inputs[0], &inputs[1]]);
                return Ok(());
            }
            Op::Unary(function) => unary(*function),
            Op::Binary(function) => (binary(*function), vec![]),
            Op::Where => {
                inputs[0] = self.condition(written, 0, "condition");
                ("Where", vec![])
            }
            Op::Softmax { axis } => ("Softmax", vec![int("axis", *axis as i64 + 1)]),
            Op::LayerNorm { axes, eps } => {
                ("LayerNormalization", vec![int("axis", -(*axes as i64)), float("epsilon", *eps)])
            }
            Op::InstanceNorm { eps } => ("InstanceNormalization", vec![float("epsilon", *eps)]),
            Op::Resize(resize) => {
                let [_, height, width] = *self.graph.input_shapes(written)[0].as_slice() else {
                    anyhow::bail!("node '{name}' resizes something that is not an image")
                };
                self.resize_to(name, &mut inputs, resize, [height, width])?;
                ("Resize", resize_attributes(resize)?)
            }
            Op::QuantizeDequantize(quantize) => return self.quantize(name, quantize, &inputs[0]),
            Op::Max { axes } => ("ReduceMax", vec![ints("axes", batched_axes(axes)), int("keepdims", 1)]),
            Op::Mean { axes } => ("ReduceMean", vec![ints("axes", batched_axes(axes)), int("keepdims", 1)]),
            Op::Reshape { shape } => {
                let shape: Vec<i64> = std::iter::once(0).chain(shape.iter().map(|&dim| dim as i64)).collect();
                self.index(&mut inputs, name, "shape", &shape);
                ("Reshape", vec![])
            }
            Op::Transpose { order } => {
                ("Transpose", vec![ints("perm", std::iter::once(0).chain(batched_axes(order)))])
            }
            Op::Pad { before, after, value } => {
                let side = |side: &[usize]| -> Vec<i64> {
                    std::iter::once(0).chain(side.iter().map(|&size| size as i64)).collect()
                };
                self.index(&mut inputs, name, "pads", &[side(before), side(after)].concat());
                let value_name = format!("{name}.value");
                let value = ndarray::ArrayD::from_elem(vec![], *value as f32);
                self.initializers.push(floats(&value_name, &value));
                inputs.push(value_name);
                ("Pad", vec![])
            }
            Op::MatMul => ("MatMul", vec![]),
        };
        let inputs: Vec<&str> = inputs.iter().map(String::as_str).collect();
        self.nodes.push(node(name, op, &inputs, name, attributes));
        Ok(())
    }

    /// Adds the inputs of a Resize: its scales where these give the size, else the size, after those of the batch and the
    /// channels.
    fn resize_to(
        &mut self,
        name: &str,
        inputs: &mut Vec<String>,
        resize: &Resize,
        image: [usize; 2],
    ) -> Result<()> {
        // There is no region of interest.
        inputs.push(String::new());
        let exact = is_exact(resize, image);
        if let Some(scales) = resize_scales(resize, image, exact) {
            let scales_name = format!("{name}.scales");
            self.initializers.push(floats(&scales_name, &ndarray::ArrayD::from_shape_vec(vec![4], scales)?));
            inputs.push(scales_name);
            return Ok(());
        }
        anyhow::ensure!(exact, "node '{name}' has a scale that does not give its size");
        let sizes = self.shape_after(name, &inputs[0], 2, &resize.size);
        inputs.extend([String::new(), sizes]);
        Ok(())
    }

    /// Writes a shape that begins with the first lengths of a tensor and goes on with others, and returns its name.
    fn shape_after(&mut self, name: &str, tensor: &str, first: usize, rest: &[usize]) -> String {
        let part = |suffix: &str| format!("{name}.{suffix}");
        let [shape, images, sizes] = ["shape", "images", "sizes"].map(part);
        self.nodes.push(node(&shape, "Shape", &[tensor], &shape, vec![]));
        let mut slice = vec![shape];
        self.index(&mut slice, name, "first", &[0]);
        self.index(&mut slice, name, "second", &[first as i64]);
        let slice: Vec<&str> = slice.iter().map(String::as_str).collect();
        self.nodes.push(node(&images, "Slice", &slice, &images, vec![]));
        let mut joined = vec![images];
        self.index(&mut joined, name, "size", &rest.iter().map(|&size| size as i64).collect::<Vec<_>>());
        let joined: Vec<&str> = joined.iter().map(String::as_str).collect();
        self.nodes.push(node(&sizes, "Concat", &joined, &sizes, vec![int("axis", 0)]));
        sizes
    }

    /// Repeats what is the same for all images as often as there are images, where it is joined with what is not.
    fn spread_constants(&mut self, written: &Node, inputs: &mut [String]) {
        let varies = |input: &NodeId| self.varying[input.index()];
        let Some(image) = written.inputs.iter().position(varies) else { return };
        let image = inputs[image].clone();
        for (place, input) in written.inputs.iter().enumerate() {
            if self.varying[input.index()] {
                continue;
            }
            let name = format!("{}.{place}", written.name);
            let shape = self.shape_after(&name, &image, 1, &self.graph.node(*input).shape);
            self.nodes.push(node(&name, "Expand", &[&inputs[place], &shape], &name, vec![]));
            inputs[place] = name;
        }
    }

    /// Writes the two nodes of quantised values.
    fn quantize(&mut self, name: &str, quantize: &Quantize, input: &str) -> Result<()> {
        anyhow::ensure!(!self.half, "node '{name}' quantises, which is written in float32 only");
        let [scale, zero, quantized] =
            ["scale", "zero", "quantized"].map(|suffix| format!("{name}.{suffix}"));
        let dims = quantize.axis.map_or(Vec::new(), |_| vec![quantize.scales.len()]);
        self.initializers
            .push(floats(&scale, &ndarray::ArrayD::from_shape_vec(dims.clone(), quantize.scales.clone())?));
        self.initializers.push(eight_bits(&zero, &dims, &quantize.zeros, quantize.least < 0)?);
        let axis: Vec<_> = quantize.axis.map(|axis| int("axis", axis as i64 + 1)).into_iter().collect();
        self.nodes.push(node(
            &quantized,
            "QuantizeLinear",
            &[input, &scale, &zero],
            &quantized,
            axis.clone(),
        ));
        self.nodes.push(node(name, "DequantizeLinear", &[&quantized, &scale, &zero], name, axis));
        Ok(())
    }

    /// An input of a node as booleans: those are not 0.
    fn condition(&mut self, written: &Node, place: usize, suffix: &str) -> String {
        let input = written.inputs[place];
        if self.conditions.contains(&input) {
            return self.tensor(input).to_string();
        }
        let name = format!("{}.{suffix}", written.name);
        let to = int("to", DataType::Bool as i64);
        self.nodes.push(node(&name, "Cast", &[self.tensor(input)], &name, vec![to]));
        name
    }

    /// Writes a node that gives booleans, and turns them into numbers.
    fn truth(&mut self, name: &str, op: &str, inputs: &[&str]) {
        let truth = format!("{name}.truth");
        self.nodes.push(node(&truth, op, inputs, &truth, vec![]));
        let kind = if self.half { DataType::Float16 } else { DataType::Float };
        self.nodes.push(node(name, "Cast", &[&truth], name, vec![int("to", kind as i64)]));
    }

    /// Adds an initializer of indices as one more input of a node.
    fn index(&mut self, inputs: &mut Vec<String>, node: &str, suffix: &str, values: &[i64]) {
        let name = format!("{node}.{suffix}");
        self.initializers.push(indices(&name, values));
        inputs.push(name);
    }

    /// Writes a linear layer for which Gemm is not suitable, such as one over more than one axis: a matrix
    /// product and a sum.
    fn linear(&mut self, written: &Node, input: &str) -> Result<()> {
        let name = &written.name;
        let mut specs = node_params(self.graph, written).into_iter();
        let mut array = |emitter: &mut Self, transposed: bool| -> Result<Option<String>> {
            let Some(spec) = specs.next() else { return Ok(None) };
            let array = emitter.weights.get(&spec.name).context("weights were checked to fit")?;
            let array = if transposed { array.t() } else { array.view() };
            emitter.initializers.push(floats(&spec.name, &array.to_owned()));
            Ok(Some(spec.name))
        };
        let weight = array(self, true)?.context("a linear layer has a weight")?;
        match array(self, false)? {
            Some(bias) => {
                let product = format!("{name}.product");
                self.nodes.push(node(&product, "MatMul", &[input, &weight], &product, vec![]));
                self.nodes.push(node(name, "Add", &[&product, &bias], name, vec![]));
            }
            None => self.nodes.push(node(name, "MatMul", &[input, &weight], name, vec![])),
        }
        Ok(())
    }

    /// Writes a sum as a chain of two-input additions, which every runtime fuses.
    fn add(&mut self, name: &str, inputs: &[String]) -> Result<()> {
        let mut sum = inputs[0].clone();
        for (index, input) in inputs.iter().enumerate().skip(1) {
            let last = index + 1 == inputs.len();
            let to = if last { name.to_string() } else { format!("{name}.{index}") };
            self.nodes.push(node(&to, "Add", &[&sum, input], &to, vec![]));
            sum = to;
        }
        Ok(())
    }

    /// `[b, c, h, w]` viewed as `[b, groups, c / groups, h, w]`, with groups and channels swapped. Height and
    /// width stay axes of their own, because tract cannot move a stride through a Reshape that joins them.
    fn shuffle(&mut self, id: NodeId, groups: usize, input: &str) -> Result<()> {
        let written = self.graph.node(id);
        let [channels, height, width] = written.shape[..] else {
            anyhow::bail!("node '{}' shuffles channels of something that is not an image", written.name)
        };
        let name = &written.name;
        let names = ["grouped", "swapped", "grouped.shape", "shape"].map(|suffix| format!("{name}.{suffix}"));
        let [grouped, swapped, to_groups, back] = &names;
        let split = [0, groups as i64, (channels / groups) as i64, height as i64, width as i64];
        self.initializers.push(indices(to_groups, &split));
        self.initializers.push(indices(back, &[0, channels as i64, height as i64, width as i64]));
        self.nodes.push(node(grouped, "Reshape", &[input, to_groups], grouped, vec![]));
        self.nodes.push(node(swapped, "Transpose", &[grouped], swapped, vec![ints("perm", [0, 2, 1, 3, 4])]));
        self.nodes.push(node(name, "Reshape", &[swapped, back], name, vec![]));
        Ok(())
    }
}

/// For each node, whether its value differs from image to image.
fn varying(graph: &Graph) -> Vec<bool> {
    let mut varying: Vec<bool> = Vec::with_capacity(graph.nodes().len());
    for node in graph.nodes() {
        let reads = node.inputs.iter().any(|input| varying[input.index()]);
        varying.push(reads || matches!(node.op, Op::Input { .. }));
    }
    varying
}

/// If only an output's Identity reads a tensor, gives that tensor the output's name and drops the Identity.
fn without_identities(mut nodes: Vec<NodeProto>) -> Vec<NodeProto> {
    while let Some(place) = nodes.iter().position(|node| {
        node.op_type == "Identity" && reads(&nodes, &node.input[0]) == 1 && produced(&nodes, &node.input[0])
    }) {
        let identity = nodes.remove(place);
        let outputs = nodes.iter_mut().flat_map(|node| &mut node.output);
        outputs
            .filter(|output| **output == identity.input[0])
            .for_each(|output| output.clone_from(&identity.output[0]));
    }
    nodes
}

fn reads(nodes: &[NodeProto], tensor: &str) -> usize {
    nodes.iter().flat_map(|node| &node.input).filter(|input| *input == tensor).count()
}

fn produced(nodes: &[NodeProto], tensor: &str) -> bool {
    nodes.iter().flat_map(|node| &node.output).any(|output| output == tensor)
}
