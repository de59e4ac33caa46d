//! From a pipeline's `source` to images: which reader reads it, and where.

use std::path::{Path, PathBuf};

use anyhow::Result;

use crate::config::Source;
use crate::error::InputError;

use super::store::Split;
use super::{cifar, digits, folder, idx};

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

/// Reads headers and names only. Relative paths start at `base`.
///
/// # Errors
/// [`InputError`] if a file is missing, truncated or not what it should be.
pub fn describe(source: &Source, base: &Path) -> Result<DataInfo> {
    match source {
        Source::Digits(_) => Ok(digits::read()?.info),
        Source::Idx(idx) => idx::describe(idx, &root(&idx.root, base)?),
        Source::Cifar10(cifar) => cifar::describe10(cifar, &root(&cifar.root, base)?),
        Source::Cifar100(cifar) => cifar::describe100(cifar, &root(&cifar.root, base)?),
        Source::Folder(folder) => folder::describe(folder, &root(&folder.root, base)?),
    }
}

pub(super) fn open(source: &Source, base: &Path) -> Result<Opened> {
    match source {
        Source::Digits(_) => digits::read(),
        Source::Idx(idx) => idx::read(idx, &root(&idx.root, base)?),
        Source::Cifar10(cifar) => cifar::read10(cifar, &root(&cifar.root, base)?),
        Source::Cifar100(cifar) => cifar::read100(cifar, &root(&cifar.root, base)?),
        Source::Folder(folder) => folder::read(folder, &root(&folder.root, base)?),
    }
}

fn root(root: &Path, base: &Path) -> Result<PathBuf> {
    let root = base.join(root);
    if root.is_dir() {
        return Ok(root);
    }
    let problem = format!("the data folder {} is not there", root.display());
    Err(InputError::new(problem).hint("`root` starts at the pipeline file's folder, or is absolute").into())
}

/// Names the file in an error of the system.
pub(super) fn readable<T>(result: std::io::Result<T>, path: &Path) -> Result<T> {
    result.map_err(|error| {
        let problem = match error.kind() {
            std::io::ErrorKind::UnexpectedEof => "it ends too early".to_string(),
            _ => error.to_string(),
        };
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
