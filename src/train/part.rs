//! A part of a trained network: statistics and the importance of channels are measured on training images, and the channels
//! that matter least go.

use anyhow::{Context, Result};
use tch::{Kind, Tensor};

use crate::config::{Device, Importance, Slimming};
use crate::contract::Normalization;
use crate::data::{Dataset, Split, ordered_batches};
use crate::graph::{
    Block, Coupling, Model, NodeId, Statistics, Weights, bare_convolutions, unfold_batch_norm, without_blocks,
};
use crate::plan::Part;
use crate::torch::{
    Gradients, Mode, Network, resolve_device, set_convolutions, set_threads, threads, to_f32,
};

use super::evaluate::on_device;
use super::losses::{Targets, cross_entropy};

/// Steps in which the running statistics of a part are estimated anew: with a momentum of 0.1, less than 1 % of those of the
/// whole network is left.
const STATISTICS_STEPS: usize = 50;

/// Takes a part out of a network.
///
/// # Errors
/// If an image cannot be read or libtorch fails.
pub fn take_part(part: &Part, settings: &Slimming, data: &Dataset, device: Device) -> Result<Model> {
    let images = Images::of(settings, data, device)?;
    let whole = prepared(&part.of, &part.without, part.batch_norm, &images)?;
    let coupling = Coupling::of(whole.graph());
    let goes = coupling.groups().iter().zip(&part.counts).any(|(group, count)| *count < group.units);
    match (goes, part.without.is_empty()) {
        (false, true) => Ok(whole),
        (false, false) => with_own_statistics(whole, &images, STATISTICS_STEPS),
        (true, _) => {
            Measured::new(whole, coupling, images, settings.by)?.part(&part.counts, STATISTICS_STEPS)
        }
    }
}

/// A trained network whose channels are ranked, so that parts of several sizes can be taken out of it.
pub struct Measured {
    whole: Model,
    coupling: Coupling,
    /// How much each unit of each group matters.
    importance: Vec<Vec<f64>>,
    images: Images,
}

impl Measured {
    /// Leaves out residual blocks, puts a BatchNorm behind each bare convolution, and ranks the channels of what is left.
    ///
    /// # Errors
    /// If an image cannot be read or libtorch fails.
    pub fn of(
        model: &Model,
        without: &[Block],
        settings: &Slimming,
        data: &Dataset,
        device: Device,
    ) -> Result<Self> {
        let images = Images::of(settings, data, device)?;
        let whole = prepared(model, without, true, &images)?;
        let coupling = Coupling::of(whole.graph());
        Self::new(whole, coupling, images, settings.by)
    }

    fn new(whole: Model, coupling: Coupling, images: Images, by: Importance) -> Result<Self> {
        let scores = match by {
            Importance::Magnitude => squares(&whole),
            Importance::Taylor => sensitivities(&whole, &images)?,
        };
        let importance = coupling.importance(whole.graph(), &scores);
        Ok(Self { whole, coupling, importance, images })
    }

    /// The network whose channels were ranked.
    pub fn whole(&self) -> &Model {
        &self.whole
    }

    pub fn coupling(&self) -> &Coupling {
        &self.coupling
    }

    /// How much each unit of each group matters.
    pub fn importance(&self) -> &[Vec<f64>] {
        &self.importance
    }

    /// The most important units of each group, as many as `counts` says, with running statistics estimated anew in
    /// `steps` steps.
    ///
    /// # Errors
    /// If an image cannot be read or libtorch fails.
    pub fn part(&self, counts: &[usize], steps: usize) -> Result<Model> {
        let slim = self.coupling.keep(&self.whole, &self.coupling.best(&self.importance, counts))?;
        with_own_statistics(slim, &self.images, steps)
    }
}

/// The network without some blocks, and with a BatchNorm behind each bare convolution if that is wanted.
fn prepared(model: &Model, without: &[Block], batch_norm: bool, images: &Images) -> Result<Model> {
    let whole = without_blocks(model, without)?;
    let convolutions = if batch_norm { bare_convolutions(whole.graph()) } else { Vec::new() };
    if convolutions.is_empty() {
        return Ok(whole);
    }
    let statistics = statistics(&whole, convolutions, images)?;
    Ok(unfold_batch_norm(&whole, &statistics)?)
}

/// The images that are measured, and where.
struct Images {
    split: Split,
    normalization: Normalization,
    batch: usize,
    device: tch::Device,
}

impl Images {
    fn of(settings: &Slimming, data: &Dataset, device: Device) -> Result<Self> {
        set_threads(threads());
        set_convolutions(false, false)?;
        Ok(Self {
            split: data.train.spread(settings.images),
            normalization: data.normalization.clone(),
            batch: settings.batch,
            device: resolve_device(device)?,
        })
    }

    /// Calls `see` with batches of normalised images and their labels, on the network's device.
    fn each(
        &self,
        network: &mut Network,
        see: &mut dyn FnMut(&mut Network, &Tensor, Tensor) -> Result<()>,
    ) -> Result<()> {
        for (place, batch) in ordered_batches(&self.split, &self.normalization, self.batch).enumerate() {
            let batch = batch?;
            // The statistics of a last batch of a few images would be poor.
            if place > 0 && batch.labels.len() < self.batch {
                break;
            }
            let (images, labels) = on_device(&batch.images, &batch.labels, network.device())?;
            see(network, &images, labels)?;
        }
        Ok(())
    }
}

/// Mean and variance of each channel of some convolutions.
fn statistics(
    model: &Model,
    convolutions: Vec<NodeId>,
    images: &Images,
) -> Result<Vec<(NodeId, Statistics)>> {
    let _no_grad = tch::no_grad_guard();
    let mut network = Network::new(model, images.device, Kind::Float)?;
    let mut count = 0.0;
    let mut sums: Vec<Option<[Tensor; 2]>> = convolutions.iter().map(|_| None).collect();
    images.each(&mut network, &mut |network, images, _| {
        let seen = images.size()[0] as f64;
        network.forward_through(images, &mut |node, value| {
            if let Some(place) = convolutions.iter().position(|conv| conv.index() == node) {
                // The means of a batch over images and pixels, in double precision, weighted by its images.
                let double = value.f_to_kind(Kind::Double)?;
                let mean = |value: &Tensor| value.f_mean_dim([0i64, 2, 3].as_slice(), false, Kind::Double);
                let [first, second] = [mean(&double)? * seen, mean(&double.f_square()?)? * seen];
                sums[place] = Some(match sums[place].take() {
                    Some([a, b]) => [a + first, b + second],
                    None => [first, second],
                });
            }
            Ok(value)
        })?;
        count += seen;
        Ok(())
    })?;
    let mut found = Vec::new();
    for (id, sums) in convolutions.into_iter().zip(sums) {
        let [first, second] = sums.context("a convolution was computed")?;
        let mean = first / count;
        let variance = (second / count - mean.f_square()?).f_clamp_min(0.0)?;
        let list = |tensor: &Tensor| anyhow::Ok(to_f32(tensor)?.into_iter().collect::<Vec<f32>>());
        found.push((id, Statistics { mean: list(&mean)?, variance: list(&variance)? }));
    }
    Ok(found)
}

/// The square of each weight.
fn squares(model: &Model) -> Weights {
    let mut squares = Weights::new();
    for (name, array) in model.weights().iter() {
        squares.insert(name, array.mapv(|value| value * value));
    }
    squares
}

/// The sum over the batches of |weight · gradient| of the cross-entropy, for each trainable weight.
fn sensitivities(model: &Model, images: &Images) -> Result<Weights> {
    let mut network = Network::new(model, images.device, Kind::Float)?;
    let mut total = network.flat().f_zeros_like()?;
    images.each(&mut network, &mut |network, images, labels| {
        let pass = network.learn(images)?;
        let logits = pass.logits().context("a pass has logits")?.f_flatten(1, -1)?;
        let logits = logits.f_detach()?.f_set_requires_grad(true)?;
        let loss = cross_entropy(&logits, &Targets::plain(labels), 0.0)?;
        let gradient = Tensor::f_run_backward(&[loss], &[&logits], false, false)?.swap_remove(0);
        network.backward(pass, &Gradients::of_logits(gradient))?;
        total = tch::no_grad(|| total.f_add(&(network.flat() * network.gradient()).f_abs()?))?;
        Ok(())
    })?;
    // The parameters are views of the flat buffer, and so the sums take their places.
    tch::no_grad(|| network.flat().shallow_clone().f_copy_(&total))?;
    let mut scores = Weights::new();
    for (name, tensor) in network.trainable_names().into_iter().zip(network.trainable()) {
        scores.insert(name, to_f32(tensor)?);
    }
    Ok(scores)
}

/// The network with running statistics of its own.
fn with_own_statistics(model: Model, images: &Images, steps: usize) -> Result<Model> {
    let _no_grad = tch::no_grad_guard();
    let mut network = Network::new(&model, images.device, Kind::Float)?;
    let mut done = 0;
    while done < steps {
        images.each(&mut network, &mut |network, images, _| {
            if done < steps {
                network.forward(images, Mode::Train)?;
                done += 1;
            }
            Ok(())
        })?;
    }
    Ok(Model::new(model.into_parts().0, network.weights()?)?)
}
