//! The names that a file's graph uses, and new names. Knows nothing of what the names stand for.

use std::collections::HashSet;

use tract_onnx::pb::GraphProto;

/// The names of a graph's tensors and nodes, in one set: ONNX Runtime refuses two nodes of the same name, and a
/// tensor has only one writer.
pub struct Names {
    taken: HashSet<String>,
}

impl Names {
    /// Collects the names of the graph's inputs, outputs, initializers and nodes, and of all tensors that its nodes
    /// read or write.
    pub fn of(graph: &GraphProto) -> Self {
        let mut taken = HashSet::new();
        for node in &graph.node {
            taken.insert(node.name.clone());
            taken.extend(node.input.iter().chain(&node.output).cloned());
        }
        taken.extend(graph.initializer.iter().map(|tensor| tensor.name.clone()));
        taken.extend(
            graph
                .sparse_initializer
                .iter()
                .flat_map(|tensor| &tensor.values)
                .map(|values| values.name.clone()),
        );
        taken.extend(graph.input.iter().chain(&graph.output).map(|value| value.name.clone()));
        Self { taken }
    }

    /// Reserves a name, so that it is not given out.
    pub fn reserve(&mut self, name: &str) {
        self.taken.insert(name.to_string());
    }

    /// Returns `name.suffix`, with underscores added until it is new, and reserves it.
    pub fn fresh(&mut self, name: &str, suffix: &str) -> String {
        let mut fresh = format!("{name}.{suffix}");
        while !self.taken.insert(fresh.clone()) {
            fresh.push('_');
        }
        fresh
    }
}

#[cfg(test)]
mod tests {
    use tract_onnx::pb::{TensorProto, ValueInfoProto};

    use super::super::proto::node;
    use super::*;

    #[test]
    fn a_fresh_name_is_none_of_the_graphs_and_none_given_before() {
        let graph = GraphProto {
            node: vec![node("x.node", "Relu", &["x.read"], "x.written", vec![])],
            initializer: vec![TensorProto { name: "x.weight".into(), ..Default::default() }],
            input: vec![ValueInfoProto { name: "x.input".into(), ..Default::default() }],
            output: vec![ValueInfoProto { name: "x.output".into(), ..Default::default() }],
            ..Default::default()
        };
        let mut names = Names::of(&graph);
        names.reserve("x.reserved");
        for suffix in ["node", "read", "written", "weight", "input", "output", "reserved"] {
            assert_eq!(names.fresh("x", suffix), format!("x.{suffix}_"));
            assert_eq!(names.fresh("x", suffix), format!("x.{suffix}__"));
        }
        assert_eq!(names.fresh("x", "new"), "x.new");
    }
}
