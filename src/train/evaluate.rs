//! What networks decide on a split, and their scores, without augmentation.

use anyhow::{Context, Result};
use ndarray::ArrayD;
use tch::{Kind, Tensor};

use crate::config::Device;
use crate::contract::Normalization;
use crate::data::{Dataset, Split, ordered_batches};
use crate::task::Score;
use crate::torch::{Network, batch_tensor, resolve_device, set_convolutions};

use super::answers::{Answerer, Answering};
use super::losses::{Targets, cross_entropy};

/// Images per forward pass in evaluation.
const BATCH: usize = 256;

/// What a network decides on a split, and how good that is.
#[derive(Debug, Clone, PartialEq)]
pub struct Evaluation {
    pub score: Score,
    /// The class of each image, in the split's order.
    pub decisions: Vec<usize>,
}

/// Evaluates several networks on the same images, decoding each batch once.
///
/// # Errors
/// If an image cannot be read or libtorch fails.
pub fn evaluate(
    networks: &[&Network],
    split: &Split,
    normalization: &Normalization,
) -> Result<Vec<Evaluation>> {
    let Some(device) = networks.first().map(|network| network.device()) else { return Ok(Vec::new()) };
    let logits = |place: usize, images: &Tensor| Ok(networks[place].infer(images)?.logits);
    evaluations(networks.len(), logits, device, split, normalization)
}

/// Evaluates `count` networks on one device, of which `logits` gives one's answer.
fn evaluations(
    count: usize,
    logits: impl Fn(usize, &Tensor) -> Result<Tensor>,
    device: tch::Device,
    split: &Split,
    normalization: &Normalization,
) -> Result<Vec<Evaluation>> {
    let _no_grad = tch::no_grad_guard();
    let mut decisions = vec![Vec::with_capacity(split.len()); count];
    let mut loss = vec![0.0; count];
    for batch in ordered_batches(split, normalization, BATCH) {
        let batch = batch?;
        let (images, labels) = on_device(&batch.images, &batch.labels, device)?;
        for (index, (decisions, loss)) in decisions.iter_mut().zip(&mut loss).enumerate() {
            let logits = logits(index, &images)?.f_to_kind(Kind::Float)?;
            let classes = Vec::<i64>::try_from(logits.f_argmax(-1, false)?.f_to_device(tch::Device::Cpu)?)?;
            decisions.extend(classes.into_iter().map(|class| class as usize));
            let targets = Targets::plain(labels.shallow_clone());
            let mean = cross_entropy(&logits, &targets, 0.0)?.f_double_value(&[])?;
            *loss += mean * batch.labels.len() as f64;
        }
    }
    let images = split.len();
    let evaluation = |(decisions, loss): (Vec<usize>, f64)| {
        let right = decisions.iter().zip(split.labels()).filter(|(class, label)| **class == **label as usize);
        let score = Score::new(right.count() as f64, loss / images.max(1) as f64, images);
        Evaluation { score, decisions }
    };
    Ok(decisions.into_iter().zip(loss).map(evaluation).collect())
}

/// What a network that is not being trained decides, in float32.
///
/// # Errors
/// As [`evaluate`].
pub fn decide<'a>(
    network: impl Into<Answering<'a>>,
    device: Device,
    split: &Split,
    normalization: &Normalization,
) -> Result<Evaluation> {
    set_convolutions(false, false)?;
    let network = Answerer::new(network, resolve_device(device)?)?;
    let logits = |_, images: &Tensor| Ok(network.answer(images)?.logits);
    let found = evaluations(1, logits, network.device(), split, normalization)?;
    found.into_iter().next().context("one network is evaluated once")
}

/// The score of what [`decide`] finds.
///
/// # Errors
/// As [`evaluate`].
pub fn evaluate_model<'a>(
    network: impl Into<Answering<'a>>,
    device: Device,
    split: &Split,
    normalization: &Normalization,
) -> Result<Score> {
    Ok(decide(network, device, split, normalization)?.score)
}

/// The data with the decisions of a network as labels, in float32.
///
/// # Errors
/// As [`evaluate`].
pub fn labelled_by<'a>(network: impl Into<Answering<'a>>, device: Device, data: Dataset) -> Result<Dataset> {
    let network = network.into();
    let by = |split: Split| -> Result<Split> {
        let decisions = decide(network, device, &split, &data.normalization)?.decisions;
        Ok(split.with_labels(decisions.into_iter().map(|class| class as u32)))
    };
    let (train, validation) = (by(data.train)?, by(data.validation)?);
    let test = data.test.map(by).transpose()?;
    Ok(Dataset { train, validation, test, ..data })
}

/// Copies a batch to a device.
///
/// # Errors
/// If the device's memory runs out.
pub(super) fn on_device(
    images: &ArrayD<f32>,
    labels: &[i64],
    device: tch::Device,
) -> Result<(Tensor, Tensor)> {
    Ok((batch_tensor(images.view(), device)?, Tensor::f_from_slice(labels)?.f_to_device(device)?))
}
