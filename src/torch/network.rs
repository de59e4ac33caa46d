//! A graph with its parameters in libtorch.

use anyhow::{Context, Result};
use ndarray::ArrayD;
use tch::{Device, Kind, Tensor};

use crate::graph::{Graph, Model, Node, ParamSpec, Role, Weights, node_params};

use super::arrays::{batch_tensor, to_f32};
use super::forward::{Mode, forward, forward_through};
use super::steps::{Step, steps};

/// The starts of two parameters differ by a multiple of this number of elements: 64 bytes of float32.
const ALIGNMENT: usize = 16;

/// A network that can run and be trained.
///
/// All trainable parameters are leaf views of one flat buffer, so that an optimiser needs only a few operations
/// on [`Network::flat`], and a copy of that buffer is a checkpoint. Convolution weights are channels-last in it,
/// the layout in which libtorch's CPU convolutions are fastest, except in float64, for which libtorch has no such
/// convolutions.
pub struct Network {
    graph: Graph,
    /// By node, in the order of [`node_params`].
    params: Vec<Vec<Tensor>>,
    specs: Vec<Vec<ParamSpec>>,
    flat: Tensor,
    /// Gradients, laid out like `flat`.
    gradient: Tensor,
    /// Views of `gradient` by node, one per trainable parameter.
    gradients: Vec<Vec<Tensor>>,
    steps: Vec<Step>,
    /// Trainable parameters that keep their values: places in [`Network::trainable`], and the values.
    fixed: Vec<(usize, Tensor)>,
    /// The type in which images and activations are computed.
    compute: Kind,
}

impl Network {
    /// Puts a model on a device, as float32 or float64.
    ///
    /// # Errors
    /// If memory runs out.
    pub fn new(model: &Model, device: Device, kind: Kind) -> Result<Self> {
        let graph = model.graph();
        let specs: Vec<Vec<ParamSpec>> = graph.nodes().iter().map(|node| node_params(graph, node)).collect();
        let total: usize = specs.iter().flatten().filter(|spec| trainable(spec)).map(padded).sum();
        let flat = Tensor::f_zeros([total as i64], (kind, device))?;
        let gradient = flat.f_zeros_like()?;
        let mut network = Self {
            graph: graph.clone(),
            params: Vec::new(),
            specs,
            flat,
            gradient,
            gradients: Vec::new(),
            steps: steps(graph),
            fixed: Vec::new(),
            compute: kind,
        };
        let mut offset = 0;
        for specs in &network.specs {
            let mut tensors = Vec::new();
            let mut gradients = Vec::new();
            for spec in specs {
                tensors.push(if trainable(spec) {
                    let leaf = view(&network.flat, spec, offset)?.f_detach()?.f_set_requires_grad(true)?;
                    gradients.push(view(&network.gradient, spec, offset)?);
                    offset += padded(spec);
                    leaf
                } else {
                    Tensor::f_zeros(size(spec).as_slice(), (kind, device))?
                });
            }
            network.params.push(tensors);
            network.gradients.push(gradients);
        }
        network.load(model.weights())?;
        Ok(network)
    }

    pub fn graph(&self) -> &Graph {
        &self.graph
    }

    pub fn device(&self) -> Device {
        self.flat.device()
    }

    /// All trainable parameters as one vector; the gaps between them are zero.
    pub fn flat(&self) -> &Tensor {
        &self.flat
    }

    /// The trainable parameters, in the order of [`Network::flat`].
    pub fn trainable(&self) -> Vec<&Tensor> {
        let pairs = self.specs.iter().flatten().zip(self.params.iter().flatten());
        pairs.filter(|(spec, _)| trainable(spec)).map(|(_, tensor)| tensor).collect()
    }

    /// The names of [`Network::trainable`].
    pub fn trainable_names(&self) -> Vec<&str> {
        self.specs.iter().flatten().filter(|spec| trainable(spec)).map(|spec| spec.name.as_str()).collect()
    }

    /// The gradients of the last backward pass, by parameter, in the order of [`Network::trainable`].
    pub fn gradients(&self) -> impl Iterator<Item = &Tensor> {
        self.gradients.iter().flatten()
    }

    /// The gradients of the last backward pass, laid out like [`Network::flat`].
    pub fn gradient(&self) -> &Tensor {
        &self.gradient
    }

    /// Replaces one parameter's gradient.
    ///
    /// # Errors
    /// If there is no trainable parameter with that name and shape.
    pub fn set_gradient(&mut self, name: &str, value: &Tensor) -> Result<()> {
        let trainable = self.specs.iter().flatten().filter(|spec| trainable(spec));
        let index = trainable.into_iter().position(|spec| spec.name == name);
        let index = index.with_context(|| format!("the network has no parameter '{name}'"))?;
        let mut places = self.gradients.iter_mut().flatten();
        places.nth(index).context("every parameter has a place")?.f_copy_(value)?;
        Ok(())
    }

    /// 1 where [`Network::flat`] holds a convolution's or linear layer's weight, 0 at normalisations,
    /// biases and gaps.
    ///
    /// # Errors
    /// If memory runs out.
    pub fn mask_of_weights(&self) -> Result<Tensor> {
        let mask = self.flat.f_zeros_like()?;
        let mut offset = 0;
        for spec in self.specs.iter().flatten().filter(|spec| trainable(spec)) {
            if spec.role == Role::Weight {
                let _ = mask.f_narrow(0, offset as i64, elements(spec) as i64)?.f_fill_(1.0)?;
            }
            offset += padded(spec);
        }
        Ok(mask)
    }

    /// Computes images and activations in another type, such as bfloat16 on a GPU; parameters and statistics
    /// keep theirs.
    pub fn computing_in(mut self, kind: Kind) -> Self {
        self.compute = kind;
        self
    }

    /// Keeps the values that these trainable parameters have now: their gradients are zero, and [`Network::restore`] undoes what an
    /// optimiser does to them.
    ///
    /// # Errors
    /// If there is no trainable parameter with one of these names.
    pub fn fixing(mut self, names: &[String]) -> Result<Self> {
        for name in names {
            let place = self.trainable_names().iter().position(|other| other == name);
            let place = place.with_context(|| format!("the network has no parameter '{name}'"))?;
            let value = self.trainable()[place].f_detach()?.copy();
            self.fixed.push((place, value));
        }
        Ok(self)
    }

    /// Gives fixed parameters their values back, after weights were updated.
    ///
    /// # Errors
    /// If a copy fails.
    pub fn restore(&self) -> Result<()> {
        for (place, value) in &self.fixed {
            tch::no_grad(|| self.trainable()[*place].shallow_clone().f_copy_(value))?;
        }
        Ok(())
    }

    /// Zeroes the gradients of fixed parameters.
    pub(super) fn forget_fixed(&self) -> Result<()> {
        for (place, _) in &self.fixed {
            let gradient = self.gradients().nth(*place).context("every parameter has a place")?;
            let _ = gradient.shallow_clone().f_zero_()?;
        }
        Ok(())
    }

    pub(super) fn compute(&self) -> Kind {
        self.compute
    }

    pub(super) fn steps(&self) -> &[Step] {
        &self.steps
    }

    /// The parameters of a node, in the order of [`node_params`].
    pub(super) fn params(&self, node: usize) -> &[Tensor] {
        &self.params[node]
    }

    /// As [`Self::params`], for writing.
    pub(super) fn params_mut(&mut self, node: usize) -> &mut [Tensor] {
        &mut self.params[node]
    }

    /// A node, its parameters, and the indices of its trainable parameters' gradients.
    pub(super) fn node_and_gradients(&mut self, node: usize) -> (&Node, &[Tensor], &mut [Tensor]) {
        (&self.graph.nodes()[node], &self.params[node], &mut self.gradients[node])
    }

    /// Runs a batch `[batch, channels, height, width]`; the outputs are in the graph's order.
    ///
    /// # Errors
    /// If libtorch refuses a node.
    pub fn forward(&self, images: &Tensor, mode: Mode) -> Result<Vec<Tensor>> {
        forward(&self.graph, &self.params, images, mode)
    }

    /// Runs a batch in inference mode, with every node's value and place passed to `seen`; later nodes read
    /// the value that it returns.
    ///
    /// # Errors
    /// If libtorch refuses a node, or if `seen` fails.
    pub fn forward_through(
        &self,
        images: &Tensor,
        seen: &mut dyn FnMut(usize, Tensor) -> Result<Tensor>,
    ) -> Result<Vec<Tensor>> {
        forward_through(&self.graph, &self.params, images, Mode::Eval, seen)
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

/// The view of a flat buffer that is one parameter.
fn view(flat: &Tensor, spec: &ParamSpec, offset: usize) -> Result<Tensor> {
    let piece = flat.f_narrow(0, offset as i64, elements(spec) as i64)?;
    Ok(match size(spec).as_slice() {
        &[out, input, height, width] if flat.kind() == Kind::Float => {
            piece.f_view([out, height, width, input])?.f_permute([0, 3, 1, 2])?
        }
        other => piece.f_view(other)?,
    })
}
