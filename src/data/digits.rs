//! The 8×8 handwritten digits that come with the program: 1,797 images of the UCI optical
//! recognition data (Alpaydin & Kaynak 1998, CC BY 4.0), see `examples/digits/README.md`.

use anyhow::Result;
use flate2::read::GzDecoder;

use super::idx;
use super::info::{DataInfo, Opened};
use super::store::Split;

macro_rules! file {
    ($name:literal) => {
        include_bytes!(concat!(env!("CARGO_MANIFEST_DIR"), "/examples/digits/", $name, "-ubyte.gz"))
            .as_slice()
    };
}

const CLASSES: usize = 10;

pub(super) fn read() -> Result<Opened> {
    let split = |images, labels| -> Result<Split> {
        idx::split_from(GzDecoder::new(images), GzDecoder::new(labels), "built-in digits", CLASSES)
    };
    let train = split(file!("train-images-idx3"), file!("train-labels-idx1"))?;
    let test = split(file!("t10k-images-idx3"), file!("t10k-labels-idx1"))?;
    let info = DataInfo {
        shape: train.shape(),
        classes: (0..CLASSES).map(|digit| digit.to_string()).collect(),
        train_images: train.len(),
        validation_images: None,
        test_images: Some(test.len()),
    };
    Ok(Opened { info, train, validation: None, test: Some(test), notes: Vec::new() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_digits_are_there() {
        let opened = read().unwrap();
        let test = opened.test.unwrap();
        assert_eq!(opened.train.len() + test.len(), 1_797);
        assert_eq!(opened.info.shape, [1, 8, 8]);
        for class in 0..10 {
            let count = |split: &Split| split.labels().iter().filter(|&&label| label == class).count();
            assert!(count(&opened.train) > 130 && count(&test) > 33, "class {class}");
        }
    }
}
