//! Adds casts to files whose input or outputs are not float32, so that every engine is fed and read alike.

use std::collections::{HashMap, HashSet};

use tract_onnx::pb::tensor_proto::DataType;
use tract_onnx::pb::type_proto::Value;
use tract_onnx::pb::{GraphProto, ValueInfoProto};

use super::names::Names;
use super::proto::{int, node};

/// Puts a Cast after an input and before every output whose type is not float32. The outputs keep their names.
/// Returns whether a Cast was added.
///
/// # Errors
/// If an output is a graph's input or an initializer itself.
pub fn as_float32(graph: &mut GraphProto, input: &str) -> Result<bool, String> {
    let mut names = Names::of(graph);
    let mut fresh = |name: &str| names.fresh(name, "float32");
    let mut changed = false;
    for value in graph.input.iter_mut().filter(|value| value.name == input) {
        let Some(element) = set_float32(value) else { continue };
        let name = std::mem::replace(&mut value.name, fresh(input));
        let cast = fresh(input);
        graph.node.insert(0, node(&cast, "Cast", &[&value.name], &name, vec![int("to", element)]));
        changed = true;
    }
    let (mut casts, mut renamed) = (Vec::new(), HashMap::new());
    for value in &mut graph.output {
        if set_float32(value).is_some() {
            let inner = fresh(&value.name);
            casts.push(node(&inner, "Cast", &[&inner], &value.name, vec![int("to", DataType::Float as i64)]));
            renamed.insert(value.name.clone(), inner);
            changed = true;
        }
    }
    let mut made = HashSet::new();
    for node in &mut graph.node {
        for tensor in &mut node.output {
            if let Some(inner) = renamed.get(tensor) {
                made.insert(std::mem::replace(tensor, inner.clone()));
            }
        }
        for tensor in &mut node.input {
            if let Some(inner) = renamed.get(tensor) {
                tensor.clone_from(inner);
            }
        }
    }
    if let Some(name) = renamed.keys().find(|name| !made.contains(*name)) {
        return Err(format!("no node gives the output '{name}'"));
    }
    graph.node.extend(casts);
    if changed {
        // The recorded types of inner tensors may now belong to tensors of other names.
        graph.value_info.clear();
    }
    Ok(changed)
}

/// Sets a tensor's type to float32 and returns the type it had, if that was another.
fn set_float32(value: &mut ValueInfoProto) -> Option<i64> {
    let Some(Value::TensorType(tensor)) = value.r#type.as_mut().and_then(|kind| kind.value.as_mut()) else {
        return None;
    };
    let element = std::mem::replace(&mut tensor.elem_type, DataType::Float as i32);
    (element != DataType::Float as i32).then_some(i64::from(element))
}
