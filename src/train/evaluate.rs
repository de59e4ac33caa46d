//! What networks decide on a split, and their scores, without augmentation.

use anyhow::{Context, Result};
use ndarray::ArrayD;
use tch::{Kind, Tensor};

use crate::config::Device;
use crate::contract::Normalization;
use crate::data::{Dataset, Split, ordered_batches};
use crate::graph::Model;
use crate::task::Score;
use crate::torch::{Network, batch_tensor, resolve_device, set_convolutions};

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
    let _no_grad = tch::no_grad_guard();
    let mut decisions = vec![Vec::with_capacity(split.len()); networks.len()];
    let mut loss = vec![0.0; networks.len()];
    for batch in ordered_batches(split, normalization, BATCH) {
        let batch = batch?;
        for (index, network) in networks.iter().enumerate() {
            let (images, labels) = on_device(&batch.images, &batch.labels, network)?;
            let logits = network.infer(&images)?.0.f_to_kind(Kind::Float)?;
            let classes = Vec::<i64>::try_from(logits.f_argmax(-1, false)?.f_to_device(tch::Device::Cpu)?)?;
            decisions[index].extend(classes.into_iter().map(|class| class as usize));
            let mean = cross_entropy(&logits, &Targets::plain(labels), 0.0)?.f_double_value(&[])?;
            loss[index] += mean * batch.labels.len() as f64;
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

/// What a model that is not being trained decides, in float32.
///
/// # Errors
/// As [`evaluate`].
pub fn decide(
    model: &Model,
    device: Device,
    split: &Split,
    normalization: &Normalization,
) -> Result<Evaluation> {
    set_convolutions(false, false)?;
    let network = Network::new(model, resolve_device(device)?, Kind::Float)?;
    let found = evaluate(&[&network], split, normalization)?;
    found.into_iter().next().context("one network is evaluated once")
}

/// The score of what [`decide`] finds.
///
/// # Errors
/// As [`evaluate`].
pub fn evaluate_model(
    model: &Model,
    device: Device,
    split: &Split,
    normalization: &Normalization,
) -> Result<Score> {
    Ok(decide(model, device, split, normalization)?.score)
}

/// The data with the decisions of a model as labels, in float32.
///
/// # Errors
/// As [`evaluate`].
pub fn labelled_by(model: &Model, device: Device, data: Dataset) -> Result<Dataset> {
    let by = |split: Split| -> Result<Split> {
        let decisions = decide(model, device, &split, &data.normalization)?.decisions;
        Ok(split.with_labels(decisions.into_iter().map(|class| class as u32)))
    };
    let (train, validation) = (by(data.train)?, by(data.validation)?);
    let test = data.test.map(by).transpose()?;
    Ok(Dataset { train, validation, test, ..data })
}

/// Copies a batch to a network's device.
///
/// # Errors
/// If the device's memory runs out.
pub(super) fn on_device(images: &ArrayD<f32>, labels: &[i64], network: &Network) -> Result<(Tensor, Tensor)> {
    let device = network.device();
    Ok((batch_tensor(images.view(), device)?, Tensor::f_from_slice(labels)?.f_to_device(device)?))
}
