//! Normalisation: from bytes to the values a network reads.

use serde::{Deserialize, Serialize};

/// Normalised value of every byte, per channel.
pub type Table = Vec<[f32; 256]>;

/// Per-channel mean and standard deviation of the training images, on the scale from 0 to 1.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Normalization {
    pub mean: Vec<f32>,
    pub std: Vec<f32>,
}

impl Normalization {
    /// The identity: mean 0 and deviation 1.
    pub fn none(channels: usize) -> Self {
        Self { mean: vec![0.0; channels], std: vec![1.0; channels] }
    }

    /// `(byte / 255 − mean) / std` for every byte and channel.
    pub fn table(&self) -> Table {
        let normalised = |byte: usize, channel: usize| {
            ((byte as f64 / 255.0 - f64::from(self.mean[channel])) / f64::from(self.std[channel])) as f32
        };
        (0..self.mean.len()).map(|channel| std::array::from_fn(|byte| normalised(byte, channel))).collect()
    }

    /// The byte nearest to each channel's mean.
    pub fn grey(&self) -> Vec<u8> {
        self.mean.iter().map(|mean| (255.0 * mean).round() as u8).collect()
    }

    /// Normalises one image, planar `[channels, height, width]`.
    pub fn apply(&self, pixels: &[u8]) -> Vec<f32> {
        let table = self.table();
        let plane = pixels.len() / table.len().max(1);
        pixels.iter().enumerate().map(|(index, &byte)| table[index / plane][usize::from(byte)]).collect()
    }
}
