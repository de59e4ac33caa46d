//! MNIST's idx format, plain or gzip-compressed.
//!
//! Big-endian: two zero bytes, a type byte (8: unsigned bytes), the number of dimensions, then each
//! dimension as 32 bits, then the values (<http://yann.lecun.com/exdb/mnist/>).

use std::fs::File;
use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};

use anyhow::Result;
use flate2::read::GzDecoder;

use crate::config::IdxSource;
use crate::error::InputError;

use super::info::{DataInfo, Opened, count_classes, readable};
use super::store::{Split, Store};

/// Maximum number of pixel bytes one file may claim.
const MAX_PIXEL_BYTES: u64 = 16 << 30;

/// The type byte of unsigned bytes.
const UNSIGNED_BYTE: u8 = 0x08;

/// Reads headers and labels.
pub(super) fn describe(source: &IdxSource, root: &Path) -> Result<DataInfo> {
    let (train, test) = (pair(root, "train")?, pair(root, "t10k").ok());
    let (labels, name) = labels(&train.labels)?;
    let [images, height, width] = header::<3>(&mut open(&train.images)?, &train.images)?;
    let classes = count_classes(&labels, &source.classes, &name)?;
    let test_images = match test {
        Some(test) => Some(header::<3>(&mut open(&test.images)?, &test.images)?[0]),
        None => None,
    };
    Ok(DataInfo {
        shape: [1, height, width],
        classes,
        train_images: images,
        validation_images: None,
        test_images,
    })
}

/// Reads everything.
pub(super) fn read(source: &IdxSource, root: &Path) -> Result<Opened> {
    let info = describe(source, root)?;
    let train = split(&pair(root, "train")?, &info)?;
    let test = match pair(root, "t10k") {
        Ok(files) => Some(split(&files, &info)?),
        Err(_) => None,
    };
    Ok(Opened { info, train, validation: None, test, notes: Vec::new() })
}

/// One split from the contents of its two files, used for the built-in data set.
pub(super) fn split_from(images: impl Read, labels: impl Read, name: &str, classes: usize) -> Result<Split> {
    let (mut images, mut labels) = (images, labels);
    let path = Path::new(name);
    let [count, height, width] = header::<3>(&mut images, path)?;
    let [labelled] = header::<1>(&mut labels, path)?;
    let pixels = values(&mut images, count * height * width, path)?;
    let labels = values(&mut labels, labelled, path)?;
    checked_split([1, height, width], count, pixels, labels, name, classes)
}

/// The images and labels of one split.
struct Pair {
    images: PathBuf,
    labels: PathBuf,
}

fn pair(root: &Path, prefix: &str) -> Result<Pair> {
    Ok(Pair {
        images: find(root, &format!("{prefix}-images-idx3-ubyte"))?,
        labels: find(root, &format!("{prefix}-labels-idx1-ubyte"))?,
    })
}

fn find(root: &Path, name: &str) -> Result<PathBuf> {
    let candidates =
        [root.join(name), root.join(format!("{name}.gz")), root.join(name.replace("-idx", ".idx"))];
    let found = candidates.iter().find(|path| path.exists());
    found.cloned().ok_or_else(|| {
        InputError::new(format!("{}: found neither {name} nor {name}.gz", root.display()))
            .hint("`root` is the folder that holds the four idx files")
            .into()
    })
}

fn open(path: &Path) -> Result<Box<dyn Read>> {
    let file = BufReader::new(readable(File::open(path), path)?);
    match path.extension().is_some_and(|extension| extension == "gz") {
        true => Ok(Box::new(GzDecoder::new(file))),
        false => Ok(Box::new(file)),
    }
}

fn header<const DIMS: usize>(reader: &mut impl Read, path: &Path) -> Result<[usize; DIMS]> {
    let fail = |problem: String| InputError::new(format!("{}: {problem}", path.display()));
    let mut magic = [0; 4];
    readable(reader.read_exact(&mut magic), path)?;
    if magic != [0, 0, UNSIGNED_BYTE, DIMS as u8] {
        let problem = format!("not an idx file of bytes with {DIMS} dimensions (starts with {magic:02x?})");
        return Err(fail(problem).into());
    }
    let mut dims = [0usize; DIMS];
    let mut total = 1u64;
    for dim in &mut dims {
        let mut bytes = [0; 4];
        readable(reader.read_exact(&mut bytes), path)?;
        *dim = u32::from_be_bytes(bytes) as usize;
        total = total.saturating_mul(*dim as u64);
    }
    if total == 0 || total > MAX_PIXEL_BYTES {
        return Err(fail(format!(
            "claims dimensions {dims:?}, but from 1 to {MAX_PIXEL_BYTES} values are supported"
        ))
        .into());
    }
    Ok(dims)
}

/// Reads exactly `count` values, after which the file must end.
fn values(reader: &mut impl Read, count: usize, path: &Path) -> Result<Vec<u8>> {
    let mut values = Vec::new();
    readable(reader.take(count as u64 + 1).read_to_end(&mut values), path)?;
    if values.len() != count {
        let found = if values.len() > count { "more".into() } else { values.len().to_string() };
        let problem = format!("{}: the header promises {count} values, found {found}", path.display());
        return Err(InputError::new(problem).hint("the file is damaged; fetch it again").into());
    }
    Ok(values)
}

fn labels(path: &Path) -> Result<(Vec<u32>, String)> {
    let mut reader = open(path)?;
    let [count] = header::<1>(&mut reader, path)?;
    let labels = values(&mut reader, count, path)?;
    Ok((labels.into_iter().map(u32::from).collect(), path.display().to_string()))
}

fn split(files: &Pair, info: &DataInfo) -> Result<Split> {
    let mut reader = open(&files.images)?;
    let [count, height, width] = header::<3>(&mut reader, &files.images)?;
    let shape = [1, height, width];
    if shape != info.shape {
        let problem = format!(
            "{}: images of {height}x{width}, but the training images are {:?}",
            files.images.display(),
            info.shape
        );
        return Err(InputError::new(problem).into());
    }
    let pixels = values(&mut reader, count * height * width, &files.images)?;
    let (labels, name) = labels(&files.labels)?;
    let labels = labels.into_iter().map(|label| label as u8).collect();
    checked_split(shape, count, pixels, labels, &name, info.classes.len())
}

fn checked_split(
    shape: [usize; 3],
    images: usize,
    pixels: Vec<u8>,
    labels: Vec<u8>,
    name: &str,
    classes: usize,
) -> Result<Split> {
    if labels.len() != images {
        return Err(InputError::new(format!("{name}: {} labels for {images} images", labels.len())).into());
    }
    if let Some(place) = labels.iter().position(|&label| usize::from(label) >= classes) {
        let problem =
            format!("{name}: label {} of image {place} is out of range for {classes} classes", labels[place]);
        return Err(InputError::new(problem).into());
    }
    let labels = labels.into_iter().map(u32::from).collect();
    Ok(Split::whole(Store::memory(shape, pixels), labels))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn idx(dims: &[u32], values: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0, 0, UNSIGNED_BYTE, dims.len() as u8];
        dims.iter().for_each(|dim| bytes.extend(dim.to_be_bytes()));
        bytes.extend(values);
        bytes
    }

    fn folder(images: &[u8], labels: &[u8], zip: bool) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for (name, bytes) in [("train-images-idx3-ubyte", images), ("train-labels-idx1-ubyte", labels)] {
            if zip {
                let file = File::create(folder.path().join(format!("{name}.gz"))).unwrap();
                flate2::write::GzEncoder::new(file, flate2::Compression::fast()).write_all(bytes).unwrap();
            } else {
                std::fs::write(folder.path().join(name), bytes).unwrap();
            }
        }
        folder
    }

    fn source() -> IdxSource {
        IdxSource { root: ".".into(), classes: Vec::new() }
    }

    #[test]
    fn plain_and_compressed_files_read_the_same() {
        let (images, labels) = (idx(&[3, 1, 2], &[1, 2, 3, 4, 5, 6]), idx(&[3], &[1, 0, 1]));
        for zip in [false, true] {
            let folder = folder(&images, &labels, zip);
            let opened = read(&source(), folder.path()).unwrap();
            assert_eq!(opened.info.classes, ["0", "1"]);
            assert_eq!(opened.info.shape, [1, 1, 2]);
            assert_eq!(*opened.train.image(1).unwrap(), [3, 4]);
            assert_eq!(opened.train.labels(), [1, 0, 1]);
            assert!(opened.test.is_none());
        }
    }

    #[test]
    fn damaged_files_are_named() {
        let (images, labels) = (idx(&[2, 1, 2], &[1, 2, 3, 4]), idx(&[2], &[0, 1]));
        for (images, labels, problem) in [
            (images[..images.len() - 1].to_vec(), labels.clone(), "promises 4 values, found 3"),
            ([images.as_slice(), &[9]].concat(), labels.clone(), "promises 4 values, found more"),
            (images[..7].to_vec(), labels.clone(), "train-images"),
            (idx(&[u32::MAX, u32::MAX, 9], &[]), labels.clone(), "claims dimensions"),
            (idx(&[0, 1, 2], &[]), labels.clone(), "claims dimensions"),
            (labels.clone(), labels.clone(), "with 3 dimensions"),
            (images.clone(), idx(&[3], &[0, 1, 1]), "3 labels for 2 images"),
        ] {
            let error = read(&source(), folder(&images, &labels, false).path()).unwrap_err();
            assert!(format!("{error:#}").contains(problem), "{error:#} should say {problem}");
            assert!(error.chain().any(|cause| cause.is::<InputError>()), "{error:#}");
        }
        let named = IdxSource { classes: vec!["only".into()], ..source() };
        let error = read(&named, folder(&images, &labels, false).path()).unwrap_err();
        assert!(error.to_string().contains("label 1"), "{error}");
    }
}
