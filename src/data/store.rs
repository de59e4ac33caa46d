//! Storage of pixels: in memory, or in image files that are decoded on request.

use std::borrow::Cow;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use anyhow::{Context, Result, bail};
use image::codecs::png::PngEncoder;
use image::{ExtendedColorType, ImageEncoder};

use crate::config::Truncated;
use crate::contract::Fit;

use super::decode::{decode_image, size_of};

/// Maximum number of decoded bytes of image files kept in memory; what does not fit is decoded each time.
const CACHE_BYTES: usize = 2 << 30;

/// Pixels of images of equal size, planar `[channels, height, width]` bytes.
#[derive(Debug)]
pub(super) enum Store {
    Memory {
        shape: [usize; 3],
        pixels: Vec<u8>,
    },
    Files {
        shape: [usize; 3],
        fit: Fit,
        truncated: Truncated,
        paths: Vec<PathBuf>,
        decoded: Vec<OnceLock<Box<[u8]>>>,
        cached: AtomicUsize,
    },
}

impl Store {
    pub fn memory(shape: [usize; 3], pixels: Vec<u8>) -> Self {
        Store::Memory { shape, pixels }
    }

    pub fn files(shape: [usize; 3], fit: Fit, truncated: Truncated, paths: Vec<PathBuf>) -> Self {
        let decoded = paths.iter().map(|_| OnceLock::new()).collect();
        Store::Files { shape, fit, truncated, paths, decoded, cached: AtomicUsize::new(0) }
    }

    pub fn shape(&self) -> [usize; 3] {
        match self {
            Store::Memory { shape, .. } | Store::Files { shape, .. } => *shape,
        }
    }

    /// Pixels of one image.
    ///
    /// # Errors
    /// If its file cannot be decoded.
    pub fn image(&self, index: usize) -> Result<Cow<'_, [u8]>> {
        let bytes = self.shape().iter().product::<usize>();
        match self {
            Store::Memory { pixels, .. } => Ok(Cow::Borrowed(&pixels[index * bytes..][..bytes])),
            Store::Files { shape, fit, truncated, paths, decoded, cached } => {
                if let Some(pixels) = decoded[index].get() {
                    return Ok(Cow::Borrowed(pixels));
                }
                let pixels = decode_image(&paths[index], *shape, *fit, *truncated)?;
                if cached.fetch_add(bytes, Ordering::Relaxed) + bytes > CACHE_BYTES {
                    return Ok(Cow::Owned(pixels));
                }
                Ok(Cow::Borrowed(decoded[index].get_or_init(|| pixels.into_boxed_slice())))
            }
        }
    }

    /// An image as an encoded file: its own file, or a PNG of its pixels.
    ///
    /// # Errors
    /// If it cannot be read or is neither grey nor colour.
    pub fn encoded(&self, index: usize) -> Result<Vec<u8>> {
        if let Store::Files { paths, .. } = self {
            let path = &paths[index];
            return std::fs::read(path).with_context(|| format!("cannot read {}", path.display()));
        }
        let [channels, height, width] = self.shape();
        let planes = self.image(index)?;
        let area = height * width;
        let interleaved: Vec<u8> =
            (0..channels * area).map(|place| planes[place % channels * area + place / channels]).collect();
        let color = match channels {
            1 => ExtendedColorType::L8,
            3 => ExtendedColorType::Rgb8,
            other => bail!("an image of {other} channels cannot be encoded"),
        };
        let mut file = Vec::new();
        PngEncoder::new(&mut file).write_image(&interleaved, width as u32, height as u32, color)?;
        Ok(file)
    }
}

/// Some images of a source with their labels. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Split {
    pub(super) store: Arc<Store>,
    /// Indices in the store; a sample's index is its identity.
    pub(super) samples: Arc<[u32]>,
    /// Label of each sample, in the order of `samples`.
    pub(super) labels: Arc<[u32]>,
}

impl Split {
    /// The share of the most common class.
    pub fn largest_share(&self) -> f64 {
        let mut counts = std::collections::BTreeMap::new();
        for label in self.labels.iter() {
            *counts.entry(*label).or_insert(0usize) += 1;
        }
        let most = counts.values().max().copied().unwrap_or(0);
        most as f64 / self.labels.len().max(1) as f64
    }

    /// All images of a store.
    pub(super) fn whole(store: Store, labels: Vec<u32>) -> Self {
        let samples = (0..labels.len() as u32).collect();
        Self { store: Arc::new(store), samples, labels: labels.into() }
    }

    /// The samples at the given places of this split.
    pub(super) fn pick(&self, places: &[usize]) -> Self {
        let samples = places.iter().map(|&place| self.samples[place]).collect();
        let labels = places.iter().map(|&place| self.labels[place]).collect();
        Self { store: Arc::clone(&self.store), samples, labels }
    }

    /// The file of an image, where images are files.
    pub fn path(&self, place: usize) -> Option<&Path> {
        match &*self.store {
            Store::Files { paths, .. } => paths.get(*self.samples.get(place)? as usize).map(PathBuf::as_path),
            Store::Memory { .. } => None,
        }
    }

    /// Number of images.
    pub fn len(&self) -> usize {
        self.samples.len()
    }

    pub fn is_empty(&self) -> bool {
        self.samples.is_empty()
    }

    /// `[channels, height, width]` of every image.
    pub fn shape(&self) -> [usize; 3] {
        self.store.shape()
    }

    /// How its images come to that size; `None` if all have one size from the start.
    pub fn fit(&self) -> Option<Fit> {
        match &*self.store {
            Store::Memory { .. } => None,
            Store::Files { fit, .. } => Some(*fit),
        }
    }

    /// The same images, brought to the network's size in another way, if they are image files.
    pub fn fitted(&self, wanted: Fit) -> Self {
        match &*self.store {
            Store::Files { shape, fit, truncated, paths, .. } if *fit != wanted => {
                let store = Store::files(*shape, wanted, *truncated, paths.clone());
                Self { store: Arc::new(store), ..self.clone() }
            }
            Store::Memory { .. } | Store::Files { .. } => self.clone(),
        }
    }

    /// Whether every image has the network's size from the start, by the headers of its files.
    ///
    /// # Errors
    /// If a file cannot be read.
    pub fn has_its_size(&self) -> Result<bool> {
        let (Store::Files { paths, .. }, [_, height, width]) = (&*self.store, self.shape()) else {
            return Ok(true);
        };
        for &sample in self.samples.iter() {
            if size_of(&paths[sample as usize])? != [height, width] {
                return Ok(false);
            }
        }
        Ok(true)
    }

    pub fn labels(&self) -> &[u32] {
        &self.labels
    }

    /// `count` images spread evenly over the split, or all if there are fewer.
    pub fn spread(&self, count: usize) -> Self {
        let count = count.min(self.len());
        self.pick(&(0..count).map(|index| index * self.len() / count).collect::<Vec<_>>())
    }

    /// The same images with other labels, in their order.
    pub fn with_labels(self, labels: impl Iterator<Item = u32>) -> Self {
        Self { labels: labels.collect(), ..self }
    }

    /// Total number of bytes of all decoded images.
    pub fn bytes(&self) -> usize {
        self.len() * self.shape().iter().product::<usize>()
    }

    /// The image at `place` as the bytes of a file: its own file, or a PNG of its pixels.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn encoded(&self, place: usize) -> Result<Vec<u8>> {
        self.store.encoded(self.samples[place] as usize)
    }

    /// Pixels of the image at `place`.
    ///
    /// # Errors
    /// If its file cannot be decoded.
    pub fn image(&self, place: usize) -> Result<Cow<'_, [u8]>> {
        self.store.image(self.samples[place] as usize)
    }
}
