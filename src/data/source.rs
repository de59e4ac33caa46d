//! Opens a pipeline's `source`: selects the reader and resolves the folder it reads from.

use std::path::{Path, PathBuf};

use anyhow::Result;

use crate::config::{Data, Source};
use crate::error::InputError;

use super::info::{Described, Opened};
use super::{cifar, digits, folder, idx};

/// Reads headers and names only. Relative paths are resolved against `base`.
///
/// # Errors
/// [`InputError`] if a file is missing, truncated or not what it should be.
pub fn describe(data: &Data, base: &Path) -> Result<Described> {
    Ok(match &data.source {
        Source::Digits(_) => digits::read()?.info.into(),
        Source::Idx(idx) => idx::describe(idx, &root(&idx.root, base)?)?.into(),
        Source::Cifar10(cifar) => cifar::describe10(cifar, &root(&cifar.root, base)?)?.into(),
        Source::Cifar100(cifar) => cifar::describe100(cifar, &root(&cifar.root, base)?)?.into(),
        Source::Folder(folder) => folder::describe(folder, data.labels, &root(&folder.root, base)?)?,
    })
}

pub(super) fn open(data: &Data, base: &Path) -> Result<Opened> {
    match &data.source {
        Source::Digits(_) => digits::read(),
        Source::Idx(idx) => idx::read(idx, &root(&idx.root, base)?),
        Source::Cifar10(cifar) => cifar::read10(cifar, &root(&cifar.root, base)?),
        Source::Cifar100(cifar) => cifar::read100(cifar, &root(&cifar.root, base)?),
        Source::Folder(folder) => folder::read(folder, data.labels, &root(&folder.root, base)?),
    }
}

fn root(root: &Path, base: &Path) -> Result<PathBuf> {
    let root = base.join(root);
    if root.is_dir() {
        return Ok(root);
    }
    let problem = format!("the data folder {} does not exist", root.display());
    Err(InputError::new(problem)
        .hint("a relative `root` starts at the pipeline file's folder, one from a variable or the command line at the current folder")
        .into())
}
