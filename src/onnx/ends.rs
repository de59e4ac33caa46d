//! Files whose input or outputs are not float32, as engines get them: with casts at both ends, so that
//! every engine is fed and read alike.

use std::collections::HashSet;

use tract_onnx::pb::tensor_proto::DataType;
use tract_onnx::pb::type_proto::Value;
use tract_onnx::pb::{GraphProto, ValueInfoProto};

use super::proto::{int, node};

/// Puts a Cast behind an input and before every output of another type than float32. The outputs keep
/// their names. Returns whether there was any.
///
/// # Errors
/// If an output is a graph's input or an initializer itself.
pub fn as_float32(graph: &mut GraphProto, input: &str) -> Result<bool, String> {
    let mut taken: HashSet<String> = graph.initializer.iter().map(|tensor| tensor.name.clone()).collect();
    taken.extend(graph.input.iter().map(|input| input.name.clone()));
    taken.extend(graph.node.iter().flat_map(|node| &node.output).cloned());
    let mut fresh = |name: &str| {
        let mut free = format!("{name}.float32");
        while !taken.insert(free.clone()) {
            free.push('_');
        }
        free
    };
    let mut changed = false;
    for value in graph.input.iter_mut().filter(|value| value.name == input) {
        let Some(element) = set_float32(value) else { continue };
        let name = std::mem::replace(&mut value.name, fresh(input));
        graph.node.insert(0, node(&name, "Cast", &[&value.name], &name, vec![int("to", element)]));
        changed = true;
    }
    let mut casts = Vec::new();
    for value in &mut graph.output {
        if set_float32(value).is_none() {
            continue;
        }
        let (name, inner) = (value.name.clone(), fresh(&value.name));
        let mut produced = false;
        for tensor in
            graph.node.iter_mut().flat_map(|node| &mut node.output).filter(|tensor| **tensor == name)
        {
            tensor.clone_from(&inner);
            produced = true;
        }
        if !produced {
            return Err(format!("no node gives the output '{name}'"));
        }
        for tensor in graph.node.iter_mut().flat_map(|node| &mut node.input).filter(|tensor| **tensor == name)
        {
            tensor.clone_from(&inner);
        }
        casts.push(node(&inner, "Cast", &[&inner], &name, vec![int("to", DataType::Float as i64)]));
        changed = true;
    }
    graph.node.extend(casts);
    if changed {
        // What was said of the tensors in between may now be said of others.
        graph.value_info.clear();
    }
    Ok(changed)
}

/// Makes a tensor one of float32; gives the type it had, if that was another.
fn set_float32(value: &mut ValueInfoProto) -> Option<i64> {
    let Some(Value::TensorType(tensor)) = value.r#type.as_mut().and_then(|kind| kind.value.as_mut()) else {
        return None;
    };
    let element = std::mem::replace(&mut tensor.elem_type, DataType::Float as i32);
    (element != DataType::Float as i32).then_some(i64::from(element))
}
