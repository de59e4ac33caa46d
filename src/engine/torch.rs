//! libtorch as an engine: the reference that the exported file is compared with.

use std::collections::HashMap;

use anyhow::{Context, Result};
use ndarray::{ArrayD, ArrayViewD};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use tch::{Kind, Tensor};

use crate::config::Device;
use crate::graph::{Graph, Model, Node, Op};
use crate::torch::{
    Mode, Network, apply, batch_tensor, resolve_device, set_convolutions, set_threads, to_f32, to_f64,
};

use super::Engine;

/// A graph and its weights in libtorch, in float32 and in inference mode.
pub struct TorchEngine {
    network: Network,
    bound: Option<Tensor>,
}

impl TorchEngine {
    /// Puts the network on a device. `threads` applies to the whole process, as libtorch has no finer setting.
    ///
    /// # Errors
    /// If the device is not available.
    pub fn new(model: &Model, device: Device, threads: usize) -> Result<Self> {
        set_threads(threads);
        // TF32 may be on, either from training or from libtorch's own defaults.
        set_convolutions(false, false)?;
        let network = Network::new(model, resolve_device(device)?, Kind::Float)?;
        Ok(Self { network, bound: None })
    }

    /// The gradient of `Σ direction · logits` with respect to the images.
    ///
    /// # Errors
    /// If the shapes do not fit or the graph has no logits.
    pub fn ascent(&self, images: ArrayViewD<'_, f32>, direction: ArrayViewD<'_, f32>) -> Result<ArrayD<f32>> {
        let device = self.network.device();
        let images = batch_tensor(images, device)?.f_set_requires_grad(true)?;
        let place = logits_place(self.network.graph())?;
        let logits = self.network.forward(&images, Mode::Eval)?.swap_remove(place);
        let along = logits.f_mul(&batch_tensor(direction, device)?)?.f_sum(Kind::Float)?;
        let gradients = Tensor::f_run_backward(&[along], &[&images], false, false)?;
        to_f32(&gradients[0])
    }
}

fn logits_place(graph: &Graph) -> Result<usize> {
    let place = graph.outputs().iter().position(|output| output.name == Graph::LOGITS);
    place.context("the graph has no output 'logits'")
}

impl Engine for TorchEngine {
    fn name(&self) -> String {
        match self.network.device() {
            tch::Device::Cpu => "libtorch CPU".into(),
            tch::Device::Cuda(index) => format!("libtorch CUDA {index}"),
            other @ (tch::Device::Mps | tch::Device::Vulkan) => format!("libtorch {other:?}"),
        }
    }

    fn outputs(&self) -> Vec<String> {
        self.network.graph().outputs().iter().map(|output| output.name.clone()).collect()
    }

    fn run(&mut self, images: ArrayViewD<'_, f32>) -> Result<Vec<ArrayD<f32>>> {
        let _no_grad = tch::no_grad_guard();
        let images = batch_tensor(images, self.network.device())?;
        self.network.forward(&images, Mode::Eval)?.iter().map(to_f32).collect()
    }

    fn bind(&mut self, images: ArrayViewD<'_, f32>) -> Result<()> {
        self.bound = Some(batch_tensor(images, self.network.device())?);
        Ok(())
    }

    fn run_bound(&mut self) -> Result<()> {
        let _no_grad = tch::no_grad_guard();
        let images = self.bound.as_ref().context("no batch is bound")?;
        self.network.forward(images, Mode::Eval)?;
        if let tch::Device::Cuda(index) = self.network.device() {
            tch::Cuda::synchronize(index as i64);
        }
        Ok(())
    }
}

/// The ground truth of a run: the checkpoint in its own training graph, without folding, in float64 on the CPU.
pub struct Truth {
    network: Network,
    logits: usize,
}

impl Truth {
    /// Prepares the float64 network.
    ///
    /// # Errors
    /// If the graph has no logits.
    pub fn new(model: &Model) -> Result<Self> {
        let logits = logits_place(model.graph())?;
        Ok(Self { network: Network::new(model, tch::Device::Cpu, Kind::Double)?, logits })
    }

    /// Logits of a batch `[batch, channels, height, width]`.
    ///
    /// # Errors
    /// If the batch does not fit the network.
    pub fn logits(&self, images: ArrayViewD<'_, f32>) -> Result<ArrayD<f64>> {
        let _no_grad = tch::no_grad_guard();
        let images = batch_tensor(images, tch::Device::Cpu)?.f_to_kind(Kind::Double)?;
        to_f64(&self.network.forward(&images, Mode::Eval)?[self.logits])
    }

    /// Like [`Truth::logits`], but passes the value of every node to `seen`, with the node's index in the graph. An
    /// array that `seen` returns replaces the value for all later nodes.
    ///
    /// # Errors
    /// If the batch does not fit the network or `seen` fails.
    pub fn logits_through(
        &self,
        images: ArrayViewD<'_, f32>,
        seen: &mut dyn FnMut(usize, ArrayD<f64>) -> Result<Option<ArrayD<f64>>>,
    ) -> Result<ArrayD<f64>> {
        let _no_grad = tch::no_grad_guard();
        let images = batch_tensor(images, tch::Device::Cpu)?.f_to_kind(Kind::Double)?;
        let outputs = self.network.forward_through(&images, &mut |place, value| {
            Ok(match seen(place, to_f64(&value)?)? {
                Some(other) => batch_tensor(other.view(), tch::Device::Cpu)?,
                None => value,
            })
        })?;
        to_f64(&outputs[self.logits])
    }
}

/// Evaluations of a network in float32, which show how far honest rounding takes it from its values in float64.
///
/// The first is libtorch's own. The next two take every mean over height and width by adding one value after another, from
/// either end, as runtimes do, where libtorch adds in pairs: over ten thousand pixels that is a thousand times less exact. In the others
/// every value that a node passes on is moved by up to one unit in its last place, at random, as if the products of the next
/// node were rounded differently: this is the discrete stochastic arithmetic of Vignes (1993), with the network's own nodes
/// as its operations.
pub struct Rounding {
    network: Network,
}

/// Number of evaluations with random rounding.
const ROUNDED: u64 = 3;

impl Rounding {
    /// Prepares the float32 network.
    ///
    /// # Errors
    /// If libtorch fails.
    pub fn new(model: &Model) -> Result<Self> {
        set_convolutions(false, false)?;
        Ok(Self { network: Network::new(model, tch::Device::Cpu, Kind::Float)? })
    }

    /// The outputs with every mean taken one value after another; `None` if there is no mean.
    fn one_by_one(&self, images: &Tensor, backwards: bool) -> Result<Option<Vec<Tensor>>> {
        let nodes = self.network.graph().nodes();
        // The values that means read, by place.
        let mut read: HashMap<usize, Option<Tensor>> = nodes
            .iter()
            .filter(|node| mean_axes(node).is_some())
            .map(|node| (node.inputs[0].index(), None))
            .collect();
        if read.is_empty() {
            return Ok(None);
        }
        let outputs = self.network.forward_through(images, &mut |place, value| {
            let node = &nodes[place];
            let source = node.inputs.first().and_then(|input| read.get(&input.index()));
            let value = match (mean_axes(node), source) {
                (Some(axes), Some(Some(source))) => sequential_mean(source, axes, backwards)?,
                (Some(_) | None, Some(_) | None) => value,
            };
            if let Some(kept) = read.get_mut(&place) {
                *kept = Some(value.shallow_clone());
            }
            Ok(value)
        })?;
        Ok(Some(outputs))
    }

    /// The logits of a batch in every evaluation.
    ///
    /// # Errors
    /// If the batch does not fit the network.
    pub fn logits(&self, images: ArrayViewD<'_, f32>) -> Result<Vec<ArrayD<f64>>> {
        let _no_grad = tch::no_grad_guard();
        let place = logits_place(self.network.graph())?;
        let images = batch_tensor(images, tch::Device::Cpu)?;
        let mut found = vec![to_f64(&self.network.forward(&images, Mode::Eval)?[place])?];
        for backwards in [false, true] {
            if let Some(outputs) = self.one_by_one(&images, backwards)? {
                found.push(to_f64(&outputs[place])?);
            }
        }
        for seed in 0..ROUNDED {
            let mut rng = ChaCha8Rng::seed_from_u64(seed);
            let outputs = self.network.forward_through(&images, &mut |_, value| moved(&value, &mut rng))?;
            found.push(to_f64(&outputs[place])?);
        }
        Ok(found)
    }
}

/// The axes of `[batch, …]` over which a node takes a mean, if they are its last ones.
fn mean_axes(node: &Node) -> Option<usize> {
    if let Op::Mean { axes } = &node.op {
        let first = node.shape.len() - axes.len();
        return axes.iter().copied().eq(first..node.shape.len()).then_some(axes.len());
    }
    (node.op == Op::GlobalAvgPool).then_some(2)
}

/// Means over the last axes, which keep length 1, of values that are added one after another in float32.
fn sequential_mean(values: &Tensor, axes: usize, backwards: bool) -> Result<Tensor> {
    let size = values.size();
    let (kept, summed) = size.split_at(size.len() - axes);
    let count: i64 = summed.iter().product();
    let array = to_f32(values)?;
    let flat = array.as_standard_layout();
    let flat = flat.as_slice().context("an array lies in one piece")?;
    let mean = |chunk: &[f32]| {
        let sum: f32 = if backwards { chunk.iter().rev().sum() } else { chunk.iter().sum() };
        sum / count as f32
    };
    let means: Vec<f32> = flat.chunks(count.max(1) as usize).map(mean).collect();
    let shape: Vec<i64> = kept.iter().copied().chain(summed.iter().map(|_| 1)).collect();
    Ok(Tensor::f_from_slice(&means)?.f_reshape(shape.as_slice())?)
}

/// A tensor whose values are moved by up to one unit in the last place.
fn moved(value: &Tensor, rng: &mut ChaCha8Rng) -> Result<Tensor> {
    let share = |_| (rng.next_u32() as f32 / u32::MAX as f32 * 2.0 - 1.0) * f32::EPSILON;
    let shares: Vec<f32> = (0..value.numel()).map(share).collect();
    let shares = Tensor::f_from_slice(&shares)?.f_reshape(value.size().as_slice())?;
    Ok(value.f_add(&value.f_mul(&shares)?)?)
}

/// Computes a node's value in float64 from the given parameters, in the order of [`crate::graph::node_params`], and
/// inputs `[batch, …]`.
///
/// # Errors
/// If libtorch rejects the node or its operands.
pub fn node_value(node: &Node, params: &[ArrayD<f64>], inputs: &[ArrayD<f64>]) -> Result<ArrayD<f64>> {
    let _no_grad = tch::no_grad_guard();
    let tensors = |arrays: &[ArrayD<f64>]| -> Result<Vec<Tensor>> {
        arrays.iter().map(|array| batch_tensor(array.view(), tch::Device::Cpu)).collect()
    };
    to_f64(&apply(node, &tensors(params)?, &tensors(inputs)?)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::Builder;

    /// The relative errors of evaluations on an image of one grey, with or without a mean over its 16,384 pixels.
    fn errors(mean: bool) -> Vec<f64> {
        let (mut builder, mut last) = Builder::new(vec![1, 128, 128]).unwrap();
        if mean {
            last = builder.add("mean", Op::GlobalAvgPool, &[last]).unwrap();
        } else {
            let corner = |axis| Op::Slice { axis, start: 0, end: 1, step: 1 };
            last = builder.add("row", corner(1), &[last]).unwrap();
            last = builder.add("pixel", corner(2), &[last]).unwrap();
        }
        let flat = builder.add("flat", Op::Flatten, &[last]).unwrap();
        let logits = builder.add("fc", Op::Linear { out_features: 1, bias: false }, &[flat]).unwrap();
        let model = Model::untrained(builder.finish(&[(Graph::LOGITS, logits)]), 1);
        let image = ArrayD::from_elem(vec![1, 1, 128, 128], 0.1f32);
        let truth = Truth::new(&model).unwrap().logits(image.view()).unwrap();
        let found = Rounding::new(&model).unwrap().logits(image.view()).unwrap();
        found.iter().map(|logits| logits[[0, 0].as_slice()] / truth[[0, 0].as_slice()] - 1.0).collect()
    }

    #[test]
    fn long_sums_one_by_one_are_among_the_evaluations() {
        let found = errors(true);
        assert_eq!(found.len(), 3 + ROUNDED as usize);
        assert!(found[0].abs() < 1e-6, "libtorch adds in pairs: {found:?}");
        // The sum of 16,384 equal numbers, added one after another in float32, is 1.5e-4 too small.
        assert!(found[1..3].iter().all(|error| (error + 1.544e-4).abs() < 1e-6), "{found:?}");
        let found = errors(false);
        assert_eq!(found.len(), 1 + ROUNDED as usize);
        assert!(found.iter().all(|error| error.abs() < 1e-6), "{found:?}");
    }
}
