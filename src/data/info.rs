//! What every reader gives, and the errors all of them make.

use std::path::Path;

use anyhow::Result;

use crate::error::InputError;

use super::store::Split;

/// What a source holds, found without decoding its images.
#[derive(Debug, Clone, PartialEq)]
pub struct DataInfo {
    /// `[channels, height, width]` of every image once loaded.
    pub shape: [usize; 3],
    /// Class names in label order.
    pub classes: Vec<String>,
    /// Images to learn from, before a validation split is cut off.
    pub train_images: usize,
    /// Images of a validation split the source has of its own.
    pub validation_images: Option<usize>,
    pub test_images: Option<usize>,
}

/// A source with its images.
#[derive(Debug)]
pub(super) struct Opened {
    pub info: DataInfo,
    pub train: Split,
    pub validation: Option<Split>,
    pub test: Option<Split>,
}

/// Names the file in an error of the system.
pub(super) fn readable<T>(result: std::io::Result<T>, path: &Path) -> Result<T> {
    result.map_err(|error| {
        let too_early = error.kind() == std::io::ErrorKind::UnexpectedEof;
        let problem = if too_early { "it ends too early".to_string() } else { error.to_string() };
        InputError::new(format!("cannot read {}: {problem}", path.display())).into()
    })
}

/// Class names: those given, or the labels' numbers.
pub(super) fn count_classes(labels: &[u32], names: &[String], file: &str) -> Result<Vec<String>> {
    let highest = labels.iter().max().map_or(0, |&label| label as usize);
    if names.is_empty() {
        return Ok((0..=highest).map(|class| class.to_string()).collect());
    }
    if let Some(place) = labels.iter().position(|&label| label as usize >= names.len()) {
        let (label, count) = (labels[place], names.len());
        let problem =
            format!("{file}: label {label} of image {place} is not below the {count} classes given");
        return Err(InputError::new(problem).hint("give `classes` a name for every label").into());
    }
    Ok(names.to_vec())
}
