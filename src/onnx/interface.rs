//! Gives an emitted file the interface of its contract: names, types, shapes, batch, final softmax.
//!
//! Emission writes a graph with a plain interface: float32, with the graph's own names. Here the input and the outputs
//! become those of the contract; where the contract is plain as well, nothing changes.

use std::collections::HashMap;

use anyhow::{Context, Result, ensure};
use tract_onnx::pb::{GraphProto, NodeProto};

use crate::contract::{Contract, Dim, Element, Output, OutputKind, Precision, TensorInfo};
use crate::graph::{Graph, NodeId, Shape};

use super::names::Names;
use super::proto::{data_type, indices, int, node, value_info};

/// The contract of a graph's file where nobody asks for another: the graph's own names and shapes, float32, a free
/// batch, and the logits as the only output.
pub fn plain_contract(graph: &Graph) -> Contract {
    let logits = graph.output(Graph::LOGITS).map(|id| graph.node(id).shape.clone()).unwrap_or_default();
    Contract::plain(graph.input_shape(), &logits)
}

/// The same with the embedding as one more output, if the graph has one.
pub fn contract_with_embedding(graph: &Graph) -> Contract {
    let contract = plain_contract(graph);
    match graph.output(Graph::EMBEDDING) {
        Some(embedding) => contract.with_embedding(&graph.node(embedding).shape),
        None => contract,
    }
}

/// Which output of a graph each output of the contract is.
///
/// # Errors
/// If the graph has no such output, or if two outputs would be the same.
pub fn graph_outputs(graph: &Graph, contract: &Contract) -> Result<Vec<(&'static str, NodeId)>> {
    let mut outputs: Vec<(&str, NodeId)> = Vec::new();
    for output in &contract.outputs {
        let name = match output.kind {
            OutputKind::Embedding => Graph::EMBEDDING,
            OutputKind::Logits
            | OutputKind::Probabilities
            | OutputKind::LogProbabilities
            | OutputKind::Decision => Graph::LOGITS,
        };
        let id = graph.output(name).with_context(|| format!("the graph has no output '{name}'"))?;
        let taken = outputs.iter().any(|(other, _)| *other == name);
        ensure!(!taken, "the model has nothing for the output '{}'", output.tensor.name);
        outputs.push((name, id));
    }
    Ok(outputs)
}

/// Gives the graph the contract's input and outputs. `shapes` are those of the model's outputs for one image, in the
/// contract's order; `image` is the shape of its input for one image.
///
/// # Errors
/// If the contract's image or an output is of another size than the model's.
pub fn keep(graph: &mut GraphProto, contract: &Contract, image: &Shape, shapes: &[&Shape]) -> Result<()> {
    if let Some(wanted) = contract.sample_shape() {
        ensure!(wanted == *image, "the contract takes images {wanted:?} and the model {image:?}");
    }
    rename(graph, contract);
    let mut boundary = Boundary { names: Names::of(graph) };
    for (output, shape) in contract.outputs.iter().zip(shapes) {
        let name = &output.tensor.name;
        match output.kind {
            OutputKind::Probabilities => boundary.finish(graph, name, "Softmax"),
            OutputKind::LogProbabilities => boundary.finish(graph, name, "LogSoftmax"),
            OutputKind::Decision => {
                boundary.decide(graph, &output.tensor);
                continue;
            }
            OutputKind::Logits | OutputKind::Embedding => {}
        }
        boundary.reshape(graph, &output.tensor, shape)?;
    }
    boundary.cast(graph, contract);
    graph.input = vec![value_info(&contract.input)];
    graph.output = contract.outputs.iter().map(|output| value_info(&output.tensor)).collect();
    Ok(())
}

/// Gives the input and outputs the contract's names, and new names to inner tensors that had those.
fn rename(graph: &mut GraphProto, contract: &Contract) {
    let plain = graph.input.iter().chain(&graph.output).map(|end| end.name.clone());
    let wanted = std::iter::once(&contract.input).chain(contract.outputs.iter().map(|output| &output.tensor));
    let mut new: HashMap<String, String> =
        plain.zip(wanted.clone().map(|tensor| tensor.name.clone())).collect();
    let mut names = Names::of(graph);
    wanted.clone().for_each(|tensor| names.reserve(&tensor.name));
    for tensor in wanted {
        if !new.contains_key(&tensor.name) {
            let inner = names.fresh(&tensor.name, "inner");
            new.insert(tensor.name.clone(), inner);
        }
    }
    new.retain(|old, new| old != new);
    let tensors = graph.node.iter_mut().flat_map(|node| node.input.iter_mut().chain(&mut node.output));
    for name in tensors.chain(graph.initializer.iter_mut().map(|tensor| &mut tensor.name)) {
        if let Some(new) = new.get(name) {
            name.clone_from(new);
        }
    }
}

/// What ArgMax gives.
const INT64: Element = Element::Integer { least: i64::MIN, most: i64::MAX };

/// Adds nodes at the boundary.
struct Boundary {
    names: Names,
}

impl Boundary {
    /// Renames the tensor that is an output so far, and returns its new name.
    fn set_aside(&mut self, graph: &mut GraphProto, output: &str, suffix: &str) -> String {
        let inner = self.names.fresh(output, suffix);
        replace(graph.node.iter_mut(), output, &inner);
        inner
    }

    /// Adds a softmax over the classes.
    fn finish(&mut self, graph: &mut GraphProto, output: &str, op: &str) {
        let logits = self.set_aside(graph, output, "logits");
        let name = self.names.fresh(output, "softmax");
        graph.node.push(node(&name, op, &[&logits], output, vec![int("axis", -1)]));
    }

    /// Adds an ArgMax over the classes, as int64 `[batch]`, or `[batch, 1]` where the contract has a second axis.
    fn decide(&mut self, graph: &mut GraphProto, output: &TensorInfo) {
        let logits = self.set_aside(graph, &output.name, "logits");
        let name = self.names.fresh(&output.name, "argmax");
        let keep = i64::from(output.dims.len() > 1);
        let attributes = vec![int("axis", 1), int("keepdims", keep)];
        graph.node.push(node(&name, "ArgMax", &[&logits], &output.name, attributes));
    }

    /// Gives an output the shape of the contract, if that is another.
    fn reshape(&mut self, graph: &mut GraphProto, wanted: &TensorInfo, shape: &Shape) -> Result<()> {
        let same = |(dim, size): (&Dim, &usize)| match dim {
            Dim::Fixed(fixed) => fixed == size,
            Dim::Symbolic(_) => true,
        };
        let dims = wanted.dims.get(1..).unwrap_or_default();
        if wanted.dims.is_empty() || (dims.len() == shape.len() && dims.iter().zip(shape).all(same)) {
            return Ok(());
        }
        let sizes: Vec<i64> =
            dims.iter().map(|dim| if let Dim::Fixed(size) = dim { *size as i64 } else { -1 }).collect();
        let free = sizes.iter().filter(|size| **size < 0).count();
        let fixed: i64 = sizes.iter().filter(|size| **size > 0).product();
        let all: i64 = shape.iter().map(|&size| size as i64).product();
        let fits = if free == 0 { fixed == all } else { free == 1 && all % fixed.max(1) == 0 };
        ensure!(fits, "the contract's output '{}' is {dims:?} and the model's {shape:?}", wanted.name);
        let flat = self.set_aside(graph, &wanted.name, "flat");
        let to = self.names.fresh(&wanted.name, "shape");
        graph.initializer.push(indices(&to, &[&[0], sizes.as_slice()].concat()));
        let name = self.names.fresh(&wanted.name, "reshaped");
        graph.node.push(node(&name, "Reshape", &[&flat, &to], &wanted.name, vec![]));
        Ok(())
    }

    /// Adds a Cast where the type of the input or of an output is not the type that is computed in.
    fn cast(&mut self, graph: &mut GraphProto, contract: &Contract) {
        let computed = match contract.precision {
            Precision::Float32 | Precision::Int8 => Element::Float32,
            Precision::Float16 => Element::Float16,
        };
        let cast = |name: &str, from: &str, to: &str, element: Element| {
            node(name, "Cast", &[from], to, vec![int("to", data_type(element) as i64)])
        };
        let input = &contract.input;
        if input.element != computed {
            let inner = self.names.fresh(&input.name, suffix(computed));
            for name in graph.node.iter_mut().flat_map(|node| &mut node.input) {
                if *name == input.name {
                    name.clone_from(&inner);
                }
            }
            graph.node.insert(0, cast(&inner, &input.name, &inner, computed));
        }
        for Output { tensor: output, kind } in &contract.outputs {
            let given = if *kind == OutputKind::Decision { INT64 } else { computed };
            if output.element != given {
                let inner = self.set_aside(graph, &output.name, suffix(given));
                let name = self.names.fresh(&output.name, suffix(output.element));
                graph.node.push(cast(&name, &inner, &output.name, output.element));
            }
        }
    }
}

/// Renames a tensor wherever it is written or read.
fn replace<'a>(nodes: impl Iterator<Item = &'a mut NodeProto>, name: &str, new: &str) {
    for tensor in nodes.flat_map(|node| node.input.iter_mut().chain(&mut node.output)) {
        if tensor == name {
            *tensor = new.to_string();
        }
    }
}

/// The suffix by which names of casts tell the type.
fn suffix(element: Element) -> &'static str {
    match element {
        Element::Float32 => "float32",
        Element::Float16 => "float16",
        Element::BFloat16 => "bfloat16",
        Element::Float64 => "float64",
        Element::Integer { .. } => "integer",
    }
}
