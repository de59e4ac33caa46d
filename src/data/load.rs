//! The whole data set of a run: splits, normalisation, fingerprint.

use std::path::Path;

use anyhow::Result;
use rayon::prelude::{IntoParallelIterator, ParallelIterator};

use crate::config::Data;
use crate::contract::Normalization;
use crate::error::InputError;
use crate::seed::derive_seed;

use super::decode::TRUNCATED;
use super::info::DataInfo;
use super::source::open;
use super::split::stratified;
use super::store::Split;

/// Maximum number of broken image files named in one message.
const NAMED_FILES: usize = 10;

/// Seed for choosing the images if only a subset is used: the same subset for every seed of a pipeline.
const SUBSET_SEED: u64 = 0;

/// All the data a run reads.
#[derive(Debug, Clone)]
pub struct Dataset {
    pub info: DataInfo,
    pub train: Split,
    pub validation: Split,
    /// Evaluated once, after the choice of a student.
    pub test: Option<Split>,
    pub normalization: Normalization,
    /// BLAKE3 hash of pixels, labels, class names and the splits, in hex.
    pub fingerprint: String,
    /// What a user should know of the source, in sentences.
    pub notes: Vec<String>,
}

/// Reads a source, decodes every image once, cuts off the validation split and computes the normalisation
/// from the remaining training images. The same `seed` gives the same splits.
///
/// # Errors
/// [`InputError`] if files are missing or damaged; broken images are named together.
pub fn load(data: &Data, base: &Path, seed: u64) -> Result<Dataset> {
    let mut opened = open(data, base)?;
    if let Some(images) = data.images.filter(|&images| images < opened.train.len()) {
        let share = images as f64 / opened.train.len() as f64;
        opened.train = stratified(&opened.train, share, derive_seed(SUBSET_SEED, &["subset"])).1;
    }
    let (train, validation) = match opened.validation {
        Some(validation) => (opened.train, validation),
        None => stratified(&opened.train, data.validation, derive_seed(seed, &["validation"])),
    };
    if train.is_empty() || validation.is_empty() {
        let (learn, held) = (train.len(), validation.len());
        let problem =
            format!("{learn} training images and {held} validation images; both splits need at least one");
        return Err(InputError::new(problem).hint("change `data.validation`, the share held out").into());
    }
    let (digests, sums) = scan(&train)?;
    let normalization = sums.normalization(train.len() * train.shape()[1] * train.shape()[2]);
    let mut hasher = blake3::Hasher::new();
    hasher.update(format!("{:?}", opened.info).as_bytes());
    // Of images that have the network's size, pixels alone do not tell; the one fit of earlier versions is not hashed.
    if let Some(fit) = train.fit().filter(|fit| !fit.is_stretch()) {
        hasher.update(fit.name().as_bytes());
    }
    fingerprint(&mut hasher, &train, &digests);
    for split in [Some(&validation), opened.test.as_ref()].into_iter().flatten() {
        fingerprint(&mut hasher, split, &scan(split)?.0);
    }
    Ok(Dataset {
        info: opened.info,
        train,
        validation,
        test: opened.test,
        normalization,
        fingerprint: hasher.finalize().to_hex().to_string(),
        notes: opened.notes,
    })
}

fn fingerprint(hasher: &mut blake3::Hasher, split: &Split, digests: &[blake3::Hash]) {
    hasher.update(&(split.len() as u64).to_le_bytes());
    for ((sample, label), digest) in split.samples.iter().zip(split.labels.iter()).zip(digests) {
        hasher.update(&sample.to_le_bytes()).update(&label.to_le_bytes()).update(digest.as_bytes());
    }
}

/// Sums of the bytes and of their squares per channel, as integers, so that the order of addition does not
/// matter.
struct Sums {
    bytes: Vec<u64>,
    squares: Vec<u64>,
}

impl Sums {
    /// Mean and standard deviation over `count` values per channel. A constant channel gets deviation 1.
    fn normalization(&self, count: usize) -> Normalization {
        let count = count as f64;
        let mut normalization = Normalization { mean: Vec::new(), std: Vec::new() };
        for (&sum, &square) in self.bytes.iter().zip(&self.squares) {
            let mean = sum as f64 / count;
            let deviation = (square as f64 / count - mean * mean).max(0.0).sqrt();
            normalization.mean.push((mean / 255.0) as f32);
            normalization.std.push(if deviation > 0.0 { (deviation / 255.0) as f32 } else { 1.0 });
        }
        normalization
    }
}

/// Decodes every image of a split and returns the hash of each and the sums over all.
fn scan(split: &Split) -> Result<(Vec<blake3::Hash>, Sums)> {
    let [channels, height, width] = split.shape();
    let scanned: Vec<Result<(blake3::Hash, Vec<[u64; 2]>)>> = (0..split.len())
        .into_par_iter()
        .map(|place| {
            let pixels = split.image(place)?;
            let planes = pixels.chunks_exact(height * width);
            let sums = planes.map(|plane| {
                plane.iter().fold([0, 0], |[sum, square], &byte| {
                    [sum + u64::from(byte), square + u64::from(byte) * u64::from(byte)]
                })
            });
            Ok((blake3::hash(&pixels), sums.collect()))
        })
        .collect();
    let mut digests = Vec::with_capacity(split.len());
    let mut total = Sums { bytes: vec![0; channels], squares: vec![0; channels] };
    let mut problems = Vec::new();
    for one in scanned {
        match one {
            Ok((digest, sums)) => {
                digests.push(digest);
                for (channel, [sum, square]) in sums.into_iter().enumerate() {
                    total.bytes[channel] += sum;
                    total.squares[channel] += square;
                }
            }
            Err(error) => problems.push(format!("{error:#}")),
        }
    }
    if problems.is_empty() { Ok((digests, total)) } else { Err(unreadable(&problems).into()) }
}

/// One error about all images that cannot be read, from what is wrong with each.
pub fn unreadable(problems: &[String]) -> InputError {
    let named = problems.iter().take(NAMED_FILES).cloned().collect::<Vec<_>>().join("\n  ");
    let more = problems.len().saturating_sub(NAMED_FILES);
    let rest = if more > 0 { format!("\n  and {more} more") } else { String::new() };
    let count = if problems.len() == 1 { "1 image".into() } else { format!("{} images", problems.len()) };
    let allowed = problems.iter().any(|problem| problem.ends_with(TRUNCATED));
    let allow = "; `truncated: allow` in the folder source fills what is missing of JPEG files with grey";
    InputError::new(format!("{count} cannot be read:\n  {named}{rest}"))
        .hint(format!("replace the files or remove them{}", if allowed { allow } else { "" }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Digits, FolderSource, Labels, Source};
    use crate::contract::Fit;

    fn data(source: Source) -> Data {
        Data { source, labels: Labels::Own, validation: 0.2, images: None, augment: Vec::new(), workers: 1 }
    }

    #[test]
    fn statistics_come_from_the_training_part() {
        let set = load(&data(Source::Digits(Digits {})), Path::new("."), 3).unwrap();
        let mut values = Vec::new();
        for place in 0..set.train.len() {
            values.extend(set.train.image(place).unwrap().iter().map(|&byte| f64::from(byte) / 255.0));
        }
        let mean = values.iter().sum::<f64>() / values.len() as f64;
        let variance = values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / values.len() as f64;
        assert!((mean - f64::from(set.normalization.mean[0])).abs() < 1e-6);
        assert!((variance.sqrt() - f64::from(set.normalization.std[0])).abs() < 1e-6);
        let applied = set.normalization.apply(&[255]);
        assert!((f64::from(applied[0]) - (1.0 - mean) / variance.sqrt()).abs() < 1e-5);
    }

    #[test]
    fn the_fingerprint_follows_the_split() {
        let source = Source::Digits(Digits {});
        let print = |seed| load(&data(source.clone()), Path::new("."), seed).unwrap().fingerprint;
        assert_eq!(print(1), print(1));
        assert_ne!(print(1), print(2));
    }

    #[test]
    fn another_fit_is_another_data_set() {
        let folder = tempfile::tempdir().unwrap();
        for class in ["ant", "bee"] {
            let class = folder.path().join(class);
            std::fs::create_dir(&class).unwrap();
            for name in ["a.png", "b.png"] {
                image::GrayImage::new(4, 4).save(class.join(name)).unwrap();
            }
        }
        let prints = Fit::ALL.map(|fit| {
            let whole = FolderSource::new(folder.path().into(), [4, 4]);
            let source = Source::Folder(FolderSource { fit, channels: 1, ..whole });
            load(&data(source), Path::new("."), 0).unwrap().fingerprint
        });
        assert!(prints[0] != prints[1] && prints[0] != prints[2] && prints[1] != prints[2], "{prints:?}");
    }

    #[test]
    fn all_broken_images_are_named_together() {
        let folder = tempfile::tempdir().unwrap();
        for class in ["ant", "bee"] {
            let class = folder.path().join(class);
            std::fs::create_dir(&class).unwrap();
            image::GrayImage::new(3, 3).save(class.join("good.png")).unwrap();
            image::GrayImage::new(3, 3).save(class.join("fine.png")).unwrap();
            std::fs::write(class.join("bad.png"), b"\x89PNG").unwrap();
        }
        let source = FolderSource::new(folder.path().into(), [4, 4]);
        let error = load(&data(Source::Folder(source)), Path::new("."), 0).unwrap_err().to_string();
        assert!(error.contains("ant/bad.png") || error.contains("bee/bad.png"), "{error}");
    }
}
