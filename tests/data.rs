//! The readers on whole, real data sets, against their published figures. `COHORT_DATA` names the folder
//! that holds `fashion-mnist`, `cifar-100` and `hymenoptera`; without it these tests are ignored.

use std::path::{Path, PathBuf};
use std::process::Command;

use cohort::config::{Cifar100Labels, Cifar100Source, Data, FolderSource, IdxSource, Labels, Source};
use cohort::data::{Dataset, describe, load};

fn folder(name: &str) -> PathBuf {
    PathBuf::from(std::env::var_os("COHORT_DATA").expect("COHORT_DATA, as when the tests were built"))
        .join(name)
}

fn read(source: Source, validation: f64) -> Dataset {
    let data =
        Data { source, labels: Labels::Own, validation, images: None, augment: Vec::new(), workers: 1 };
    let info = describe(&data, Path::new(".")).unwrap().info;
    let data = load(&data, Path::new("."), 1).unwrap();
    assert_eq!(data.info, info, "what is described is what is loaded");
    data
}

fn per_class(labels: &[u32], classes: usize) -> Vec<usize> {
    (0..classes).map(|class| labels.iter().filter(|&&label| label as usize == class).count()).collect()
}

fn close(found: &[f32], published: &[f32]) {
    assert_eq!(found.len(), published.len());
    for (found, published) in found.iter().zip(published) {
        assert!((found - published).abs() < 2e-3, "{found} is not {published}");
    }
}

/// Unpacks with the system's tools into a temporary folder.
fn unpacked(command: &str) -> tempfile::TempDir {
    let target = tempfile::tempdir().unwrap();
    let status = Command::new("sh").args(["-ec", command]).current_dir(target.path()).status().unwrap();
    assert!(status.success(), "{command}");
    target
}

#[test]
#[cfg_attr(not(cohort_data), ignore = "needs COHORT_DATA")]
fn fashion_mnist() {
    let data = read(Source::Idx(IdxSource { root: folder("fashion-mnist"), classes: Vec::new() }), 0.1);
    assert_eq!(data.info.shape, [1, 28, 28]);
    assert_eq!(per_class(data.train.labels(), 10), [5_400; 10]);
    assert_eq!(per_class(data.validation.labels(), 10), [600; 10]);
    assert_eq!(per_class(data.test.unwrap().labels(), 10), [1_000; 10]);
    close(&data.normalization.mean, &[0.2860]);
    close(&data.normalization.std, &[0.3530]);
}

#[test]
#[cfg_attr(not(cohort_data), ignore = "needs COHORT_DATA")]
fn cifar100() {
    let packed = folder("cifar-100").display().to_string();
    let root = unpacked(&format!(
        "cat '{packed}'/train.bin.part?.xz | xz -dc > train.bin; xz -dc '{packed}'/test.bin.xz > test.bin; \
         cp '{packed}'/*.txt ."
    ));
    for (labels, classes) in [(Cifar100Labels::Fine, 100), (Cifar100Labels::Coarse, 20)] {
        let data = read(Source::Cifar100(Cifar100Source { root: root.path().into(), labels }), 0.1);
        assert_eq!(per_class(data.train.labels(), classes), vec![45_000 / classes; classes]);
        assert_eq!(per_class(data.test.unwrap().labels(), classes), vec![10_000 / classes; classes]);
        close(&data.normalization.mean, &[0.5071, 0.4865, 0.4409]);
        close(&data.normalization.std, &[0.2673, 0.2564, 0.2762]);
        assert!(
            data.info.classes.iter().all(|name| name.parse::<usize>().is_err()),
            "{:?}",
            data.info.classes
        );
    }
}

#[test]
#[cfg_attr(not(cohort_data), ignore = "needs COHORT_DATA")]
fn hymenoptera() {
    let packed = folder("hymenoptera").display().to_string();
    let root = unpacked(&format!("tar xf '{packed}'/*.tar"));
    let inside = std::fs::read_dir(root.path()).unwrap().next().unwrap().unwrap().path();
    let root = if inside.join("train").is_dir() { inside } else { root.path().into() };
    let data = read(Source::Folder(FolderSource::new(root, [32, 48])), 0.1);
    assert_eq!(data.info.shape, [3, 32, 48]);
    assert_eq!((data.train.len(), data.validation.len()), (244, 153));
    assert_eq!(data.info.classes, ["ants", "bees"]);
    assert!(data.test.is_none());
}
