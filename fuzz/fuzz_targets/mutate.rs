//! Mutations of a model's structure. Random bytes seldom give a model that can be decoded; here nodes, tensors, attributes
//! and names are exchanged, so that most mutations reach the importer.

use libfuzzer_sys::fuzzer_mutate;
use prost::Message;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use tract_onnx::pb::attribute_proto::AttributeType;
use tract_onnx::pb::tensor_proto::DataType;
use tract_onnx::pb::tensor_shape_proto::dimension;
use tract_onnx::pb::type_proto;
use tract_onnx::pb::{AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto, ValueInfoProto};

use crate::donors::DONORS;
use crate::words::{ATTRIBUTES, LARGE, NAMES, OPS, SUFFIXES, TEXTS};

/// One mutation of `data[..size]`, in place; the new size.
pub fn mutate(data: &mut [u8], size: usize, max_size: usize, seed: u32) -> usize {
    let mut draw = Draw(ChaCha8Rng::seed_from_u64(seed.into()));
    if draw.one_in(24) {
        return fuzzer_mutate(data, size, max_size);
    }
    let mut model = match ModelProto::decode(&data[..size]) {
        Ok(model) if model.graph.is_some() && !draw.one_in(200) => model,
        _ => draw.of(&DONORS).clone(),
    };
    for _ in 0..=draw.below(4) {
        change(&mut model, &mut draw);
    }
    if let Some(graph) = model.graph.as_mut().filter(|_| !draw.one_in(6)) {
        graph.initializer.iter_mut().for_each(mend);
    }
    let bytes = model.encode_to_vec();
    if bytes.len() > max_size {
        return fuzzer_mutate(data, size, max_size);
    }
    data[..bytes.len()].copy_from_slice(&bytes);
    bytes.len()
}

struct Draw(ChaCha8Rng);

impl Draw {
    /// A number below `limit`, which counts as 1 if it is 0.
    fn below(&mut self, limit: usize) -> usize {
        self.0.next_u32() as usize % limit.max(1)
    }

    fn one_in(&mut self, count: usize) -> bool {
        self.below(count) == 0
    }

    fn of<'a, T>(&mut self, list: &'a [T]) -> &'a T {
        &list[self.below(list.len())]
    }

    fn any<'a, T>(&mut self, list: &'a mut [T]) -> Option<&'a mut T> {
        let place = self.below(list.len());
        list.get_mut(place)
    }

    /// Mostly small.
    fn number(&mut self) -> i64 {
        match self.below(8) {
            0 => *self.of(LARGE),
            1 => -1 - self.below(4) as i64,
            _ => self.below(9) as i64,
        }
    }

    fn numbers(&mut self) -> Vec<i64> {
        (0..self.below(6)).map(|_| self.number()).collect()
    }

    fn float(&mut self) -> f32 {
        *self.of(&[
            0.0,
            1.0,
            -1.0,
            0.5,
            2.0,
            6.0,
            1e-5,
            -0.0,
            1e30,
            f32::NAN,
            f32::INFINITY,
            f32::NEG_INFINITY,
        ])
    }
}

fn change(model: &mut ModelProto, draw: &mut Draw) {
    let Some(graph) = model.graph.as_mut() else { return };
    match draw.below(40) {
        0..=7 => attribute(graph, draw),
        8..=15 => spliced(graph, draw),
        16..=19 => rewired(graph, draw),
        20..=25 => tensor(graph, draw),
        26..=28 => {
            let op = (*draw.of(&OPS)).to_string();
            draw.any(&mut graph.node).into_iter().for_each(|node| node.op_type.clone_from(&op));
        }
        29 => removed(graph, draw),
        30 => grafted(graph, draw),
        31 => stored_elsewhere(graph, draw),
        32 => renamed(graph, draw),
        33 => outputs(graph, draw),
        34 | 35 => {
            let place = draw.below(graph.input.len());
            graph.input.get_mut(place).into_iter().for_each(|value| ends(value, draw));
        }
        36 => {
            let opset = *draw.of(&[6, 7, 9, 11, 12, 13, 16, 17, 18, 20, 22, 26]);
            model.opset_import.iter_mut().for_each(|set| set.version = opset);
        }
        37 => {
            let (from, to) = (draw.below(graph.node.len()), draw.below(graph.node.len()));
            if !graph.node.is_empty() {
                graph.node.swap(from, to);
            }
        }
        38 => {
            let domain = (*draw.of(&["", "ai.onnx", "com.example"])).to_string();
            draw.any(&mut graph.node).into_iter().for_each(|node| node.domain.clone_from(&domain));
        }
        _ => draw.any(&mut graph.node).into_iter().for_each(|node| node.attribute.clear()),
    }
}

/// Every tensor that a node at `place` may read.
fn readable(graph: &GraphProto, place: usize) -> Vec<String> {
    let initializers = graph.initializer.iter().map(|tensor| &tensor.name);
    let inputs = graph.input.iter().map(|input| &input.name);
    let given = graph.node[..place.min(graph.node.len())].iter().rev().flat_map(|node| &node.output);
    inputs.chain(given).chain(initializers).cloned().collect()
}

/// One of the names; none if there are none.
fn any_name(names: &[String], draw: &mut Draw) -> String {
    names.get(draw.below(names.len())).cloned().unwrap_or_default()
}

fn fresh(graph: &GraphProto) -> String {
    let taken = |name: &str| {
        graph.initializer.iter().any(|tensor| tensor.name == name)
            || graph.node.iter().flat_map(|node| &node.output).any(|output| output == name)
    };
    let mut count = graph.node.len() + graph.initializer.len();
    while taken(&format!("f{count}")) {
        count += 1;
    }
    format!("f{count}")
}

/// A node put into an edge, with whatever more it may need.
fn spliced(graph: &mut GraphProto, draw: &mut Draw) {
    let place = draw.below(graph.node.len());
    let readers = graph.node.get(place).map_or(0, |node| node.input.len());
    let edge = draw.below(readers);
    let Some(read) = graph.node.get(place).and_then(|node| node.input.get(edge)).cloned() else { return };
    let output = fresh(graph);
    let mut inputs = vec![read];
    for _ in 0..draw.below(3) {
        inputs.push(match draw.below(3) {
            0 => any_name(&readable(graph, place), draw),
            1 => inputs[0].clone(),
            _ => {
                let name = format!("{output}.{}", inputs.len());
                let tensor = stored(&name, draw);
                graph.initializer.push(tensor);
                name
            }
        });
    }
    if draw.one_in(6) {
        inputs.rotate_left(1);
    }
    let mut node = NodeProto {
        name: if draw.one_in(2) { String::new() } else { output.clone() },
        op_type: (*draw.of(&OPS)).to_string(),
        input: inputs,
        output: vec![output.clone()],
        ..NodeProto::default()
    };
    for _ in 0..draw.below(3) {
        node.attribute.push(any_attribute(draw));
    }
    if draw.one_in(8) {
        node.output.push(format!("{output}.b"));
    }
    graph.node[place].input[edge] = output;
    graph.node.insert(place, node);
}

fn rewired(graph: &mut GraphProto, draw: &mut Draw) {
    let place = draw.below(graph.node.len());
    let names = readable(graph, place);
    let Some(node) = graph.node.get_mut(place) else { return };
    // Neighbours fit more often than what is far away.
    let near = if draw.one_in(2) { names.len().min(6) } else { names.len() };
    let name = any_name(&names[..near], draw);
    match draw.below(8) {
        0 => node.input.push(name),
        1 => drop(node.input.pop()),
        2 => draw.any(&mut node.input).into_iter().for_each(String::clear),
        3 => {
            let (from, to) = (draw.below(node.input.len()), draw.below(node.input.len()));
            if !node.input.is_empty() {
                node.input.swap(from, to);
            }
        }
        _ => draw.any(&mut node.input).into_iter().for_each(|input| input.clone_from(&name)),
    }
}

/// A node taken out, what it gave read from where it read.
fn removed(graph: &mut GraphProto, draw: &mut Draw) {
    let place = draw.below(graph.node.len());
    if place >= graph.node.len() {
        return;
    }
    let node = graph.node.remove(place);
    let (Some(read), Some(gave)) = (node.input.first(), node.output.first()) else { return };
    let readers = graph.node.iter_mut().flat_map(|node| &mut node.input);
    readers.filter(|input| *input == gave).for_each(|input| input.clone_from(read));
}

/// A node of another model with its tensors.
fn grafted(graph: &mut GraphProto, draw: &mut Draw) {
    let donor = draw.of(&DONORS).graph.as_ref();
    let Some(mut node) = donor.map(|donor| draw.of(&donor.node).clone()) else { return };
    let place = draw.below(graph.node.len() + 1);
    let (output, names) = (fresh(graph), readable(graph, place));
    for (index, input) in node.input.iter_mut().enumerate().filter(|(_, input)| !input.is_empty()) {
        let tensor = donor.and_then(|donor| donor.initializer.iter().find(|tensor| tensor.name == *input));
        *input = match tensor {
            Some(tensor) => {
                let name = format!("{output}.{index}");
                graph.initializer.push(TensorProto { name: name.clone(), ..tensor.clone() });
                name
            }
            None => any_name(&names, draw),
        };
    }
    let gave = any_name(&names[..names.len().min(4)], draw);
    for (index, name) in node.output.iter_mut().enumerate() {
        *name = if index == 0 { output.clone() } else { format!("{output}.{index}.b") };
    }
    graph.node.insert(place, node);
    let readers = graph.node[place + 1..].iter_mut().flat_map(|node| &mut node.input);
    readers.filter(|input| **input == gave).take(1).for_each(|input| input.clone_from(&output));
}

fn renamed(graph: &mut GraphProto, draw: &mut Draw) {
    let of_others: Vec<String> = graph.node.iter().map(|node| node.name.clone()).collect();
    let other = any_name(&of_others, draw);
    let name = match draw.below(3) {
        0 => (*draw.of(NAMES)).to_string(),
        1 => other,
        _ => format!("{other}{}", draw.of(SUFFIXES)),
    };
    draw.any(&mut graph.node).into_iter().for_each(|node| node.name.clone_from(&name));
}

fn outputs(graph: &mut GraphProto, draw: &mut Draw) {
    let names = readable(graph, graph.node.len());
    let name = any_name(&names, draw);
    match draw.below(3) {
        0 => {
            graph.output.extend(graph.output.first().cloned().map(|output| ValueInfoProto { name, ..output }))
        }
        1 => {
            let value = draw.below(graph.output.len());
            graph.output.get_mut(value).into_iter().for_each(|value| ends(value, draw));
        }
        _ => draw.any(&mut graph.output).into_iter().for_each(|output| output.name.clone_from(&name)),
    }
}

/// Type and shape of an input or output.
fn ends(value: &mut ValueInfoProto, draw: &mut Draw) {
    let kind = value.r#type.as_mut().and_then(|kind| kind.value.as_mut());
    let Some(type_proto::Value::TensorType(tensor)) = kind else { return };
    if draw.one_in(3) {
        tensor.elem_type = draw.below(17) as i32;
        return;
    }
    let dim = tensor.shape.as_mut().and_then(|shape| draw.any(&mut shape.dim));
    let value = match draw.below(4) {
        0 => dimension::Value::DimParam("batch".into()),
        _ => dimension::Value::DimValue(draw.number()),
    };
    dim.into_iter().for_each(|dim| dim.value = Some(value.clone()));
}

fn any_attribute(draw: &mut Draw) -> AttributeProto {
    let (name, kind) = *draw.of(&ATTRIBUTES);
    let mut attribute =
        AttributeProto { name: name.into(), r#type: kind as i32, ..AttributeProto::default() };
    fill(&mut attribute, draw);
    attribute
}

/// Other numbers, of the kind that the attribute has.
fn fill(attribute: &mut AttributeProto, draw: &mut Draw) {
    match AttributeType::try_from(attribute.r#type) {
        Ok(AttributeType::Int) => attribute.i = draw.number(),
        Ok(AttributeType::Ints) if attribute.ints.is_empty() || draw.one_in(3) => {
            attribute.ints = draw.numbers();
        }
        Ok(AttributeType::Ints) => {
            let number = draw.number();
            draw.any(&mut attribute.ints).into_iter().for_each(|value| *value = number);
        }
        Ok(AttributeType::Float) => attribute.f = draw.float(),
        Ok(AttributeType::Floats) => attribute.floats = (0..draw.below(4)).map(|_| draw.float()).collect(),
        Ok(AttributeType::String) => attribute.s = draw.of(TEXTS).as_bytes().to_vec(),
        Ok(AttributeType::Tensor) => attribute.t = Some(stored("", draw)),
        _ => attribute.i = draw.number(),
    }
}

fn attribute(graph: &mut GraphProto, draw: &mut Draw) {
    let Some(node) = draw.any(&mut graph.node) else { return };
    match draw.below(6) {
        0 => node.attribute.push(any_attribute(draw)),
        1 => {
            let place = draw.below(node.attribute.len());
            if place < node.attribute.len() {
                node.attribute.remove(place);
            }
        }
        2 => {
            let kind = draw.below(14) as i32;
            draw.any(&mut node.attribute).into_iter().for_each(|attribute| attribute.r#type = kind);
        }
        _ => {
            let place = draw.below(node.attribute.len());
            node.attribute.get_mut(place).into_iter().for_each(|attribute| fill(attribute, draw));
        }
    }
}

/// A small tensor of its own.
fn stored(name: &str, draw: &mut Draw) -> TensorProto {
    let mut tensor = TensorProto { name: name.into(), ..TensorProto::default() };
    if draw.one_in(3) {
        tensor.data_type = DataType::Float as i32;
        tensor.dims = (0..draw.below(4)).map(|_| 1 + draw.below(4) as i64).collect();
        let count: i64 = tensor.dims.iter().product();
        tensor.float_data = (0..count).map(|_| draw.float()).collect();
        if draw.one_in(2) {
            tensor.dims.insert(0, 1);
        }
    } else {
        tensor.data_type = DataType::Int64 as i32;
        tensor.int64_data = draw.numbers();
        tensor.dims = vec![tensor.int64_data.len() as i64];
        if tensor.int64_data.len() == 1 && draw.one_in(2) {
            tensor.dims.clear();
        }
    }
    tensor
}

fn tensor(graph: &mut GraphProto, draw: &mut Draw) {
    let place = draw.below(graph.initializer.len());
    let Some(tensor) = graph.initializer.get_mut(place) else { return };
    match draw.below(8) {
        0 => {
            let number = draw.number();
            draw.any(&mut tensor.dims).into_iter().for_each(|dim| *dim = number);
        }
        1 => {
            let axis = draw.below(tensor.dims.len() + 1);
            tensor.dims.insert(axis, if draw.one_in(4) { draw.number() } else { 1 });
        }
        2 => drop(tensor.dims.pop()),
        3 => tensor.data_type = draw.below(24) as i32,
        4 => tensor.dims.reverse(),
        5 if tensor.data_type == DataType::Float as i32 => {
            let float = draw.float();
            let places = tensor.raw_data.len() / 4;
            let at = 4 * draw.below(places);
            tensor.raw_data.get_mut(at..at + 4).into_iter().for_each(|four| {
                four.copy_from_slice(&float.to_le_bytes());
            });
        }
        _ => {
            let made = stored(&tensor.name, draw);
            *tensor = made;
        }
    }
}

/// An initializer as a Constant node, or said to lie in another file.
fn stored_elsewhere(graph: &mut GraphProto, draw: &mut Draw) {
    let place = draw.below(graph.initializer.len());
    if place >= graph.initializer.len() {
        return;
    }
    if draw.one_in(4) {
        let entry = |key: &str, value: &str| tract_onnx::pb::StringStringEntryProto {
            key: key.into(),
            value: value.into(),
        };
        let offset = draw.number().to_string();
        graph.initializer[place].external_data =
            vec![entry("location", "fields.weights"), entry("offset", &offset)];
        return;
    }
    let tensor = graph.initializer.remove(place);
    let output = tensor.name.clone();
    let value = AttributeProto {
        name: "value".into(),
        r#type: AttributeType::Tensor as i32,
        t: Some(tensor),
        ..AttributeProto::default()
    };
    let node = NodeProto {
        op_type: "Constant".into(),
        output: vec![output],
        attribute: vec![value],
        ..NodeProto::default()
    };
    graph.node.insert(0, node);
}

/// Gives a float or integer tensor as many numbers as its dimensions claim, if those are few.
fn mend(tensor: &mut TensorProto) {
    let claimed = tensor.dims.iter().try_fold(1usize, |product, &dim| {
        product.checked_mul(usize::try_from(dim).ok()?).filter(|&product| product <= 1 << 12)
    });
    let Some(claimed) = claimed.filter(|_| tensor.external_data.is_empty()) else { return };
    let width = match DataType::try_from(tensor.data_type) {
        Ok(DataType::Float) => 4,
        Ok(DataType::Int64) => 8,
        _ => return,
    };
    if !tensor.raw_data.is_empty() || (tensor.float_data.is_empty() && tensor.int64_data.is_empty()) {
        tensor.raw_data.resize(claimed * width, 0);
    } else if width == 4 {
        tensor.float_data.resize(claimed, 0.5);
    } else {
        tensor.int64_data.resize(claimed, 1);
    }
}
