//! CIFAR-10 and CIFAR-100 in their binary versions
//! (<https://www.cs.toronto.edu/~kriz/cifar.html>): one record per image, its labels first, then
//! 3,072 planar bytes.

use std::path::{Path, PathBuf};

use anyhow::Result;

use crate::config::{Cifar10Source, Cifar100Labels, Cifar100Source};
use crate::error::InputError;

use super::info::{DataInfo, Opened, readable};
use super::store::{Split, Store};

const SHAPE: [usize; 3] = [3, 32, 32];
const PIXELS: usize = 3 * 32 * 32;

const CIFAR10_CLASSES: [&str; 10] =
    ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"];

/// One version of the format.
struct Layout {
    train: Vec<PathBuf>,
    test: PathBuf,
    /// Number of label bytes before the pixels, and the index of the one that is used.
    label_bytes: usize,
    label: usize,
    classes: Vec<String>,
}

pub(super) fn describe10(_source: &Cifar10Source, root: &Path) -> Result<DataInfo> {
    cifar10(root)?.describe()
}

pub(super) fn read10(_source: &Cifar10Source, root: &Path) -> Result<Opened> {
    cifar10(root)?.read()
}

pub(super) fn describe100(source: &Cifar100Source, root: &Path) -> Result<DataInfo> {
    cifar100(source, root)?.describe()
}

pub(super) fn read100(source: &Cifar100Source, root: &Path) -> Result<Opened> {
    cifar100(source, root)?.read()
}

fn cifar10(root: &Path) -> Result<Layout> {
    Ok(Layout {
        train: (1..=5).map(|number| root.join(format!("data_batch_{number}.bin"))).collect(),
        test: root.join("test_batch.bin"),
        label_bytes: 1,
        label: 0,
        classes: class_names(root, "batches.meta.txt", 10)?
            .unwrap_or_else(|| CIFAR10_CLASSES.map(String::from).to_vec()),
    })
}

fn cifar100(source: &Cifar100Source, root: &Path) -> Result<Layout> {
    let (label, file, count) = match source.labels {
        Cifar100Labels::Coarse => (0, "coarse_label_names.txt", 20),
        Cifar100Labels::Fine => (1, "fine_label_names.txt", 100),
    };
    Ok(Layout {
        train: vec![root.join("train.bin")],
        test: root.join("test.bin"),
        label_bytes: 2,
        label,
        classes: class_names(root, file, count)?
            .unwrap_or_else(|| (0..count).map(|class| class.to_string()).collect()),
    })
}

/// One name per line, if the file exists.
fn class_names(root: &Path, file: &str, count: usize) -> Result<Option<Vec<String>>> {
    let path = root.join(file);
    if !path.exists() {
        return Ok(None);
    }
    let text = readable(std::fs::read_to_string(&path), &path)?;
    let names: Vec<String> =
        text.lines().map(str::trim).filter(|name| !name.is_empty()).map(String::from).collect();
    if names.len() != count {
        let problem = format!("{}: {} class names, expected {count}", path.display(), names.len());
        return Err(InputError::new(problem).into());
    }
    Ok(Some(names))
}

impl Layout {
    fn record(&self) -> usize {
        self.label_bytes + PIXELS
    }

    fn describe(&self) -> Result<DataInfo> {
        let mut train_images = 0;
        for path in &self.train {
            train_images += self.count(path)?;
        }
        Ok(DataInfo {
            shape: SHAPE,
            classes: self.classes.clone(),
            train_images,
            validation_images: None,
            test_images: Some(self.count(&self.test)?),
        })
    }

    fn count(&self, path: &Path) -> Result<usize> {
        let bytes = readable(std::fs::metadata(path), path)?.len() as usize;
        if bytes == 0 || !bytes.is_multiple_of(self.record()) {
            let problem =
                format!("{}: {bytes} bytes are not whole records of {} bytes", path.display(), self.record());
            return Err(InputError::new(problem).hint("the file is damaged; fetch it again").into());
        }
        Ok(bytes / self.record())
    }

    fn read(&self) -> Result<Opened> {
        let info = self.describe()?;
        let train: Vec<&Path> = self.train.iter().map(PathBuf::as_path).collect();
        Ok(Opened {
            notes: Vec::new(),
            info,
            train: self.split(&train)?,
            validation: None,
            test: Some(self.split(&[&self.test])?),
        })
    }

    fn split(&self, paths: &[&Path]) -> Result<Split> {
        let (mut pixels, mut labels) = (Vec::new(), Vec::new());
        for path in paths {
            self.count(path)?;
            let bytes = readable(std::fs::read(path), path)?;
            for (place, record) in bytes.chunks_exact(self.record()).enumerate() {
                let label = record[self.label];
                if usize::from(label) >= self.classes.len() {
                    let (path, classes) = (path.display(), self.classes.len());
                    let problem = format!(
                        "{path}: label {label} of record {place} is out of range for {classes} classes"
                    );
                    return Err(InputError::new(problem).into());
                }
                labels.push(u32::from(label));
                pixels.extend_from_slice(&record[self.label_bytes..]);
            }
        }
        Ok(Split::whole(Store::memory(SHAPE, pixels), labels))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn records(labels: &[&[u8]]) -> Vec<u8> {
        labels
            .iter()
            .enumerate()
            .flat_map(|(place, label)| [*label, &[place as u8; PIXELS]].concat())
            .collect()
    }

    #[test]
    fn both_labels_of_cifar100() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("train.bin"), records(&[&[3, 42], &[19, 99]])).unwrap();
        std::fs::write(folder.path().join("test.bin"), records(&[&[0, 7]])).unwrap();
        for (labels, expected, classes) in
            [(Cifar100Labels::Fine, [42, 99], 100), (Cifar100Labels::Coarse, [3, 19], 20)]
        {
            let source = Cifar100Source { root: ".".into(), labels };
            let opened = read100(&source, folder.path()).unwrap();
            assert_eq!(opened.train.labels(), expected);
            assert_eq!(opened.info.classes.len(), classes);
            assert_eq!(opened.train.image(1).unwrap()[5], 1);
            assert_eq!(opened.test.unwrap().len(), 1);
        }
    }

    #[test]
    fn damaged_files_are_named() {
        let folder = tempfile::tempdir().unwrap();
        let source = Cifar10Source { root: ".".into() };
        let error = read10(&source, folder.path()).unwrap_err();
        assert!(format!("{error:#}").contains("data_batch_1.bin"), "{error:#}");
        for number in 1..=5 {
            std::fs::write(folder.path().join(format!("data_batch_{number}.bin")), records(&[&[1]])).unwrap();
        }
        for (bytes, problem) in [
            (records(&[&[10]]), "label 10"),
            (records(&[&[1]])[..99].to_vec(), "whole records"),
            (vec![], "0 bytes"),
        ] {
            std::fs::write(folder.path().join("test_batch.bin"), bytes).unwrap();
            let error = read10(&source, folder.path()).unwrap_err();
            assert!(error.is::<InputError>() && error.to_string().contains(problem), "{error}");
        }
    }
}
