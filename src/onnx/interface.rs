//! The ends of an emitted file, as its contract has them: names, types, shapes, batch, softmax.
//!
//! Emission writes a graph whose ends are plain: float32, called as the graph calls them. Here they become those of
//! the contract; where the contract is plain as well, nothing changes.

use std::collections::{HashMap, HashSet};

use anyhow::{Result, ensure};
use tract_onnx::pb::tensor_proto::DataType;
use tract_onnx::pb::{GraphProto, NodeProto};

use crate::contract::{Contract, Dim, Element, OutputKind, Precision, TensorInfo};
use crate::graph::{Graph, Shape};

use super::proto::{indices, int, node, value_info};

/// The contract of a graph's file where nobody asks for another: the graph's own names and shapes, float32, a free
/// batch, and the logits as the only output.
pub fn plain_contract(graph: &Graph) -> Contract {
    let shape = |name: &str| graph.output(name).map(|id| graph.node(id).shape.clone()).unwrap_or_default();
    let mut contract = Contract::classifier([0; 3], Vec::new());
    contract.input = TensorInfo::batched(Contract::IMAGE, graph.input_shape());
    contract.outputs[0].tensor = TensorInfo::batched(Contract::LOGITS, &shape(Graph::LOGITS));
    contract
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
pub fn graph_outputs(graph: &Graph, contract: &Contract) -> Result<Vec<&'static str>> {
    let mut names = Vec::new();
    for output in &contract.outputs {
        let name = match output.kind {
            OutputKind::Embedding => Graph::EMBEDDING,
            OutputKind::Logits | OutputKind::Probabilities | OutputKind::LogProbabilities => Graph::LOGITS,
        };
        ensure!(graph.output(name).is_some(), "the graph has no output '{name}'");
        ensure!(!names.contains(&name), "the model has nothing for the output '{}'", output.tensor.name);
        names.push(name);
    }
    Ok(names)
}

/// Gives the graph the ends of the contract. `shapes` are those of the model's outputs for one image, in the
/// contract's order; the plain input is of `image`.
///
/// # Errors
/// If the contract's image or an output is of another size than the model's.
pub fn keep(graph: &mut GraphProto, contract: &Contract, image: &Shape, shapes: &[&Shape]) -> Result<()> {
    if let Some(wanted) = contract.sample_shape() {
        ensure!(wanted == *image, "the contract takes images {wanted:?} and the model {image:?}");
    }
    rename(graph, contract);
    let mut ends = Ends { taken: names(graph) };
    for (output, shape) in contract.outputs.iter().zip(shapes) {
        let name = &output.tensor.name;
        match output.kind {
            OutputKind::Probabilities => ends.finish(graph, name, "Softmax"),
            OutputKind::LogProbabilities => ends.finish(graph, name, "LogSoftmax"),
            OutputKind::Logits | OutputKind::Embedding => {}
        }
        ends.reshape(graph, &output.tensor, shape)?;
    }
    ends.cast(graph, contract);
    graph.input = vec![value_info(&contract.input)];
    graph.output = contract.outputs.iter().map(|output| value_info(&output.tensor)).collect();
    Ok(())
}

/// Calls the plain ends as the contract does, and what else has such a name something new.
fn rename(graph: &mut GraphProto, contract: &Contract) {
    let plain = graph.input.iter().chain(&graph.output).map(|end| end.name.clone());
    let wanted = std::iter::once(&contract.input).chain(contract.outputs.iter().map(|output| &output.tensor));
    let mut new: HashMap<String, String> =
        plain.zip(wanted.clone().map(|tensor| tensor.name.clone())).collect();
    let mut taken = names(graph);
    taken.extend(wanted.clone().map(|tensor| tensor.name.clone()));
    for tensor in wanted {
        if !new.contains_key(&tensor.name) {
            let inner = fresh(&mut taken, &tensor.name, "inner");
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

/// All names of tensors and nodes. ONNX Runtime refuses two nodes of one name.
fn names(graph: &GraphProto) -> HashSet<String> {
    let named =
        |node: &NodeProto| node.input.iter().chain(&node.output).chain([&node.name]).cloned().collect();
    let nodes = graph.node.iter().flat_map(|node| -> Vec<String> { named(node) });
    nodes.chain(graph.initializer.iter().map(|tensor| tensor.name.clone())).collect()
}

/// A name that nothing has.
fn fresh(taken: &mut HashSet<String>, name: &str, suffix: &str) -> String {
    let mut fresh = format!("{name}.{suffix}");
    while !taken.insert(fresh.clone()) {
        fresh.push('_');
    }
    fresh
}

/// Adds nodes at the ends.
struct Ends {
    taken: HashSet<String>,
}

impl Ends {
    /// Gives what an output was so far another name, and returns it.
    fn set_aside(&mut self, graph: &mut GraphProto, output: &str, suffix: &str) -> String {
        let inner = fresh(&mut self.taken, output, suffix);
        replace(graph.node.iter_mut(), output, &inner);
        inner
    }

    /// A softmax over the classes.
    fn finish(&mut self, graph: &mut GraphProto, output: &str, op: &str) {
        let logits = self.set_aside(graph, output, "logits");
        let name = fresh(&mut self.taken, output, "softmax");
        graph.node.push(node(&name, op, &[&logits], output, vec![int("axis", -1)]));
    }

    /// The same numbers in the shape of the contract, where it gives another.
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
        let to = fresh(&mut self.taken, &wanted.name, "shape");
        graph.initializer.push(indices(&to, &[&[0], sizes.as_slice()].concat()));
        let name = fresh(&mut self.taken, &wanted.name, "reshaped");
        graph.node.push(node(&name, "Reshape", &[&flat, &to], &wanted.name, vec![]));
        Ok(())
    }

    /// Casts where an end is of another type than what is computed in.
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
            let inner = fresh(&mut self.taken, &input.name, suffix(computed));
            for name in graph.node.iter_mut().flat_map(|node| &mut node.input) {
                if *name == input.name {
                    name.clone_from(&inner);
                }
            }
            graph.node.insert(0, cast(&inner, &input.name, &inner, computed));
        }
        for output in contract.outputs.iter().map(|output| &output.tensor) {
            if output.element != computed {
                let inner = self.set_aside(graph, &output.name, suffix(computed));
                let name = fresh(&mut self.taken, &output.name, suffix(output.element));
                graph.node.push(cast(&name, &inner, &output.name, output.element));
            }
        }
    }
}

/// Calls a tensor something else, wherever it is written or read.
fn replace<'a>(nodes: impl Iterator<Item = &'a mut NodeProto>, name: &str, new: &str) {
    for tensor in nodes.flat_map(|node| node.input.iter_mut().chain(&mut node.output)) {
        if tensor == name {
            *tensor = new.to_string();
        }
    }
}

/// What a type is called at the end of a name.
fn suffix(element: Element) -> &'static str {
    match element {
        Element::Float32 => "float32",
        Element::Float16 => "float16",
        Element::BFloat16 => "bfloat16",
        Element::Float64 => "float64",
        Element::Integer { .. } => "integer",
    }
}

/// The type of a tensor of such numbers.
pub fn data_type(element: Element) -> DataType {
    match element {
        Element::Float32 => DataType::Float,
        Element::Float16 => DataType::Float16,
        Element::BFloat16 => DataType::Bfloat16,
        Element::Float64 => DataType::Double,
        Element::Integer { least, most } => match (least < 0, most) {
            (false, 0..=0xff) => DataType::Uint8,
            (true, 0..=0x7f) => DataType::Int8,
            (false, 0..=0xffff) => DataType::Uint16,
            (true, 0..=0x7fff) => DataType::Int16,
            (false, 0..=0xffff_ffff) => DataType::Uint32,
            (true, 0..=0x7fff_ffff) => DataType::Int32,
            (_, _) => DataType::Int64,
        },
    }
}
