//! Scores of networks on a split, without augmentation.

use anyhow::{Context, Result};
use ndarray::ArrayD;
use tch::{Kind, Tensor};

use crate::config::Device;
use crate::contract::Normalization;
use crate::data::{Split, ordered_batches};
use crate::graph::Model;
use crate::task::Score;
use crate::torch::{Network, batch_tensor, resolve_device, set_convolutions};

use super::losses::{Targets, cross_entropy};

/// Images per forward pass in evaluation.
const BATCH: usize = 256;

/// Scores several networks on the same images, decoding each batch once.
///
/// # Errors
/// If an image cannot be read or libtorch fails.
pub fn evaluate(networks: &[&Network], split: &Split, normalization: &Normalization) -> Result<Vec<Score>> {
    let _no_grad = tch::no_grad_guard();
    let mut correct = vec![0.0; networks.len()];
    let mut loss = vec![0.0; networks.len()];
    for batch in ordered_batches(split, normalization, BATCH) {
        let batch = batch?;
        for (index, network) in networks.iter().enumerate() {
            let (images, labels) = on_device(&batch.images, &batch.labels, network)?;
            let logits = network.infer(&images)?.0.f_to_kind(Kind::Float)?;
            let targets = Targets::plain(labels);
            correct[index] += targets.hits(&logits)?.f_double_value(&[])?;
            let mean = cross_entropy(&logits, &targets, 0.0)?.f_double_value(&[])?;
            loss[index] += mean * batch.labels.len() as f64;
        }
    }
    let images = split.len();
    let score = |(correct, loss): (&f64, &f64)| Score::new(*correct, loss / images.max(1) as f64, images);
    Ok(correct.iter().zip(&loss).map(score).collect())
}

/// Scores a model that is not being trained, in float32.
///
/// # Errors
/// As [`evaluate`].
pub fn evaluate_model(
    model: &Model,
    device: Device,
    split: &Split,
    normalization: &Normalization,
) -> Result<Score> {
    set_convolutions(false, false)?;
    let network = Network::new(model, resolve_device(device)?, Kind::Float)?;
    let scores = evaluate(&[&network], split, normalization)?;
    scores.into_iter().next().context("one network has one score")
}

/// Copies a batch to a network's device.
///
/// # Errors
/// If the device's memory runs out.
pub(super) fn on_device(images: &ArrayD<f32>, labels: &[i64], network: &Network) -> Result<(Tensor, Tensor)> {
    let device = network.device();
    Ok((batch_tensor(images.view(), device)?, Tensor::f_from_slice(labels)?.f_to_device(device)?))
}
