//! Writes files that are complete or absent: under a temporary name, synced, then renamed.

use std::io::{ErrorKind, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use anyhow::{Context, Result};
use ndarray::ArrayD;
use ndarray_npy::{WritableElement, WriteNpyExt};

use crate::error::InputError;

/// Prefix of a file's name while it is being written.
const WRITING: &str = ".writing-";

/// Removes half-written files that a killed process left in a folder and the folders below it.
///
/// # Errors
/// [`InputError`] with a remedy if the folder does not permit it.
pub fn clear_half_written(folder: &Path) -> Result<()> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Ok(()) };
    for entry in entries.flatten() {
        let path = entry.path();
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            clear_half_written(&path)?;
        } else if entry.file_name().to_string_lossy().starts_with(WRITING) {
            std::fs::remove_file(&path).map_err(|error| explain(error, &path))?;
        }
    }
    Ok(())
}

/// Writes `bytes` to `path`, with the usual permissions of a new file, so that a crash at any moment leaves the
/// old file or the new one.
///
/// # Errors
/// [`InputError`] with a remedy if the disk is full or the folder is not writable.
pub fn write_atomic(path: &Path, bytes: &[u8]) -> Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    create_folder(folder)?;
    let write = || -> std::io::Result<()> {
        let plain = std::fs::Permissions::from_mode(0o666);
        let mut file = tempfile::Builder::new().prefix(WRITING).permissions(plain).tempfile_in(folder)?;
        file.write_all(bytes)?;
        file.as_file().sync_all()?;
        file.persist(path)?;
        std::fs::File::open(folder)?.sync_all()
    };
    write().map_err(|error| explain(error, path)).context("nothing written before is lost")
}

/// Writes an array in NumPy's format with [`write_atomic`].
///
/// # Errors
/// The errors of [`write_atomic`].
pub fn write_npy<T: WritableElement>(path: &Path, array: &ArrayD<T>) -> Result<()> {
    let mut bytes = Vec::new();
    array.write_npy(&mut bytes).with_context(|| format!("cannot write {}", path.display()))?;
    write_atomic(path, &bytes)
}

/// Creates a folder and its parents.
///
/// # Errors
/// [`InputError`] with a remedy if that is not permitted.
pub fn create_folder(folder: &Path) -> Result<()> {
    std::fs::create_dir_all(folder).map_err(|error| explain(error, folder))
}

#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "the kinds that have a remedy; the standard library adds others"
)]
fn explain(error: std::io::Error, path: &Path) -> anyhow::Error {
    let message = format!("cannot write {}: {error}", path.display());
    let hint = match error.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => "free some space and run the same command again",
        ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => "choose a writable folder with --out",
        ErrorKind::NotADirectory | ErrorKind::AlreadyExists => {
            "there is a file where a folder is needed; move it away"
        }
        ErrorKind::NotFound | ErrorKind::InvalidFilename => "choose another folder",
        _ => return anyhow::Error::new(error).context(format!("cannot write {}", path.display())),
    };
    InputError::new(message).hint(hint).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_in_place_of_a_folder_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("taken");
        write_atomic(&file, b"one").unwrap();
        write_atomic(&file, b"two").unwrap();
        assert_eq!(std::fs::read(&file).unwrap(), b"two");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
        let error = write_atomic(&file.join("below"), b"x").unwrap_err();
        assert!(error.chain().any(|cause| cause.is::<InputError>()), "{error:#}");
    }
}
