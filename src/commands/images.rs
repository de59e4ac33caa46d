//! Finds the image files named on the command line.

use std::path::PathBuf;

use anyhow::{Context, Result};

use crate::data::is_image_file;
use crate::error::InputError;

/// The named files and those in named folders, sorted by name.
///
/// # Errors
/// [`InputError`] if there is none, or a folder cannot be read.
pub fn image_files(paths: &[PathBuf]) -> Result<Vec<PathBuf>> {
    let mut images = Vec::new();
    for path in paths {
        if path.is_dir() {
            let mut inside = Vec::new();
            for entry in std::fs::read_dir(path).with_context(|| format!("cannot read {}", path.display()))? {
                inside.push(entry?.path());
            }
            inside.retain(|path| is_image_file(path));
            inside.sort();
            images.extend(inside);
        } else {
            images.push(path.clone());
        }
    }
    if images.is_empty() {
        return Err(InputError::new("there is no PNG or JPEG file in these folders")
            .hint("give image files, or folders that contain them")
            .into());
    }
    Ok(images)
}
