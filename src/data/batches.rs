//! Batches in order: made by worker threads ahead of training, or one after another.

use anyhow::{Result, anyhow};
use crossbeam_channel::{Receiver, bounded};
use ndarray::{ArrayD, IxDyn};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;

use crate::config::Augment;
use crate::seed::derive_seed;

use super::augment::{augment, sample_rng};
use super::mix::{Mixed, mix};
use super::normalization::{Normalization, Table};
use super::split::shuffle;
use super::store::Split;

/// Batches each worker makes ahead of the one that is asked for.
const AHEAD: usize = 2;

/// Images ready for a network.
#[derive(Debug, Clone, PartialEq)]
pub struct Batch {
    /// `[batch, channels, height, width]`, normalised.
    pub images: ArrayD<f32>,
    pub labels: Vec<i64>,
    /// What else is in the images, where they were mixed.
    pub mixed: Option<Mixed>,
}

/// Which batches of which epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TrainingOrder {
    /// Images a batch.
    pub batch: usize,
    pub seed: u64,
    /// From 0.
    pub epoch: usize,
    /// The first batch wanted; those before it are skipped.
    pub first_batch: usize,
}

/// Whole batches in an epoch; the samples left over are other ones each epoch.
pub fn batches_per_epoch(images: usize, batch: usize) -> usize {
    images / batch.max(1)
}

/// The augmented training batches of one epoch, in a random order that seed and epoch decide. Made
/// by `workers` threads (0: half of the cores, at least one) that end when the iterator is dropped.
pub fn training_batches(
    split: &Split,
    list: &[Augment],
    normalization: &Normalization,
    order: TrainingOrder,
    workers: usize,
) -> TrainingBatches {
    let epoch = Epoch {
        split: split.clone(),
        list: list.to_vec(),
        table: normalization.table(),
        grey: normalization.mean.iter().map(|mean| (255.0 * mean).round() as u8).collect(),
        places: permutation(split.len(), order),
        augment_seed: derive_seed(order.seed, &["augment"]),
        mix_seed: derive_seed(order.seed, &["mix"]),
        order,
    };
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
    receivers: Vec<Receiver<Result<Batch>>>,
    next: usize,
    count: usize,
}

impl Iterator for TrainingBatches {
    type Item = Result<Batch>;

    fn next(&mut self) -> Option<Result<Batch>> {
        if self.next == self.count {
            return None;
        }
        let turn = self.next % self.receivers.len();
        self.next += 1;
        Some(
            self.receivers[turn]
                .recv()
                .unwrap_or_else(|_| Err(anyhow!("a thread that makes batches stopped"))),
        )
    }
}

/// All images of a split as they are, in its order, the last batch as large as it comes.
pub fn ordered_batches<'a>(
    split: &'a Split,
    normalization: &Normalization,
    batch: usize,
) -> impl Iterator<Item = Result<Batch>> + 'a {
    let table = normalization.table();
    (0..split.len()).step_by(batch.max(1)).map(move |start| {
        let places: Vec<usize> = (start..(start + batch.max(1)).min(split.len())).collect();
        assemble(split, &places, &table, |_, pixels, target| target.extend_from_slice(pixels))
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

/// What the workers of one epoch share.
struct Epoch {
    split: Split,
    list: Vec<Augment>,
    table: Table,
    /// What each channel is on average.
    grey: Vec<u8>,
    places: Vec<usize>,
    augment_seed: u64,
    mix_seed: u64,
    order: TrainingOrder,
}

impl Epoch {
    fn batch(&self, index: usize) -> Result<Batch> {
        let places = &self.places[index * self.order.batch..][..self.order.batch];
        let mut batch = assemble(&self.split, places, &self.table, |place, pixels, target| {
            if self.list.is_empty() {
                return target.extend_from_slice(pixels);
            }
            let mut rng = sample_rng(self.augment_seed, self.order.epoch, self.split.samples[place]);
            target.extend(augment(pixels, self.split.shape(), &self.list, &self.grey, &mut rng));
        })?;
        if let Some(values) = batch.images.as_slice_mut() {
            let moment = (self.order.epoch, index);
            batch.mixed = mix(values, &batch.labels, self.split.shape(), &self.list, self.mix_seed, moment);
        }
        Ok(batch)
    }
}

fn assemble(
    split: &Split,
    places: &[usize],
    table: &Table,
    view: impl Fn(usize, &[u8], &mut Vec<u8>),
) -> Result<Batch> {
    let [channels, height, width] = split.shape();
    let mut values = Vec::with_capacity(places.len() * channels * height * width);
    let mut labels = Vec::with_capacity(places.len());
    let mut bytes = Vec::with_capacity(channels * height * width);
    for &place in places {
        bytes.clear();
        view(place, &split.image(place)?, &mut bytes);
        for (plane, table) in bytes.chunks_exact(height * width).zip(table) {
            values.extend(plane.iter().map(|&byte| table[usize::from(byte)]));
        }
        labels.push(i64::from(split.labels[place]));
    }
    let images = ArrayD::from_shape_vec(IxDyn(&[places.len(), channels, height, width]), values)?;
    Ok(Batch { images, labels, mixed: None })
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

    fn epoch(workers: usize, first_batch: usize, epoch: usize) -> Vec<Batch> {
        let order = TrainingOrder { batch: 6, seed: 11, epoch, first_batch };
        let list = [Augment::Crop(CropSpec { padding: 1 })];
        training_batches(&split(), &list, &normalization(), order, workers).map(Result::unwrap).collect()
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
        for batch in training_batches(&split, &[], &normalization(), order, 2) {
            let batch = batch.unwrap();
            for (image, label) in batch.images.outer_iter().zip(&batch.labels) {
                let byte = (image.iter().next().unwrap() * 0.25 + 0.5) * 255.0;
                assert_eq!(i64::from(byte.round() as i32) % 10, *label);
                seen.push(byte.round() as u32);
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
        let mut batches = training_batches(&split, &[], &normalization(), order, 2);
        batches.next().unwrap().unwrap();
        drop(batches);
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
        while std::sync::Arc::strong_count(&split.store) > 1 {
            assert!(std::time::Instant::now() < deadline, "a worker still holds the images");
            std::thread::yield_now();
        }
    }
}
