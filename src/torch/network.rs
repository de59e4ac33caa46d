//! A graph with its parameters in libtorch.

use anyhow::{Context, Result};
use ndarray::ArrayD;
use tch::{Device, Kind, Tensor};

use crate::graph::{Graph, ParamSpec, Role, Weights, node_params};

use super::arrays::{batch_tensor, to_f32};
use super::forward::{Mode, forward};

/// Elements between the starts of two parameters are a multiple of this: 64 bytes of float32.
const ALIGNMENT: usize = 16;

/// A network that can run and learn.
///
/// All trainable parameters are leaf views of one flat buffer, so that an optimiser is a few
/// operations on [`Network::flat`], and a copy of that buffer is a checkpoint. Convolution weights
/// lie channels-last in it, the layout in which libtorch's CPU convolutions are fastest.
pub struct Network {
    graph: Graph,
    /// By node, in the order of [`node_params`].
    params: Vec<Vec<Tensor>>,
    specs: Vec<Vec<ParamSpec>>,
    flat: Tensor,
    /// Zeros between the parameters, by trainable parameter.
    gaps: Vec<Tensor>,
}

impl Network {
    /// Puts a graph and its weights on a device, as float32 or float64.
    ///
    /// # Errors
    /// If the weights do not fit the graph, or memory runs out.
    pub fn new(graph: &Graph, weights: &Weights, device: Device, kind: Kind) -> Result<Self> {
        weights.fit(graph)?;
        let specs: Vec<Vec<ParamSpec>> = graph.nodes().iter().map(|node| node_params(graph, node)).collect();
        let total: usize = specs.iter().flatten().filter(|spec| trainable(spec)).map(padded).sum();
        let flat = Tensor::f_zeros([total as i64], (kind, device))?;
        let mut network = Self { graph: graph.clone(), params: Vec::new(), specs, flat, gaps: Vec::new() };
        let mut offset = 0;
        for specs in &network.specs {
            let mut tensors = Vec::new();
            for spec in specs {
                tensors.push(if trainable(spec) {
                    let view = leaf_view(&network.flat, spec, offset)?;
                    offset += padded(spec);
                    let gap = (padded(spec) - elements(spec)) as i64;
                    network.gaps.push(Tensor::f_zeros([gap], (kind, device))?);
                    view
                } else {
                    Tensor::f_zeros(size(spec).as_slice(), (kind, device))?
                });
            }
            network.params.push(tensors);
        }
        network.load(weights)?;
        Ok(network)
    }

    pub fn graph(&self) -> &Graph {
        &self.graph
    }

    pub fn device(&self) -> Device {
        self.flat.device()
    }

    /// All trainable parameters as one vector; what lies between them is zero.
    pub fn flat(&self) -> &Tensor {
        &self.flat
    }

    /// The trainable parameters, in the order of [`Network::flat`].
    pub fn trainable(&self) -> Vec<&Tensor> {
        let pairs = self.specs.iter().flatten().zip(self.params.iter().flatten());
        pairs.filter(|(spec, _)| trainable(spec)).map(|(_, tensor)| tensor).collect()
    }

    /// Gradients of [`Network::trainable`] as one vector laid out like [`Network::flat`].
    ///
    /// # Errors
    /// If libtorch fails.
    pub fn flatten_gradients(&self, gradients: &[Tensor]) -> Result<Tensor> {
        let mut pieces = Vec::with_capacity(2 * gradients.len());
        for (gradient, gap) in gradients.iter().zip(&self.gaps) {
            let ordered = match gradient.dim() {
                4 => gradient.f_permute([0, 2, 3, 1])?,
                _ => gradient.shallow_clone(),
            };
            pieces.push(ordered.f_reshape([-1])?);
            pieces.push(gap.shallow_clone());
        }
        Ok(Tensor::f_cat(&pieces, 0)?)
    }

    /// Runs a batch `[batch, channels, height, width]`; the outputs come in the graph's order.
    ///
    /// # Errors
    /// If libtorch refuses a node.
    pub fn forward(&self, images: &Tensor, mode: Mode) -> Result<Vec<Tensor>> {
        forward(&self.graph, &self.params, images, mode)
    }

    /// Logits `[batch, classes]` and embedding `[batch, features]`.
    ///
    /// # Errors
    /// If the graph lacks one of these outputs, or libtorch refuses a node.
    pub fn classify(&self, images: &Tensor, mode: Mode) -> Result<(Tensor, Tensor)> {
        let outputs = self.forward(images, mode)?;
        let named = |name: &str| {
            let index = self.graph.outputs().iter().position(|output| output.name == name);
            let index = index.with_context(|| format!("the graph has no output '{name}'"))?;
            anyhow::Ok(outputs[index].shallow_clone())
        };
        Ok((named(Graph::LOGITS)?, named(Graph::EMBEDDING)?))
    }

    /// Copies all parameters and buffers out.
    ///
    /// # Errors
    /// If a copy fails.
    pub fn weights(&self) -> Result<Weights> {
        let mut weights = Weights::new();
        for (spec, tensor) in self.specs.iter().flatten().zip(self.params.iter().flatten()) {
            weights.insert(&spec.name, to_f32(tensor)?);
        }
        Ok(weights)
    }

    /// Overwrites all parameters and buffers.
    ///
    /// # Errors
    /// If the weights do not fit the graph.
    pub fn load(&mut self, weights: &Weights) -> Result<()> {
        weights.fit(&self.graph)?;
        let device = self.device();
        for (spec, tensor) in self.specs.iter().flatten().zip(self.params.iter_mut().flatten()) {
            let array: &ArrayD<f32> = weights.get(&spec.name).context("weights were checked to fit")?;
            let values = batch_tensor(array.view(), device)?;
            tch::no_grad(|| tensor.f_copy_(&values))?;
        }
        Ok(())
    }
}

fn trainable(spec: &ParamSpec) -> bool {
    spec.role != Role::Buffer
}

fn elements(spec: &ParamSpec) -> usize {
    spec.shape.iter().product()
}

fn padded(spec: &ParamSpec) -> usize {
    elements(spec).next_multiple_of(ALIGNMENT)
}

fn size(spec: &ParamSpec) -> Vec<i64> {
    spec.shape.iter().map(|&dim| dim as i64).collect()
}

fn leaf_view(flat: &Tensor, spec: &ParamSpec, offset: usize) -> Result<Tensor> {
    let piece = flat.f_narrow(0, offset as i64, elements(spec) as i64)?;
    let shaped = match size(spec).as_slice() {
        &[out, input, height, width] => piece.f_view([out, height, width, input])?.f_permute([0, 3, 1, 2])?,
        other => piece.f_view(other)?,
    };
    Ok(shaped.f_detach()?.f_set_requires_grad(true)?)
}
