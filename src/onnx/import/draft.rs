//! The graph under construction: nodes are added one after another, and those that no output needs are left out
//! at the end.

use std::collections::{HashMap, HashSet};
use std::rc::Rc;

use ndarray::ArrayD;

use crate::graph::{Builder, Graph, Model, NodeId, Op, Shape, Weights, node_params};

/// Maximum values of one activation for one image: 1 GiB in float32.
const MAX_ACTIVATION: usize = 1 << 28;

/// Maximum values of all parameters and constants: 2 GiB in float32, protobuf's own limit.
const MAX_STORED: usize = 1 << 29;

/// Maximum number of nodes.
const MAX_NODES: usize = 1 << 17;

/// Maximum bytes of a node's name and of its origin; longer ones are cut.
const MAX_NAME: usize = 512;

/// Parameters in the order of [`node_params`].
pub type Params = Vec<Rc<ArrayD<f32>>>;

/// A node that may become part of the graph.
pub struct Sketch {
    /// The wanted name; it need not be unique.
    pub name: String,
    pub op: Op,
    pub inputs: Vec<usize>,
    /// Shape for one image, without the batch.
    pub shape: Shape,
    pub params: Params,
    pub origin: String,
}

/// The finished model.
pub struct Finished {
    pub model: Model,
    /// The origin of each node of the graph.
    pub origins: Vec<String>,
    /// The node of the graph for each node of the draft, if it was kept.
    pub ids: Vec<Option<NodeId>>,
}

/// The beginning of a name.
fn cut(name: &str) -> &str {
    &name[..name.floor_char_boundary(MAX_NAME)]
}

/// The nodes so far. Node 0 is the image.
pub struct Draft {
    nodes: Vec<Sketch>,
    /// Number of values of all parameters and constants, and its maximum.
    stored: usize,
    most_stored: usize,
}

impl Draft {
    /// Starts with the image, whose name in the file is `origin`. Parameters and constants may have
    /// `most_stored` values, so that a small file that reads one tensor over and over does not grow without
    /// bound.
    ///
    /// # Errors
    /// If the shape is not a valid image.
    pub fn new(image: Shape, origin: &str, most_stored: usize) -> Result<Self, String> {
        let mut draft = Self { nodes: Vec::new(), stored: 0, most_stored: most_stored.min(MAX_STORED) };
        draft.add("image", origin, Op::Input { shape: image }, &[], Vec::new())?;
        Ok(draft)
    }

    pub fn node(&self, node: usize) -> &Sketch {
        &self.nodes[node]
    }

    /// Adds a node with the canonical form of an operation, and returns its place. A change of shape reads what was there
    /// before other such changes; if that has the shape already, nothing is added.
    ///
    /// # Errors
    /// If the shapes do not fit the operation, or something is too large.
    pub fn add(
        &mut self,
        name: &str,
        origin: &str,
        op: Op,
        inputs: &[usize],
        params: Params,
    ) -> Result<usize, String> {
        let mut inputs = inputs.to_vec();
        let op = self.without_moves(op, &inputs);
        if let (Op::Reshape { .. } | Op::Flatten, [input]) = (&op, &mut inputs[..]) {
            while let Op::Reshape { .. } | Op::Flatten = self.nodes[*input].op {
                *input = self.nodes[*input].inputs[0];
            }
        }
        let reads: Vec<(&Op, &Shape)> =
            inputs.iter().map(|&input| &self.nodes[input]).map(|node| (&node.op, &node.shape)).collect();
        let op = op.canonical(&reads);
        let shapes: Vec<&Shape> = reads.iter().map(|(_, shape)| *shape).collect();
        let shape = op.infer(&shapes)?;
        let elements = shape.iter().try_fold(1usize, |product, &dim| product.checked_mul(dim));
        if elements.is_none_or(|elements| elements > MAX_ACTIVATION) {
            return Err(format!("gives {shape:?} values for one image, too many"));
        }
        if let (Op::Reshape { .. } | Op::Flatten, &[input]) = (&op, &inputs[..])
            && self.nodes[input].shape == shape
        {
            return Ok(input);
        }
        let mut constant = 0;
        if let Op::Constant { values } = &op {
            if values.iter().any(|value| value.is_nan()) {
                return Err("holds NaN".into());
            }
            constant = values.len();
        }
        self.stored += constant + params.iter().map(|array| array.len()).sum::<usize>();
        if self.stored > self.most_stored {
            return Err(format!("brings parameters and constants to more than {} values", self.most_stored));
        }
        if self.nodes.len() >= MAX_NODES {
            return Err(format!("there are more than {MAX_NODES} nodes"));
        }
        let (name, origin) = (cut(name).to_string(), cut(origin).to_string());
        self.nodes.push(Sketch { name, op, inputs, shape, params, origin });
        Ok(self.nodes.len() - 1)
    }

    /// A Transpose that moves only axes of length 1 is a change of shape.
    fn without_moves(&self, op: Op, inputs: &[usize]) -> Op {
        if let (Op::Transpose { order }, &[input]) = (&op, inputs) {
            let from = &self.nodes[input].shape;
            let shape: Option<Shape> = order.iter().map(|&axis| from.get(axis).copied()).collect();
            if let Some(shape) = shape
                && order.len() == from.len()
                && order.iter().filter(|&&axis| from[axis] != 1).is_sorted()
            {
                return Op::Reshape { shape };
            }
        }
        op
    }

    /// Closes the graph: nodes that no output reads are left out, names are made unique.
    ///
    /// # Errors
    /// If parameters do not fit their nodes.
    pub fn finish(self, outputs: &[(&str, usize)]) -> Result<Finished, String> {
        let mut wanted = vec![false; self.nodes.len()];
        wanted[0] = true;
        outputs.iter().for_each(|(_, node)| wanted[*node] = true);
        for (index, node) in self.nodes.iter().enumerate().rev() {
            if wanted[index] {
                node.inputs.iter().for_each(|&input| wanted[input] = true);
            }
        }
        let (mut builder, image) =
            Builder::new(self.nodes[0].shape.clone()).map_err(|error| error.to_string())?;
        let mut ids: Vec<Option<NodeId>> = vec![None; self.nodes.len()];
        ids[0] = Some(image);
        let mut names = Names::default();
        names.unique(&self.nodes[0].name, &[]);
        let mut origins = vec![self.nodes[0].origin.clone()];
        let mut params = vec![Vec::new()];
        let order = self.order(&wanted);
        let mut nodes: Vec<Option<Sketch>> = self.nodes.into_iter().map(Some).collect();
        for index in order {
            let Some(node) = nodes[index].take() else { continue };
            let inputs: Vec<NodeId> = node.inputs.iter().filter_map(|&input| ids[input]).collect();
            let shapes: Vec<&Shape> = inputs.iter().map(|id| builder.shape(*id)).collect();
            let name = names.unique(&node.name, node.op.facts(&shapes, &node.shape).parts);
            let id = builder.add(&name, node.op, &inputs).map_err(|error| error.to_string())?;
            ids[index] = Some(id);
            origins.push(node.origin);
            params.push(node.params);
        }
        let outputs: Vec<(&str, NodeId)> =
            outputs.iter().filter_map(|(name, node)| Some((*name, ids[*node]?))).collect();
        let graph = builder.finish(&outputs);
        let mut weights = Weights::new();
        for (node, arrays) in graph.nodes().iter().zip(params) {
            for (spec, array) in node_params(&graph, node).into_iter().zip(arrays) {
                weights.insert(spec.name, Rc::unwrap_or_clone(array));
            }
        }
        let model = Model::new(graph, weights).map_err(|error| error.to_string())?;
        Ok(Finished { model, origins, ids })
    }

    /// The wanted nodes after the image, each constant just before its first reader: the node at which the
    /// constant was first met may have been left out.
    fn order(&self, wanted: &[bool]) -> Vec<usize> {
        let constant = |&index: &usize| matches!(self.nodes[index].op, Op::Constant { .. });
        let kept = || (1..self.nodes.len()).filter(|&index| wanted[index]);
        let mut order = Vec::new();
        for index in kept().filter(|index| !constant(index)) {
            order.extend(self.nodes[index].inputs.iter().copied().filter(constant));
            order.push(index);
        }
        order.extend(kept().filter(constant));
        let mut placed = vec![false; self.nodes.len()];
        order.retain(|&index| !std::mem::replace(&mut placed[index], true));
        order
    }
}

/// Names of a graph's nodes, and of the tensors that emission will write for them.
struct Names {
    taken: HashSet<String>,
    /// How often a name was asked for again.
    again: HashMap<String, usize>,
}

impl Default for Names {
    /// The names of the outputs are taken from the start.
    fn default() -> Self {
        let taken = HashSet::from([Graph::LOGITS, Graph::EMBEDDING].map(String::from));
        Self { taken, again: HashMap::new() }
    }
}

impl Names {
    /// The name, with a number added if it is taken, or if one of the names `name.part` that emission writes
    /// is taken.
    fn unique(&mut self, name: &str, parts: &[&str]) -> String {
        let mut unique = name.to_string();
        while self.taken.contains(&unique)
            || parts.iter().any(|part| self.taken.contains(&format!("{unique}.{part}")))
        {
            let again = self.again.entry(name.to_string()).or_insert(1);
            *again += 1;
            unique = format!("{name}.{again}");
        }
        self.taken.extend(parts.iter().map(|part| format!("{unique}.{part}")));
        self.taken.insert(unique.clone());
        unique
    }
}
