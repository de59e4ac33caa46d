//! Batches in order: prepared by worker threads ahead of training, or one after another.

use anyhow::{Result, anyhow};
use crossbeam_channel::{Receiver, bounded};
use ndarray::{ArrayD, IxDyn};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;

use crate::config::Augment;
use crate::contract::{Normalization, Table};
use crate::seed::derive_seed;

use super::augment::{Change, changed, draw, sample_rng};
use super::mix::{self, Mix};
use super::split::shuffle;
use super::store::Split;

/// Number of batches each worker prepares ahead of the one that is requested.
const AHEAD: usize = 2;

/// Images without augmentation, ready for a network.
#[derive(Debug, Clone, PartialEq)]
pub struct Batch {
    /// `[batch, channels, height, width]`, normalised.
    pub images: ArrayD<f32>,
    pub labels: Vec<i64>,
}

/// The content of a training batch, with all random draws made: everything that follows a recipe obtains the
/// same batch.
#[derive(Debug, Clone, PartialEq)]
pub struct Recipe {
    /// Index in the split of each image.
    pub places: Vec<usize>,
    pub labels: Vec<i64>,
    /// Changes to each image's bytes, in this order; the same kinds for all images.
    pub changes: Vec<Vec<Change>>,
    /// How the normalised images are mixed after that.
    pub mix: Option<Mix>,
}

/// Training images, augmented except for mixing.
#[derive(Debug, Clone, PartialEq)]
pub struct TrainingBatch {
    /// Bytes, `[batch, channels, height, width]`.
    pub images: ArrayD<u8>,
    pub recipe: Recipe,
}

/// Selects the batches of an epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TrainingOrder {
    /// Images per batch.
    pub batch: usize,
    pub seed: u64,
    /// Epoch, from 0.
    pub epoch: usize,
    /// The first batch wanted; those before it are skipped.
    pub first_batch: usize,
}

/// Number of whole batches in an epoch. Which samples are left over differs between epochs.
pub fn batches_per_epoch(images: usize, batch: usize) -> usize {
    images / batch.max(1)
}

/// The recipes of one epoch's batches, in a random order determined by seed and epoch.
pub fn recipes(split: &Split, list: &[Augment], order: TrainingOrder) -> impl Iterator<Item = Recipe> {
    let epoch = Epoch::new(split, list, &[], order);
    (order.first_batch..batches_per_epoch(split.len(), order.batch)).map(move |index| epoch.recipe(index))
}

/// The batches of [`recipes`], prepared by `workers` threads (0: half of the cores, at least one) that end
/// when the iterator is dropped. `grey` is the mean of each channel.
pub fn training_batches(
    split: &Split,
    list: &[Augment],
    grey: &[u8],
    order: TrainingOrder,
    workers: usize,
) -> TrainingBatches {
    let epoch = Epoch::new(split, list, grey, order);
    let epoch = std::sync::Arc::new(epoch);
    let count = batches_per_epoch(split.len(), order.batch);
    let workers = worker_count(workers);
    let mut receivers = Vec::with_capacity(workers);
    for worker in 0..workers {
        let (sender, receiver) = bounded(AHEAD);
        let epoch = std::sync::Arc::clone(&epoch);
        std::thread::spawn(move || {
            for index in (order.first_batch + worker..count).step_by(workers) {
                if sender.send(epoch.batch(index)).is_err() {
                    break;
                }
            }
        });
        receivers.push(receiver);
    }
    TrainingBatches { receivers, next: 0, count: count.saturating_sub(order.first_batch) }
}

/// See [`training_batches`].
pub struct TrainingBatches {
    receivers: Vec<Receiver<Result<TrainingBatch>>>,
    next: usize,
    count: usize,
}

impl Iterator for TrainingBatches {
    type Item = Result<TrainingBatch>;

    fn next(&mut self) -> Option<Result<TrainingBatch>> {
        if self.next == self.count {
            return None;
        }
        let turn = self.next % self.receivers.len();
        self.next += 1;
        Some(
            self.receivers[turn]
                .recv()
                .unwrap_or_else(|_| Err(anyhow!("a thread that prepares batches stopped"))),
        )
    }
}

/// All images of a split without augmentation, in the split's order; the last batch may be smaller.
pub fn ordered_batches<'a>(
    split: &'a Split,
    normalization: &Normalization,
    batch: usize,
) -> impl Iterator<Item = Result<Batch>> + 'a {
    batches_by(split.clone(), normalization.table(), batch)
}

/// Like [`ordered_batches`], with the normalised value of every byte given.
pub(super) fn batches_by(split: Split, table: Table, batch: usize) -> impl Iterator<Item = Result<Batch>> {
    (0..split.len()).step_by(batch.max(1)).map(move |start| {
        let places: Vec<usize> = (start..(start + batch.max(1)).min(split.len())).collect();
        let [channels, height, width] = split.shape();
        let mut values = Vec::with_capacity(places.len() * channels * height * width);
        let mut labels = Vec::with_capacity(places.len());
        for &place in &places {
            for (plane, table) in split.image(place)?.chunks_exact(height * width).zip(&table) {
                values.extend(plane.iter().map(|&byte| table[usize::from(byte)]));
            }
            labels.push(i64::from(split.labels[place]));
        }
        let images = ArrayD::from_shape_vec(IxDyn(&[places.len(), channels, height, width]), values)?;
        Ok(Batch { images, labels })
    })
}

fn worker_count(wanted: usize) -> usize {
    match wanted {
        0 => (std::thread::available_parallelism().map_or(1, usize::from) / 2).max(1),
        count => count,
    }
}

fn permutation(images: usize, order: TrainingOrder) -> Vec<usize> {
    let mut places: Vec<usize> = (0..images).collect();
    let mut rng = ChaCha8Rng::seed_from_u64(derive_seed(order.seed, &["order"]));
    rng.set_stream(order.epoch as u64);
    shuffle(&mut places, &mut rng);
    places
}

/// State shared by the workers of one epoch.
struct Epoch {
    split: Split,
    list: Vec<Augment>,
    grey: Vec<u8>,
    places: Vec<usize>,
    augment_seed: u64,
    mix_seed: u64,
    order: TrainingOrder,
}

impl Epoch {
    fn new(split: &Split, list: &[Augment], grey: &[u8], order: TrainingOrder) -> Self {
        Self {
            split: split.clone(),
            list: list.to_vec(),
            grey: grey.to_vec(),
            places: permutation(split.len(), order),
            augment_seed: derive_seed(order.seed, &["augment"]),
            mix_seed: derive_seed(order.seed, &["mix"]),
            order,
        }
    }

    fn recipe(&self, index: usize) -> Recipe {
        let (split, epoch) = (&self.split, self.order.epoch);
        let places = self.places[index * self.order.batch..][..self.order.batch].to_vec();
        let changes = places.iter().map(|&place| {
            let mut rng = sample_rng(self.augment_seed, epoch, split.samples[place]);
            draw(&self.list, split.shape(), &mut rng)
        });
        Recipe {
            changes: changes.collect(),
            labels: places.iter().map(|&place| i64::from(split.labels[place])).collect(),
            mix: mix::draw(places.len(), split.shape(), &self.list, self.mix_seed, (epoch, index)),
            places,
        }
    }

    fn batch(&self, index: usize) -> Result<TrainingBatch> {
        let recipe = self.recipe(index);
        let [channels, height, width] = self.split.shape();
        let mut bytes = Vec::with_capacity(recipe.places.len() * channels * height * width);
        for (&place, changes) in recipe.places.iter().zip(&recipe.changes) {
            let pixels = self.split.image(place)?;
            match changes.is_empty() {
                true => bytes.extend_from_slice(&pixels),
                false => bytes.extend(changed(&pixels, self.split.shape(), changes, &self.grey)),
            }
        }
        let images = ArrayD::from_shape_vec(IxDyn(&[recipe.places.len(), channels, height, width]), bytes)?;
        Ok(TrainingBatch { images, recipe })
    }
}

#[cfg(test)]
mod tests {
    use super::super::store::Store;
    use super::*;
    use crate::config::CropSpec;

    fn split() -> Split {
        let pixels = (0..40).flat_map(|value| [value; 4]).collect();
        Split::whole(Store::memory([1, 2, 2], pixels), (0..40).map(|label| label % 10).collect())
    }

    fn normalization() -> Normalization {
        Normalization { mean: vec![0.5], std: vec![0.25] }
    }

    fn epoch(workers: usize, first_batch: usize, epoch: usize) -> Vec<TrainingBatch> {
        let order = TrainingOrder { batch: 6, seed: 11, epoch, first_batch };
        let list = [Augment::Crop(CropSpec { padding: 1 })];
        let batches: Vec<TrainingBatch> =
            training_batches(&split(), &list, &[7], order, workers).map(Result::unwrap).collect();
        let found = batches.iter().map(|batch| batch.recipe.clone());
        assert!(found.eq(recipes(&split(), &list, order)), "workers follow other recipes");
        batches
    }

    #[test]
    fn any_number_of_workers_gives_the_same_batches() {
        let one = epoch(1, 0, 2);
        assert_eq!(one.len(), 6);
        assert_eq!(epoch(3, 0, 2), one);
        assert_eq!(epoch(2, 4, 2), one[4..]);
        assert_ne!(epoch(1, 0, 3), one);
    }

    #[test]
    fn every_sample_comes_at_most_once_an_epoch() {
        let split = split();
        let order = TrainingOrder { batch: 6, seed: 1, epoch: 0, first_batch: 0 };
        let mut seen = Vec::new();
        for batch in training_batches(&split, &[], &[7], order, 2) {
            let batch = batch.unwrap();
            for (image, label) in batch.images.outer_iter().zip(&batch.recipe.labels) {
                let byte = *image.iter().next().unwrap();
                assert_eq!(i64::from(byte) % 10, *label);
                seen.push(byte);
            }
        }
        seen.sort_unstable();
        seen.dedup();
        assert_eq!(seen.len(), 36);
    }

    #[test]
    fn ordered_batches_hold_everything() {
        let split = split();
        let sizes: Vec<usize> =
            ordered_batches(&split, &normalization(), 16).map(|batch| batch.unwrap().labels.len()).collect();
        assert_eq!(sizes, [16, 16, 8]);
    }

    #[test]
    fn dropping_the_iterator_ends_its_workers() {
        let split = split();
        let order = TrainingOrder { batch: 2, seed: 1, epoch: 0, first_batch: 0 };
        let mut batches = training_batches(&split, &[], &[7], order, 2);
        batches.next().unwrap().unwrap();
        drop(batches);
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
        while std::sync::Arc::strong_count(&split.store) > 1 {
            assert!(std::time::Instant::now() < deadline, "a worker still holds the images");
            std::thread::yield_now();
        }
    }
}
