//! The user's information about a classifier and its images.

use std::path::PathBuf;

use crate::contract::{ChannelOrder, Fit, PixelRange};

/// The user's information about a classifier. What is left open is determined from the file and the images.
#[derive(Debug, Clone, Default)]
pub struct Given {
    pub model: PathBuf,
    /// A folder of classes, or a pipeline file.
    pub data: PathBuf,
    /// The size of one image in the file's order of axes.
    pub shape: Option<[usize; 3]>,
    pub mean: Option<Vec<f32>>,
    pub std: Option<Vec<f32>>,
    pub range: Option<PixelRange>,
    pub order: Option<ChannelOrder>,
    pub fit: Option<Fit>,
    /// Names of the file's classes in the order of its scores.
    pub classes: Vec<String>,
    /// Ignores labels: the file's decisions take their place.
    pub unlabelled: bool,
    /// Seed for splits, batches and augmentation; otherwise the pipeline file's, so that images which it validates with stay
    /// so, or 0.
    pub seed: Option<u64>,
}
