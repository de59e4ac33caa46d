//! The graph under construction: nodes are added one after another, and what the outputs do not need is
//! left out at the end.

use std::collections::{HashMap, HashSet};
use std::rc::Rc;

use ndarray::ArrayD;

use crate::graph::{Builder, Graph, NodeId, Op, Shape, Weights, node_params};

/// Values of one activation for one image, at most: 1 GiB in float32.
const MAX_ACTIVATION: usize = 1 << 28;

/// Values of all parameters, at most: 2 GiB in float32, protobuf's own limit.
const MAX_PARAMETERS: usize = 1 << 29;

/// Nodes, at most.
const MAX_NODES: usize = 1 << 17;

/// Parameters in the order of [`node_params`].
pub type Params = Vec<Rc<ArrayD<f32>>>;

/// A node that may become one of the graph.
pub struct Sketch {
    pub name: String,
    pub op: Op,
    pub inputs: Vec<usize>,
    /// Of one image, without the batch.
    pub shape: Shape,
    pub params: Params,
    pub origin: String,
}

/// A closed graph with its weights.
pub struct Finished {
    pub graph: Graph,
    pub weights: Weights,
    /// By node of the graph.
    pub origins: Vec<String>,
    /// What became of each node of the draft.
    pub ids: Vec<Option<NodeId>>,
}

/// Nodes so far. Node 0 is the image.
pub struct Draft {
    nodes: Vec<Sketch>,
    names: HashSet<String>,
    /// How often a name was wanted again.
    again: HashMap<String, usize>,
    parameters: usize,
}

impl Draft {
    /// Starts with the image, which the file calls `origin`.
    ///
    /// # Errors
    /// If the shape is no image.
    pub fn new(image: Shape, origin: &str) -> Result<Self, String> {
        // What the outputs will be called is nobody else's name.
        let names = HashSet::from([Graph::LOGITS, Graph::EMBEDDING].map(String::from));
        let mut draft = Self { nodes: Vec::new(), names, again: HashMap::new(), parameters: 0 };
        draft.add("image", origin, Op::Input { shape: image }, &[], Vec::new())?;
        Ok(draft)
    }

    pub fn node(&self, node: usize) -> &Sketch {
        &self.nodes[node]
    }

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
        let shapes: Vec<&Shape> = inputs.iter().map(|&input| &self.nodes[input].shape).collect();
        let shape = op.infer(&shapes)?;
        let elements = shape.iter().try_fold(1usize, |product, &dim| product.checked_mul(dim));
        if elements.is_none_or(|elements| elements > MAX_ACTIVATION) {
            return Err(format!("gives {shape:?} values for one image, too many"));
        }
        self.parameters += params.iter().map(|array| array.len()).sum::<usize>();
        if self.parameters > MAX_PARAMETERS {
            return Err("has more parameters than fit into 2 GiB".into());
        }
        if self.nodes.len() >= MAX_NODES {
            return Err(format!("there are more than {MAX_NODES} nodes"));
        }
        let name = self.unique(name);
        self.nodes.push(Sketch { name, op, inputs: inputs.to_vec(), shape, params, origin: origin.into() });
        Ok(self.nodes.len() - 1)
    }

    /// The name, with a number behind it if it is taken.
    fn unique(&mut self, name: &str) -> String {
        if self.names.insert(name.to_string()) {
            return name.to_string();
        }
        loop {
            let again = self.again.entry(name.to_string()).or_insert(1);
            *again += 1;
            let numbered = format!("{name}.{again}");
            if self.names.insert(numbered.clone()) {
                return numbered;
            }
        }
    }

    /// Closes the graph: nodes that no output reads are left out.
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
        let mut origins = vec![self.nodes[0].origin.clone()];
        let mut params = vec![Vec::new()];
        for (index, node) in self.nodes.into_iter().enumerate().skip(1).filter(|(index, _)| wanted[*index]) {
            let inputs: Vec<NodeId> = node.inputs.iter().filter_map(|&input| ids[input]).collect();
            let id = builder.add(&node.name, node.op, &inputs).map_err(|error| error.to_string())?;
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
        weights.fit(&graph).map_err(|error| error.to_string())?;
        Ok(Finished { graph, weights, origins, ids })
    }
}
