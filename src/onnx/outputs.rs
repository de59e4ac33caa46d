//! The outputs of a file that can be read, and what they mean, as far as its last nodes show it.
//!
//! Outputs that are not tensors of numbers (lists of maps, strings) are left out; where one is made from a tensor by ZipMap,
//! that tensor takes its place. Import follows every node and knows more.

use std::collections::{HashMap, HashSet};

use tract_onnx::pb::tensor_proto::DataType;
use tract_onnx::pb::type_proto::{Tensor, Value};
use tract_onnx::pb::{GraphProto, NodeProto, TypeProto, ValueInfoProto};

use super::cut::keep_only;
use super::inputs::{element, tensor_info, tensor_of};
use super::proto::value_info;
use super::tensor::type_name;
use crate::contract::{Contract, Element, Output, OutputKind, TensorInfo};
use crate::error::InputError;

/// An output that is left out, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeftOut {
    pub output: String,
    /// What it is.
    pub what: String,
    /// The tensor that takes its place, if there is one.
    pub instead: Option<String>,
}

/// What was read of a file's outputs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Readable {
    pub outputs: Vec<Output>,
    pub left_out: Vec<LeftOut>,
    /// Class names, where a ZipMap has them.
    pub classes: Vec<String>,
}

/// Reads the outputs, and removes from the graph those that cannot be read.
///
/// # Errors
/// [`InputError`] if there are none, or if none can be read.
pub fn readable(graph: &mut GraphProto) -> Result<Readable, InputError> {
    if graph.output.is_empty() {
        return Err(
            InputError::new("the graph has no output").hint("export the model with its scores as an output")
        );
    }
    let nodes = writers(graph);
    let (mut kept, mut infos) = (Vec::new(), Vec::new());
    let (mut left_out, mut instead, mut classes) = (Vec::new(), Vec::new(), Vec::new());
    for value in &graph.output {
        let writer = nodes.get(value.name.as_str()).copied();
        let zipped = writer.filter(|node| node.op_type == "ZipMap");
        if let Some(what) = unreadable(value, writer) {
            let tensor = zipped.and_then(|node| node.input.first()).cloned();
            classes.extend(zipped.iter().flat_map(|node| zip_map_classes(node)));
            instead.extend(tensor.clone());
            left_out.push(LeftOut { output: value.name.clone(), what, instead: tensor });
        } else if tensor_of(value).is_none_or(|tensor| tensor.elem_type == DataType::Undefined as i32) {
            // Its type follows from the nodes; engines get a cast, which is right for every type.
            let dims = tensor_of(value).and_then(|tensor| tensor.shape.clone());
            let element = element_by_last_nodes(&nodes, &value.name);
            let untyped = Tensor { elem_type: DataType::Undefined as i32, shape: dims.clone() };
            kept.push(with_type(&value.name, untyped));
            let typed = Tensor { elem_type: super::proto::data_type(element) as i32, shape: dims };
            infos.push(tensor_info(&with_type(&value.name, typed))?);
        } else {
            infos.push(tensor_info(value)?);
            kept.push(value.clone());
        }
    }
    for name in instead {
        if !kept.iter().any(|value| value.name == name) {
            let info = TensorInfo { name, element: Element::Float32, dims: Vec::new() };
            kept.push(value_info(&info));
            infos.push(info);
        }
    }
    if infos.is_empty() {
        return Err(nothing_readable(graph, &left_out, &nodes));
    }
    let outputs = outputs(&nodes, infos);
    let changed = kept != graph.output;
    if changed {
        let wanted: HashSet<String> = kept.iter().map(|value| value.name.clone()).collect();
        graph.output = kept;
        if !left_out.is_empty() {
            keep_only(graph, wanted);
        }
    }
    Ok(Readable { outputs, left_out, classes })
}

/// Which node writes each tensor.
fn writers(graph: &GraphProto) -> HashMap<&str, &NodeProto> {
    let written =
        graph.node.iter().flat_map(|node| node.output.iter().map(move |output| (output.as_str(), node)));
    written.collect()
}

fn with_type(name: &str, tensor: Tensor) -> ValueInfoProto {
    let kind = TypeProto { value: Some(Value::TensorType(tensor)), ..TypeProto::default() };
    ValueInfoProto { name: name.to_string(), r#type: Some(kind), ..ValueInfoProto::default() }
}

/// What an output is that cannot be read as a tensor of numbers.
fn unreadable(value: &ValueInfoProto, writer: Option<&NodeProto>) -> Option<String> {
    if let Some(tensor) = tensor_of(value) {
        let undeclared = tensor.elem_type == DataType::Undefined as i32;
        let readable = undeclared || element(tensor.elem_type).is_some();
        return (!readable).then(|| format!("a tensor of type {}", type_name(tensor.elem_type)));
    }
    match writer.map(|node| node.op_type.as_str()) {
        Some("ZipMap") => Some("a list of maps from classes to scores (ZipMap)".into()),
        Some(op) if op.starts_with("Sequence") || op.starts_with("Optional") => {
            Some(format!("no tensor ({op})"))
        }
        Some("SplitToSequence" | "ConcatFromSequence") => Some("a sequence of tensors".into()),
        Some(_) | None => None,
    }
}

fn zip_map_classes(node: &NodeProto) -> Vec<String> {
    let named = |name: &str| node.attribute.iter().find(|attribute| attribute.name == name);
    if let Some(strings) = named("classlabels_strings") {
        return strings.strings.iter().map(|name| String::from_utf8_lossy(name).into_owned()).collect();
    }
    named("classlabels_int64s")
        .map_or(Vec::new(), |numbers| numbers.ints.iter().map(i64::to_string).collect())
}

fn nothing_readable(
    graph: &GraphProto,
    left_out: &[LeftOut],
    nodes: &HashMap<&str, &NodeProto>,
) -> InputError {
    let told: Vec<String> =
        left_out.iter().map(|left| format!("'{}' is {}", left.output, left.what)).collect();
    let before = graph.output.first().and_then(|output| nodes.get(output.name.as_str()));
    let before = before.and_then(|node| node.input.first()).map_or("the scores", String::as_str);
    InputError::new(format!("no output is a tensor of numbers: {}", told.join(", "))).hint(format!(
        "cut the graph at the tensor with the scores, such as '{before}': \
         onnx.utils.extract_model(model, cut, [input], [tensor])"
    ))
}

/// Pairs each output of a file with its kind: a final softmax or ArgMax is recognised through nodes that keep its
/// values; a second output called `embedding` is an embedding; everything else counts as logits.
fn outputs(nodes: &HashMap<&str, &NodeProto>, tensors: Vec<TensorInfo>) -> Vec<Output> {
    let several = tensors.len() > 1;
    let kind = |name: &str| match several && name == Contract::EMBEDDING {
        true => OutputKind::Embedding,
        false => by_last_nodes(nodes, name),
    };
    tensors.into_iter().map(|tensor| Output { kind: kind(&tensor.name), tensor }).collect()
}

fn by_last_nodes(nodes: &HashMap<&str, &NodeProto>, name: &str) -> OutputKind {
    let Some(last) = last_that_changes(nodes, name) else { return OutputKind::Logits };
    match last.op_type.as_str() {
        "Softmax" => OutputKind::Probabilities,
        "LogSoftmax" => OutputKind::LogProbabilities,
        "ArgMax" => OutputKind::Decision,
        "Log" => match last.input.first().and_then(|input| nodes.get(input.as_str())) {
            Some(before) if before.op_type == "Softmax" => OutputKind::LogProbabilities,
            Some(_) | None => OutputKind::Logits,
        },
        _ => OutputKind::Logits,
    }
}

/// Operators after which the values of their first input are still there, in order.
const KEEPS_VALUES: [&str; 6] = ["Identity", "Cast", "Flatten", "Reshape", "Squeeze", "Unsqueeze"];

/// The nodes behind a tensor that keep its values, from the last one backwards, and the one before them.
fn backwards<'a>(nodes: &'a HashMap<&str, &'a NodeProto>, name: &str) -> impl Iterator<Item = &'a NodeProto> {
    let first = nodes.get(name).copied();
    // Nodes are in order, so this terminates.
    std::iter::successors(first, |node| {
        let keeps = KEEPS_VALUES.contains(&node.op_type.as_str());
        node.input.first().filter(|_| keeps).and_then(|input| nodes.get(input.as_str())).copied()
    })
}

/// The last node that makes the values of a tensor.
fn last_that_changes<'a>(nodes: &'a HashMap<&str, &'a NodeProto>, name: &str) -> Option<&'a NodeProto> {
    backwards(nodes, name).find(|node| !KEEPS_VALUES.contains(&node.op_type.as_str()))
}

/// The tensor from which the ArgMax at the end of an output takes its class; `None` if it does not run over the classes of
/// each image.
pub fn before_argmax(graph: &GraphProto, output: &str) -> Option<String> {
    let nodes = writers(graph);
    let node = last_that_changes(&nodes, output).filter(|node| node.op_type == "ArgMax")?;
    // Its default axis is the batch.
    let axis = node.attribute.iter().find(|attribute| attribute.name == "axis").map_or(0, |axis| axis.i);
    node.input.first().filter(|_| axis != 0).cloned()
}

/// The type of an output that declares none: integers after an ArgMax or a Cast to them, else float32.
fn element_by_last_nodes(nodes: &HashMap<&str, &NodeProto>, name: &str) -> Element {
    for node in backwards(nodes, name) {
        match node.op_type.as_str() {
            "ArgMax" | "ArgMin" => return Element::Integer { least: i64::MIN, most: i64::MAX },
            "Cast" => {
                let to = node.attribute.iter().find(|attribute| attribute.name == "to").map_or(0, |to| to.i);
                return element(to as i32).unwrap_or(Element::Float32);
            }
            _ => {}
        }
    }
    Element::Float32
}
