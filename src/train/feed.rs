//! Brings training images to the device: they are copied batch by batch while workers make the next ones, or,
//! where a GPU holds the whole split, gathered and augmented there. Both ways give the same values for the same
//! recipes.

use anyhow::{Context, Result};
use ndarray::ArrayD;
use rayon::prelude::*;
use tch::{Device, Kind, Tensor};

use crate::config::Augment;
use crate::contract::Normalization;
use crate::data::{Recipe, Split, TrainingOrder, recipes, training_batches};
use crate::torch::sent;

use super::augment::{changed, mixed};
use super::losses::Targets;

/// Maximum bytes of images that are kept on a GPU.
const RESIDENT_BYTES: usize = 4 << 30;

/// Training images on their way to a device.
pub(super) struct Feed<'a> {
    split: &'a Split,
    list: &'a [Augment],
    workers: usize,
    device: Device,
    /// All images, `[images, channels, height, width]` of uint8, if they are resident on the device.
    resident: Option<Tensor>,
    /// Mean of each channel, here and on the device.
    grey: Vec<u8>,
    grey_there: Tensor,
    /// Normalised value of every byte, channel after channel.
    table: Tensor,
    /// Where each channel's values begin in that table, `[channels, 1, 1]`.
    starts: Tensor,
}

/// A batch to learn from.
pub(super) struct Fed {
    /// `[batch, channels, height, width]`, normalised.
    pub images: Tensor,
    pub targets: Targets,
}

impl<'a> Feed<'a> {
    /// Prepares a split for a device; a GPU holds all of it if it is small enough.
    ///
    /// # Errors
    /// If an image cannot be read or the device's memory runs out.
    pub fn new(
        split: &'a Split,
        normalization: &Normalization,
        list: &'a [Augment],
        workers: usize,
        device: Device,
    ) -> Result<Self> {
        let stays = matches!(device, Device::Cuda(_)) && split.bytes() <= RESIDENT_BYTES;
        let grey = normalization.grey();
        let table = Tensor::f_from_slice(normalization.table().as_flattened())?.f_to_device(device)?;
        let starts = Tensor::f_arange(grey.len() as i64, (Kind::Int64, device))? * 256;
        let mut feed = Self {
            split,
            list,
            workers,
            device,
            resident: None,
            grey_there: sent(&grey, device)?,
            grey,
            table,
            starts: starts.f_view([-1, 1, 1])?,
        };
        if stays {
            feed.settle()?;
        }
        Ok(feed)
    }

    /// Copies all images to the device.
    fn settle(&mut self) -> Result<()> {
        let images =
            (0..self.split.len()).into_par_iter().map(|place| Ok(self.split.image(place)?.into_owned()));
        let images = images.collect::<Result<Vec<Vec<u8>>>>()?.concat();
        let [channels, height, width] = self.split.shape().map(|side| side as i64);
        let images = Tensor::f_from_slice(&images)?.f_view([-1, channels, height, width])?;
        self.resident = Some(images.f_to_device(self.device).context("the images do not fit on the device")?);
        Ok(())
    }

    /// The batches of an epoch.
    pub fn epoch(&self, order: TrainingOrder) -> Box<dyn Iterator<Item = Result<Fed>> + '_> {
        match &self.resident {
            Some(images) => Box::new(
                recipes(self.split, self.list, order)
                    .map(|recipe| self.fed(self.gathered(images, &recipe)?, recipe)),
            ),
            None => Box::new(training_batches(self.split, self.list, &self.grey, order, self.workers).map(
                |batch| {
                    let batch = batch?;
                    self.fed(self.copied(&batch.images)?, batch.recipe)
                },
            )),
        }
    }

    fn gathered(&self, images: &Tensor, recipe: &Recipe) -> Result<Tensor> {
        let places: Vec<i64> = recipe.places.iter().map(|&place| place as i64).collect();
        let images = images.f_index_select(0, &sent(&places, self.device)?)?;
        changed(images, &recipe.changes, &self.grey_there)
    }

    /// Copies bytes to the device.
    fn copied(&self, images: &ArrayD<u8>) -> Result<Tensor> {
        let size: Vec<i64> = images.shape().iter().map(|&side| side as i64).collect();
        let bytes = images.as_slice().context("a batch lies in one piece")?;
        Ok(sent(bytes, self.device)?.f_view(size.as_slice())?)
    }

    fn fed(&self, bytes: Tensor, recipe: Recipe) -> Result<Fed> {
        let images = self.table.f_take(&(bytes.f_to_kind(Kind::Int64)? + &self.starts))?;
        let labels = sent(&recipe.labels, self.device)?;
        let Some(mix) = &recipe.mix else {
            return Ok(Fed { images, targets: Targets::plain(labels) });
        };
        let others: Vec<i64> = mix.partners.iter().map(|&partner| recipe.labels[partner]).collect();
        let targets = Targets { labels, mixed: Some((sent(&others, self.device)?, mix.share)) };
        Ok(Fed { images: mixed(images, mix)?, targets })
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::{Data, Digits, Labels, Source};
    use crate::data::{Dataset, batches_per_epoch, load};

    fn digits() -> Dataset {
        let source = Source::Digits(Digits {});
        let data = Data {
            source,
            labels: Labels::Own,
            validation: 0.2,
            images: Some(200),
            augment: Vec::new(),
            workers: 1,
        };
        load(&data, Path::new("."), 1).unwrap()
    }

    #[test]
    fn resident_images_are_those_that_are_copied() {
        fed_alike(Device::Cpu);
    }

    #[test]
    #[ignore = "needs CUDA"]
    fn resident_images_are_those_that_are_copied_on_cuda() {
        fed_alike(crate::torch::resolve_device(crate::config::Device::Cuda(0)).unwrap());
    }

    /// Images that are copied to a device, or resident there, have the same values as on the CPU.
    #[track_caller]
    fn fed_alike(device: Device) {
        let data = digits();
        let text = "[crop: {padding: 1}, flip: {}, rotate: {degrees: 20}, cutout: {size: 3}, mixup: {alpha: 0.4}, \
                    cutmix: {alpha: 1.0}]";
        let list: Vec<Augment> = crate::config::parse(text, "list").unwrap();
        let feed = |device| Feed::new(&data.train, &data.normalization, &list, 2, device).unwrap();
        let (usual, mut copied, mut resident) = (feed(Device::Cpu), feed(device), feed(device));
        copied.resident = None;
        resident.settle().unwrap();
        let mut batches = 0;
        for epoch in 0..3 {
            let order = TrainingOrder { batch: 32, seed: 5, epoch, first_batch: epoch };
            let others = copied.epoch(order).zip(resident.epoch(order));
            for (usual, (one, other)) in usual.epoch(order).zip(others) {
                let usual = usual.unwrap();
                for other in [one.unwrap(), other.unwrap()] {
                    assert_eq!(other.images.device(), device);
                    assert_eq!(usual.images, other.images.to_device(Device::Cpu));
                    assert_eq!(usual.targets.labels, other.targets.labels.to_device(Device::Cpu));
                    let here = |(others, share): &(Tensor, f64)| (others.to_device(Device::Cpu), *share);
                    assert_eq!(usual.targets.mixed, other.targets.mixed.as_ref().map(here));
                }
                batches += 1;
            }
        }
        let whole = batches_per_epoch(data.train.len(), 32);
        assert!(whole >= 3);
        assert_eq!(batches, whole + (whole - 1) + (whole - 2));
    }

    #[test]
    fn what_is_fed_is_normalised_as_what_is_evaluated() {
        let data = digits();
        let feed = Feed::new(&data.train, &data.normalization, &[], 1, Device::Cpu).unwrap();
        let order = TrainingOrder { batch: 8, seed: 5, epoch: 0, first_batch: 0 };
        let recipe = recipes(&data.train, &[], order).next().unwrap();
        let fed = feed.epoch(order).next().unwrap().unwrap();
        for (index, &place) in recipe.places.iter().enumerate() {
            let expected = data.normalization.apply(&data.train.image(place).unwrap());
            let found: Vec<f32> = Vec::try_from(fed.images.get(index as i64).view(-1)).unwrap();
            assert_eq!(found, expected);
            assert_eq!(fed.targets.labels.int64_value(&[index as i64]), recipe.labels[index]);
        }
    }
}
