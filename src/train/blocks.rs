//! How far a network's answers move when a residual block is left out.

use anyhow::Result;
use tch::{Kind, Tensor};

use crate::config::Device;
use crate::contract::Normalization;
use crate::data::{Split, ordered_batches};
use crate::graph::{Block, Model, without_blocks};
use crate::torch::{Network, resolve_device, set_convolutions};

use super::evaluate::on_device;

/// Images per forward pass.
const BATCH: usize = 64;

/// For each block, the mean over the images of KL(p ‖ q) in nats, where p are the class probabilities of the whole network and q
/// those without the block. Infinite where an answer is not finite.
///
/// # Errors
/// If an image cannot be read or libtorch fails.
pub fn block_divergences(
    model: &Model,
    blocks: &[Block],
    split: &Split,
    normalization: &Normalization,
    device: Device,
) -> Result<Vec<f64>> {
    let _no_grad = tch::no_grad_guard();
    set_convolutions(false, false)?;
    let device = resolve_device(device)?;
    let whole = Network::new(model, device, Kind::Float)?;
    let without = blocks
        .iter()
        .map(|block| Network::new(&without_blocks(model, std::slice::from_ref(block))?, device, Kind::Float));
    let without = without.collect::<Result<Vec<Network>>>()?;
    let mut sums = vec![0.0; blocks.len()];
    for batch in ordered_batches(split, normalization, BATCH) {
        let batch = batch?;
        let (images, _) = on_device(&batch.images, &batch.labels, device)?;
        let answers = |network: &Network| -> Result<Tensor> {
            Ok(network.infer(&images)?.logits.f_log_softmax(-1, Kind::Double)?)
        };
        let p = answers(&whole)?;
        for (sum, network) in sums.iter_mut().zip(&without) {
            let divergence = p.f_exp()?.f_mul(&p.f_sub(&answers(network)?)?)?.f_sum(Kind::Double)?;
            *sum += divergence.f_double_value(&[])?;
        }
    }
    let mean = |sum: f64| if sum.is_finite() { sum / split.len().max(1) as f64 } else { f64::INFINITY };
    Ok(sums.into_iter().map(mean).collect())
}
