//! The common result of all readers, and the errors they share.

use std::path::Path;

use anyhow::Result;

use crate::error::InputError;

use super::store::Split;

/// Contents of a source, determined without decoding its images.
#[derive(Debug, Clone, PartialEq)]
pub struct DataInfo {
    /// `[channels, height, width]` of every image once loaded.
    pub shape: [usize; 3],
    /// Class names in label order.
    pub classes: Vec<String>,
    /// Training images, before a validation split is cut off.
    pub train_images: usize,
    /// Images in the source's own validation split, if it has one.
    pub validation_images: Option<usize>,
    pub test_images: Option<usize>,
}

/// A source as far as it is known before its images are read.
#[derive(Debug, Clone, PartialEq)]
pub struct Described {
    pub info: DataInfo,
    /// What a user should know of it, in sentences: files that are left out, classes without images.
    pub notes: Vec<String>,
}

impl From<DataInfo> for Described {
    fn from(info: DataInfo) -> Self {
        Self { info, notes: Vec::new() }
    }
}

/// A source with its images.
#[derive(Debug)]
pub(super) struct Opened {
    pub info: DataInfo,
    pub train: Split,
    pub validation: Option<Split>,
    pub test: Option<Split>,
    /// As [`Described::notes`].
    pub notes: Vec<String>,
}

/// Adds the file's name to an I/O error.
pub(super) fn readable<T>(result: std::io::Result<T>, path: &Path) -> Result<T> {
    result.map_err(|error| {
        let too_early = error.kind() == std::io::ErrorKind::UnexpectedEof;
        let problem = if too_early { "the file ends too early".to_string() } else { error.to_string() };
        InputError::new(format!("cannot read {}: {problem}", path.display())).into()
    })
}

/// Class names: the given ones, or the numbers of the labels.
pub(super) fn count_classes(labels: &[u32], names: &[String], file: &str) -> Result<Vec<String>> {
    let highest = labels.iter().max().map_or(0, |&label| label as usize);
    if names.is_empty() {
        return Ok((0..=highest).map(|class| class.to_string()).collect());
    }
    if let Some(place) = labels.iter().position(|&label| label as usize >= names.len()) {
        let (label, count) = (labels[place], names.len());
        let problem =
            format!("{file}: label {label} of image {place} is out of range for the {count} classes given");
        return Err(InputError::new(problem).hint("give `classes` a name for every label").into());
    }
    Ok(names.to_vec())
}
