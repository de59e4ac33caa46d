//! Adversarial inputs: samples whose decision has a small margin, and samples on which a search makes an engine
//! disagree with the reference as much as possible. Knows networks and engines; no pipeline.

use anyhow::{Context, Result};
use ndarray::{Array2, ArrayD, ArrayView2, ArrayViewD, Axis, Slice, Zip};

use crate::config::{Device, EngineName};
use crate::contract::{ImageInput, Pixels, Precision};
use crate::engine::torch::{TorchEngine, Truth};
use crate::graph::Model;
use crate::onnx::{OnnxFile, import};
use crate::task::margin;

use super::compare::scale;
use super::configured::ConfiguredEngine;
use super::effort::Amount;
use super::inputs::InputSet;
use super::tolerance::Tolerance;
use super::truth::{ReferenceKind, Truths};

/// Number of samples among which the starting points are chosen.
const CONSIDERED: usize = 32;

/// Size of the first step, as a share of the range from a black to a white pixel. It is halved after every step
/// that finds nothing.
const STEP: f32 = 1.0 / 32.0;

/// Samples per run of an engine, at most.
const BATCH: usize = 32;

/// Samples per forward pass of the reference.
const TRUE_BATCH: usize = 8;

/// What adversarial inputs are made with.
pub struct AdversarialSearch<'a> {
    /// The network that is the reference.
    pub model: &'a Model,
    /// The verified file. Where the reference is another network, the file's own nodes show where the two
    /// differ.
    pub file: &'a OnnxFile,
    pub candidates: &'a mut [ConfiguredEngine],
    /// The pool in which samples with small margins are looked for.
    pub pool: ArrayD<f32>,
    pub image: ImageInput,
    pub amount: Amount,
    pub threads: usize,
}

/// Adds the samples of the pool with the smallest margins in the first engine, and those on which that engine
/// disagrees most with the reference after a search by gradient ascent within the range of pixels.
///
/// # Errors
/// If libtorch fails, or if the engine fails after it has run once.
pub fn add_adversarial_inputs(
    inputs: &mut Vec<InputSet>,
    truths: &mut Truths,
    search: AdversarialSearch<'_>,
) -> Result<()> {
    let AdversarialSearch { model, file, candidates, pool, image, amount, threads } = search;
    let usual = |candidate: &mut ConfiguredEngine| {
        candidate.engine != EngineName::Torch && candidate.usual() && candidate.loaded().is_ok()
    };
    let Some(place) = candidates.iter_mut().position(usual) else { return Ok(()) };
    let candidate = &mut candidates[place];
    let truth = Truth::new(model)?;
    // The search runs the engine on this many samples again and again. ONNX Runtime plans its convolutions anew on a GPU
    // whenever the batch size changes (microsoft/onnxruntime#23006), so all its runs here have one size.
    let batch = file.contract.batch().or_else(|| (amount.searched > 0).then(|| amount.searched.min(BATCH)));
    // The verification reports an engine that fails or gives another number of classes.
    let logits = match all_logits(candidate, pool.view(), batch) {
        Ok(logits) if logits.ncols() == model.graph().classes() => logits,
        Ok(_) | Err(_) => return Ok(()),
    };
    let narrow = pool.select(Axis(0), &narrowest(&logits, amount.narrow));
    let mut add = |name, images: ArrayD<f32>| -> Result<()> {
        truths.logits.push(true_logits(&truth, images.view())?);
        inputs.push(InputSet { name, images, gates: true });
        Ok(())
    };
    if narrow.shape()[0] > 0 {
        add("narrow", narrow)?;
    }
    let other = match truths.kind {
        ReferenceKind::Checkpoint | ReferenceKind::Reference => import(file).ok(),
        ReferenceKind::File
        | ReferenceKind::Unquantized
        | ReferenceKind::Recorded
        | ReferenceKind::Engine => None,
    };
    let mut networks = vec![TorchEngine::new(model, Device::Cpu, threads)?];
    if let Some(other) = &other {
        networks.push(TorchEngine::new(&other.model, Device::Cpu, threads)?);
    }
    let tolerance = Tolerance::of(candidate.engine, &candidate.options, Precision::Float32);
    let start = inputs.iter().position(|set| set.gates).context("no set of inputs decides the verdict")?;
    let (images, known) = (&inputs[start].images, &truths.logits[start]);
    let first = Slice::from(..known.nrows().min(CONSIDERED));
    let considered = images.slice_axis(Axis(0), first);
    let found = all_logits(candidate, considered.view(), batch)?;
    let scores = disagreement(&known.slice_axis(Axis(0), first).to_owned(), &found, &tolerance)?.scores;
    let mut search = Search {
        image,
        amount,
        differs: &mut |images: ArrayViewD<'_, f32>| {
            let found = all_logits(candidate, images.view(), batch)?;
            disagreement(&true_logits(&truth, images)?, &found, &tolerance)
        },
        ascent: &mut |images: ArrayViewD<'_, f32>, direction: ArrayViewD<'_, f32>| {
            let mut along = networks[0].ascent(images.view(), direction.view())?;
            if let Some(file) = networks.get(1) {
                along = file.ascent(images, direction)? - along;
            }
            Ok(along)
        },
    };
    let found = search.run(considered, &scores)?;
    truths.logits.push(true_logits(&truth, found.view())?);
    inputs.push(InputSet { name: "searched", images: found, gates: true });
    Ok(())
}

/// How an engine's logits of a batch differ from those of the reference.
struct Disagreement {
    /// The largest error of each sample, in multiples of the tolerance.
    scores: Vec<f64>,
    /// Engine minus reference, each sample scaled to length 1.
    direction: ArrayD<f32>,
}

fn disagreement(truth: &Array2<f64>, found: &Array2<f64>, tolerance: &Tolerance) -> Result<Disagreement> {
    anyhow::ensure!(
        truth.dim() == found.dim(),
        "logits of shape {:?}, the truth has shape {:?}",
        found.dim(),
        truth.dim()
    );
    let scores = truth.outer_iter().zip(found.outer_iter()).map(|(truth, found)| {
        let scale = scale(truth);
        let used = truth
            .iter()
            .zip(found)
            .map(|(truth, found)| (found - truth).abs() / tolerance.allowed(*truth, scale));
        used.fold(0.0, f64::max)
    });
    let scores = scores.collect();
    let mut direction = found - truth;
    for mut row in direction.outer_iter_mut() {
        let length = row.iter().map(|value| value * value).sum::<f64>().sqrt();
        row.mapv_inplace(|value| if length > 0.0 { value / length } else { 0.0 });
    }
    Ok(Disagreement { scores, direction: direction.mapv(|value| value as f32).into_dyn() })
}

/// Gradients for images and directions.
type Ascent<'a> = dyn FnMut(ArrayViewD<'_, f32>, ArrayViewD<'_, f32>) -> Result<ArrayD<f32>> + 'a;

/// Gradient ascent by signs, as in the projected gradient method of Madry et al. (2018), on a measured
/// disagreement: a step is kept only if the disagreement has grown.
struct Search<'a> {
    image: ImageInput,
    amount: Amount,
    differs: &'a mut dyn FnMut(ArrayViewD<'_, f32>) -> Result<Disagreement>,
    /// The gradient of `Σ direction · difference` with respect to the images.
    ascent: &'a mut Ascent<'a>,
}

impl Search<'_> {
    /// Starts from the samples with the largest scores.
    fn run(&mut self, considered: ArrayViewD<'_, f32>, scores: &[f64]) -> Result<ArrayD<f32>> {
        let (Pixels::Single { black, white }
        | Pixels::Half { black, white }
        | Pixels::Whole { black, white }) = self.image.pixels;
        let (low, high) = (black.min(white), black.max(white));
        let mut order: Vec<usize> = (0..scores.len()).collect();
        order.sort_by(|&a, &b| scores[b].total_cmp(&scores[a]));
        order.truncate(self.amount.searched);
        let mut best = considered.select(Axis(0), &order).mapv(|value| value.clamp(low, high));
        let mut at = (self.differs)(best.view())?;
        let mut sizes = vec![STEP * (high - low); order.len()];
        for _ in 0..self.amount.steps {
            let gradient = (self.ascent)(best.view(), at.direction.view())?;
            let mut next = best.clone();
            for ((mut image, gradient), &size) in next.outer_iter_mut().zip(gradient.outer_iter()).zip(&sizes)
            {
                Zip::from(&mut image).and(&gradient).for_each(|value, &slope| {
                    let sign = if slope == 0.0 { 0.0 } else { slope.signum() };
                    let moved = (*value + size * sign).clamp(low, high);
                    *value = if let Pixels::Whole { .. } = self.image.pixels { moved.round() } else { moved };
                });
            }
            let there = (self.differs)(next.view())?;
            for (sample, size) in sizes.iter_mut().enumerate() {
                if there.scores[sample] > at.scores[sample] {
                    best.index_axis_mut(Axis(0), sample).assign(&next.index_axis(Axis(0), sample));
                    at.scores[sample] = there.scores[sample];
                    let direction = there.direction.index_axis(Axis(0), sample);
                    at.direction.index_axis_mut(Axis(0), sample).assign(&direction);
                } else {
                    *size /= 2.0;
                }
            }
        }
        Ok(best)
    }
}

/// The samples whose two largest logits are closest, closest first. Samples with non-finite logits are left
/// out.
fn narrowest(logits: &Array2<f64>, most: usize) -> Vec<usize> {
    let margins: Vec<f64> = logits
        .outer_iter()
        .map(|row| match row.iter().all(|value| value.is_finite()) {
            true => margin(row.iter().copied()),
            false => f64::INFINITY,
        })
        .collect();
    let mut order: Vec<usize> = (0..margins.len()).filter(|&sample| margins[sample].is_finite()).collect();
    order.sort_by(|&a, &b| margins[a].total_cmp(&margins[b]));
    order.truncate(most);
    order
}

/// An engine's scores of any number of images, in batches of one size if that is given.
pub(super) fn all_logits(
    candidate: &mut ConfiguredEngine,
    images: ArrayViewD<'_, f32>,
    batch: Option<usize>,
) -> Result<Array2<f64>> {
    let mut rows = Vec::new();
    for images in images.axis_chunks_iter(Axis(0), batch.unwrap_or(BATCH)) {
        rows.push(candidate.logits(images, batch)?.mapv(f64::from));
    }
    let views: Vec<ArrayView2<'_, f64>> = rows.iter().map(|rows| rows.view()).collect();
    Ok(ndarray::concatenate(Axis(0), &views)?)
}

fn true_logits(truth: &Truth, images: ArrayViewD<'_, f32>) -> Result<Array2<f64>> {
    let mut rows = Vec::new();
    for images in images.axis_chunks_iter(Axis(0), TRUE_BATCH) {
        rows.push(truth.logits(images)?);
    }
    let views: Vec<ArrayViewD<'_, f64>> = rows.iter().map(|rows| rows.view()).collect();
    Ok(ndarray::concatenate(Axis(0), &views)?.into_dimensionality()?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contract::Layout;
    use ndarray::array;

    #[test]
    fn the_closest_decisions_come_first() {
        let logits = array![[3.0, 1.0, 2.0], [0.5, 0.4, -9.0], [f64::NAN, 1.0, 1.0], [5.0, -5.0, 0.0]];
        assert_eq!(narrowest(&logits, 16), [1, 0, 3]);
    }

    #[test]
    fn the_search_climbs_and_stays_within_the_range() {
        // The disagreement is the sum of the pixels: the search starts at the largest sum and ends at
        // white.
        let image = ImageInput {
            shape: [1, 1, 2],
            layout: Layout::ChannelsFirst,
            pixels: Pixels::Single { black: -1.0, white: 1.0 },
        };
        let considered = ArrayD::from_shape_fn(vec![6, 1, 1, 2], |at| 0.15 * at[0] as f32);
        let amount = Amount::default();
        let mut search = Search {
            image,
            amount,
            differs: &mut |images: ArrayViewD<'_, f32>| {
                let sum = |image: ArrayViewD<'_, f32>| f64::from(image.sum());
                let scores = images.outer_iter().map(sum).collect();
                Ok(Disagreement { scores, direction: ArrayD::ones(vec![images.shape()[0], 1]) })
            },
            ascent: &mut |images: ArrayViewD<'_, f32>, _| Ok(ArrayD::ones(images.raw_dim())),
        };
        let scores: Vec<f64> = (0..6).map(f64::from).collect();
        let found = search.run(considered.view(), &scores).unwrap();
        assert_eq!(found.shape(), [amount.searched, 1, 1, 2]);
        let expected = (0.75 + amount.steps as f32 * STEP * 2.0).min(1.0);
        assert!((found[[0, 0, 0, 0].as_slice()] - expected).abs() < 1e-6, "{found}");
        assert!(found.iter().all(|value| (-1.0..=1.0).contains(value)));
    }
}
