//! Which files of a folder are images, by their names, and which are not.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::Result;

use crate::error::InputError;

use super::info::readable;

/// Extensions of the formats that are read; what a file holds is told by its first bytes.
const EXTENSIONS: [&str; 11] =
    ["png", "jpg", "jpeg", "jpe", "jfif", "webp", "bmp", "gif", "tif", "tiff", "jif"];

/// The formats that are read, for messages.
pub const FORMATS: &str = "PNG, JPEG, WebP, BMP, GIF or TIFF";

/// Folders in folders that are searched.
const DEEPEST: usize = 32;

/// Whether a path is a file whose name ends like that of an image.
pub fn is_image_file(path: &Path) -> bool {
    EXTENSIONS.contains(&extension(path).as_str()) && path.is_file()
}

fn extension(path: &Path) -> String {
    path.extension().unwrap_or_default().to_string_lossy().to_lowercase()
}

/// What a folder and those below it hold.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Found {
    /// Images, folder by folder in the order of their names.
    pub images: Vec<PathBuf>,
    /// How many other files there are, by extension; hidden ones do not count.
    pub others: BTreeMap<String, usize>,
}

impl Found {
    /// Looks for images in a folder and below it.
    ///
    /// # Errors
    /// [`InputError`] if a folder cannot be read, or if they are nested too deep.
    pub fn below(folder: &Path) -> Result<Self> {
        let mut found = Self::default();
        found.add(folder, DEEPEST)?;
        Ok(found)
    }

    fn add(&mut self, folder: &Path, levels: usize) -> Result<()> {
        let Some(below) = levels.checked_sub(1) else {
            let problem = format!("{}: folders lie more than {DEEPEST} deep", folder.display());
            return Err(InputError::new(problem).hint("is there a link to a folder above?").into());
        };
        for path in entries(folder)? {
            if path.is_dir() {
                self.add(&path, below)?;
            } else {
                self.file(path);
            }
        }
        Ok(())
    }

    /// Counts one file.
    pub(super) fn file(&mut self, path: PathBuf) {
        if is_image_file(&path) {
            self.images.push(path);
        } else {
            *self.others.entry(extension(&path)).or_default() += 1;
        }
    }

    /// Adds what another folder holds.
    pub(super) fn extend(&mut self, other: Self) {
        self.images.extend(other.images);
        for (extension, count) in other.others {
            *self.others.entry(extension).or_default() += count;
        }
    }

    /// A sentence about the files that are no images, if there are any.
    pub fn left_out(&self, folder: &Path) -> Option<String> {
        let count: usize = self.others.values().sum();
        let kinds = self.others.iter().map(|(extension, count)| match extension.as_str() {
            "" => format!("{count} without an extension"),
            extension => format!("{count} .{extension}"),
        });
        (count > 0).then(|| {
            let files = if count == 1 {
                "1 file is no image and is"
            } else {
                &format!("{count} files are no images and are")
            };
            format!("{}: {files} left out: {}", folder.display(), kinds.collect::<Vec<_>>().join(", "))
        })
    }
}

/// The entries of a folder, sorted, without hidden ones.
pub(super) fn entries(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut paths = Vec::new();
    for entry in readable(std::fs::read_dir(folder), folder)? {
        let path = readable(entry, folder)?.path();
        if !name_of(&path).starts_with('.') {
            paths.push(path);
        }
    }
    paths.sort();
    Ok(paths)
}

pub(super) fn name_of(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_image_is_counted() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(folder.path().join("a/b")).unwrap();
        for path in ["a/1.JPG", "a/b/2.webp", "3.tiff", "notes.txt", "a/more.txt", "a/b/README", ".hidden"] {
            std::fs::write(folder.path().join(path), "").unwrap();
        }
        let found = Found::below(folder.path()).unwrap();
        let names: Vec<String> = found.images.iter().map(|path| name_of(path)).collect();
        assert_eq!(names, ["3.tiff", "1.JPG", "2.webp"]);
        let told = found.left_out(Path::new("root")).unwrap();
        assert_eq!(told, "root: 3 files are no images and are left out: 1 without an extension, 2 .txt");
        assert_eq!(Found::default().left_out(Path::new("root")), None);
    }
}
