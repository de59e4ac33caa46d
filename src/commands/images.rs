//! Finds the image files named on the command line.

use std::path::PathBuf;

use anyhow::Result;

use crate::data::{FORMATS, Found};
use crate::error::InputError;
use crate::progress::Progress;

/// The named files and the images in named folders and below them, folder by folder. Other files there are counted in a
/// warning.
///
/// # Errors
/// [`InputError`] if there is none, or a folder cannot be read.
pub fn image_files(paths: &[PathBuf], progress: &dyn Progress) -> Result<Vec<PathBuf>> {
    let mut images = Vec::new();
    for path in paths {
        if path.is_dir() {
            let found = Found::below(path)?;
            if let Some(note) = found.left_out(path) {
                progress.warn(note);
            }
            images.extend(found.images);
        } else {
            images.push(path.clone());
        }
    }
    if images.is_empty() {
        return Err(InputError::new(format!("there is no {FORMATS} file in these folders"))
            .hint("give image files, or folders that contain them")
            .into());
    }
    Ok(images)
}
