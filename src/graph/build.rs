//! A checked graph, and the builder that is the only way to make one.

use std::collections::HashSet;

use super::op::{Op, Shape};

/// The place of a node in its graph's list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(usize);

impl NodeId {
    /// Index into [`Graph::nodes`].
    pub fn index(self) -> usize {
        self.0
    }
}

/// One operation with a name, the nodes that it reads and the shape of its value (without the batch).
#[derive(Debug, Clone, PartialEq)]
pub struct Node {
    pub name: String,
    pub op: Op,
    pub inputs: Vec<NodeId>,
    pub shape: Shape,
}

/// A named output of a graph.
#[derive(Debug, Clone, PartialEq)]
pub struct Output {
    pub name: String,
    pub node: NodeId,
}

/// Why a graph cannot be built. The message starts with the node's name.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("node '{node}' ({op}): {problem}")]
pub struct GraphError {
    pub node: String,
    pub op: &'static str,
    pub problem: String,
}

/// A network: nodes in topological order with every shape known. Node 0 is the input.
///
/// Image classifiers have the outputs [`Graph::LOGITS`] and [`Graph::EMBEDDING`] (the pooled
/// features before the classifier).
#[derive(Debug, Clone, PartialEq)]
pub struct Graph {
    nodes: Vec<Node>,
    outputs: Vec<Output>,
}

impl Graph {
    pub const LOGITS: &'static str = "logits";
    pub const EMBEDDING: &'static str = "embedding";

    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    pub fn outputs(&self) -> &[Output] {
        &self.outputs
    }

    pub fn node(&self, id: NodeId) -> &Node {
        &self.nodes[id.0]
    }

    /// The id of the node at `index`.
    ///
    /// # Panics
    /// If the graph has no such node.
    pub fn id(&self, index: usize) -> NodeId {
        assert!(index < self.nodes.len(), "node {index} of {}", self.nodes.len());
        NodeId(index)
    }

    /// The node behind a named output.
    pub fn output(&self, name: &str) -> Option<NodeId> {
        self.outputs.iter().find(|output| output.name == name).map(|output| output.node)
    }

    /// Shape of one image: `[channels, height, width]`, or whatever a foreign file has.
    pub fn input_shape(&self) -> &Shape {
        &self.nodes[0].shape
    }

    /// Number of classes: the length of the logits.
    pub fn classes(&self) -> usize {
        self.output(Self::LOGITS).map_or(0, |id| self.node(id).shape.iter().product())
    }

    /// The shapes that a node reads.
    pub fn input_shapes(&self, node: &Node) -> Vec<&Shape> {
        node.inputs.iter().map(|id| &self.nodes[id.0].shape).collect()
    }

    /// Builds the graph again: `write` adds the replacement of each node, given the node's place and the
    /// replacements of its inputs, and returns the node that has its value. The image and the names of the
    /// outputs stay.
    ///
    /// # Errors
    /// If what `write` adds is not valid.
    pub fn rewritten(&self, write: &mut Write<'_>) -> Result<Self, GraphError> {
        let (builder, image) = Builder::new(self.input_shape().clone())?;
        self.rewritten_on(builder, image, write)
    }

    /// The same, on top of nodes that are already there, one of which replaces the image.
    ///
    /// # Errors
    /// If what `write` adds is not valid.
    pub(super) fn rewritten_on(
        &self,
        mut builder: Builder,
        image: NodeId,
        write: &mut Write<'_>,
    ) -> Result<Self, GraphError> {
        let mut written = vec![image];
        for (index, node) in self.nodes.iter().enumerate().skip(1) {
            let inputs: Vec<NodeId> = node.inputs.iter().map(|id| written[id.0]).collect();
            written.push(write(&mut builder, NodeId(index), &inputs)?);
        }
        let outputs: Vec<(&str, NodeId)> =
            self.outputs.iter().map(|output| (output.name.as_str(), written[output.node.0])).collect();
        Ok(builder.finish(&outputs))
    }

    /// For every node, the number of nodes and outputs that read it.
    pub fn uses(&self) -> Vec<usize> {
        let mut uses = vec![0; self.nodes.len()];
        let reads = self.nodes.iter().flat_map(|node| &node.inputs);
        for id in reads.chain(self.outputs.iter().map(|output| &output.node)) {
            uses[id.0] += 1;
        }
        uses
    }
}

/// Adds the replacement of a node, given its place and the replacements of its inputs.
pub type Write<'a> = dyn FnMut(&mut Builder, NodeId, &[NodeId]) -> Result<NodeId, GraphError> + 'a;

/// Adds nodes one after another and infers each shape.
pub struct Builder {
    nodes: Vec<Node>,
    names: HashSet<String>,
}

impl Builder {
    /// Starts a graph with the input node `image` of `[channels, height, width]`.
    ///
    /// # Errors
    /// If the shape is not three positive dimensions.
    pub fn new(shape: Shape) -> Result<(Self, NodeId), GraphError> {
        let mut builder = Self { nodes: Vec::new(), names: HashSet::new() };
        let input = builder.add("image", Op::Input { shape }, &[])?;
        Ok((builder, input))
    }

    /// Appends a node with the canonical form of an operation ([`Op::canonical`]) and returns its id.
    ///
    /// # Errors
    /// If the name is taken or empty, or the input shapes do not fit the operation.
    pub fn add(&mut self, name: impl Into<String>, op: Op, inputs: &[NodeId]) -> Result<NodeId, GraphError> {
        let name = name.into();
        let reads: Vec<(&Op, &Shape)> =
            inputs.iter().map(|id| &self.nodes[id.0]).map(|node| (&node.op, &node.shape)).collect();
        let op = op.canonical(&reads);
        let fail = |problem: String| GraphError { node: name.clone(), op: op.kind(), problem };
        if name.is_empty() {
            return Err(fail("a node needs a name".into()));
        }
        if matches!(op, Op::Input { .. }) && !self.nodes.is_empty() {
            return Err(fail("a graph has one input".into()));
        }
        if self.names.contains(&name) {
            return Err(fail("the name is used twice".into()));
        }
        let shapes: Vec<&Shape> = reads.iter().map(|(_, shape)| *shape).collect();
        let shape = op.infer(&shapes).map_err(fail)?;
        self.names.insert(name.clone());
        self.nodes.push(Node { name, op, inputs: inputs.to_vec(), shape });
        Ok(NodeId(self.nodes.len() - 1))
    }

    /// Shape of a node that was added before, without the batch.
    pub fn shape(&self, id: NodeId) -> &Shape {
        &self.nodes[id.0].shape
    }

    /// Names the outputs and closes the graph.
    pub fn finish(self, outputs: &[(&str, NodeId)]) -> Graph {
        let outputs =
            outputs.iter().map(|(name, node)| Output { name: (*name).into(), node: *node }).collect();
        Graph { nodes: self.nodes, outputs }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::Conv2d;

    #[test]
    fn errors_name_the_node() {
        let (mut builder, image) = Builder::new(vec![3, 8, 8]).unwrap();
        builder.add("stem", Op::Conv2d(Conv2d::square(4, 3, 1)), &[image]).unwrap();
        let twice = builder.add("stem", Op::Relu, &[image]).unwrap_err();
        assert_eq!(twice.to_string(), "node 'stem' (relu): the name is used twice");
        let linear = builder.add("fc", Op::Linear { out_features: 0, bias: true }, &[image]).unwrap_err();
        assert!(linear.to_string().starts_with("node 'fc' (linear)"));
    }
}
