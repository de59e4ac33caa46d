//! Images prepared as a contract wants them: from files and splits to the values a network reads.

use std::path::Path;

use anyhow::Result;
use ndarray::{ArrayD, IxDyn};

use crate::config::Truncated;
use crate::contract::{Preparation, Resize};

use super::batches::{Batch, batches_by};
use super::decode::{decode_from, decode_image};
use super::store::Split;

/// An image file as a batch of one, for a network that takes images `[channels, height, width]`.
///
/// # Errors
/// [`crate::error::InputError`] with the file's path if it cannot be read.
pub fn prepared_image(
    preparation: &Preparation,
    path: &Path,
    shape: [usize; 3],
    truncated: Truncated,
) -> Result<ArrayD<f32>> {
    let pixels = match preparation.resize {
        Resize::BilinearAntialiased => decode_image(path, shape, preparation.fit, truncated)?,
    };
    prepared(preparation, &pixels, shape)
}

/// Like [`prepared_image`], from the bytes of a whole file; `name` is used in errors.
///
/// # Errors
/// The same as [`prepared_image`].
pub fn prepared_bytes(
    preparation: &Preparation,
    file: &[u8],
    name: &str,
    shape: [usize; 3],
) -> Result<ArrayD<f32>> {
    let pixels = match preparation.resize {
        Resize::BilinearAntialiased => decode_from(file, name, shape, preparation.fit, Truncated::Refuse)?,
    };
    prepared(preparation, &pixels, shape)
}

/// Decoded bytes, planar, as a batch of one.
fn prepared(preparation: &Preparation, pixels: &[u8], shape: [usize; 3]) -> Result<ArrayD<f32>> {
    let table = preparation.table();
    let planes = pixels.chunks_exact(shape[1] * shape[2]).zip(&table);
    let values = planes.flat_map(|(plane, table)| plane.iter().map(|&byte| table[usize::from(byte)]));
    let [channels, height, width] = shape;
    let image = ArrayD::from_shape_vec(IxDyn(&[1, channels, height, width]), values.collect())?;
    Ok(preparation.arranged(image))
}

/// All images of a split, in its order, in batches prepared for a network; image files are fitted as it wants, whatever the
/// split's own fit is.
pub fn prepared_batches(
    preparation: &Preparation,
    split: &Split,
    batch: usize,
) -> impl Iterator<Item = Result<Batch>> {
    batches_by(split.fitted(preparation.fit), preparation.table(), batch)
        .map(|batch| batch.map(|batch| Batch { images: preparation.arranged(batch.images), ..batch }))
}

#[cfg(test)]
mod tests {
    use super::super::store::Store;
    use super::*;
    use crate::contract::{ChannelOrder, Fit, Layout, Normalization, PixelRange};

    fn preparation(order: ChannelOrder, range: PixelRange, layout: Layout) -> Preparation {
        let normalization = Normalization { mean: vec![0.1, 0.2, 0.3], std: vec![0.5, 0.25, 1.0] };
        Preparation { order, range, ..Preparation::of(&normalization, layout) }
    }

    #[test]
    fn an_image_is_prepared_as_the_split_it_is_in() {
        let folder = tempfile::tempdir().unwrap();
        let paths = [("wide.png", 40, 10), ("tall.png", 9, 33)].map(|(name, width, height)| {
            let pixel = |x: u32, y: u32| image::Rgb([(x * 6) as u8, (y * 7) as u8, (x * y) as u8]);
            let path = folder.path().join(name);
            image::RgbImage::from_fn(width, height, pixel).save(&path).unwrap();
            path
        });
        let shape = [3, 14, 7];
        let of = |fit| {
            let preparation = preparation(ChannelOrder::Bgr, PixelRange::Byte, Layout::ChannelsLast);
            let split = Split::whole(Store::files(shape, fit, Truncated::Refuse, paths.to_vec()), vec![0, 1]);
            let batch = prepared_batches(&Preparation { fit, ..preparation.clone() }, &split, 2).next();
            (Preparation { fit, ..preparation }, split, batch.unwrap().unwrap().images)
        };
        for (preparation, _, images) in Fit::ALL.map(of) {
            for (path, image) in paths.iter().zip(images.outer_iter()) {
                let file = std::fs::read(path).unwrap();
                let alone = prepared_image(&preparation, path, shape, Truncated::Refuse).unwrap();
                assert_eq!(alone.index_axis(ndarray::Axis(0), 0), image);
                assert_eq!(prepared_bytes(&preparation, &file, "it", shape).unwrap(), alone);
            }
        }
        // A split is fitted as the preparation says, whatever its own fit is.
        let (stretch, split, stretched) = of(Fit::Stretch);
        let (crop, _, cropped) = of(Fit::Crop);
        assert!(stretched != cropped && split.fitted(Fit::Crop).fit() == Some(Fit::Crop));
        for (preparation, images) in [(stretch, stretched), (crop, cropped)] {
            assert_eq!(prepared_batches(&preparation, &split, 2).next().unwrap().unwrap().images, images);
        }
        assert!(!split.has_its_size().unwrap());
        assert!(
            Split::whole(
                Store::files([1, 10, 40], Fit::Crop, Truncated::Refuse, paths[..1].to_vec()),
                vec![0]
            )
            .has_its_size()
            .unwrap()
        );
    }

    #[test]
    fn what_is_prepared_is_what_is_said() {
        let split = Split::whole(Store::memory([3, 1, 2], vec![0, 51, 102, 153, 204, 255]), vec![0]);
        let values = |preparation: &Preparation| {
            let batch = prepared_batches(preparation, &split, 4).next().unwrap().unwrap();
            (batch.images.shape().to_vec(), batch.images.iter().copied().collect::<Vec<f32>>())
        };
        let near = |(shape, found): (Vec<usize>, Vec<f32>), wanted: [usize; 4], expected: [f32; 6]| {
            assert_eq!(shape, wanted);
            found.iter().zip(expected).for_each(|(a, b)| assert!((a - b).abs() < 1e-4, "{found:?}"));
        };
        let first = Layout::ChannelsFirst;
        let rgb = preparation(ChannelOrder::Rgb, PixelRange::Unit, first);
        near(values(&rgb), [1, 3, 1, 2], [-0.2, 0.2, 0.8, 1.6, 0.5, 0.7]);
        // Blue first: the first mean and deviation are blue's.
        let bgr = preparation(ChannelOrder::Bgr, PixelRange::Unit, first);
        near(values(&bgr), [1, 3, 1, 2], [1.4, 1.8, 0.8, 1.6, -0.3, -0.1]);
        let byte = preparation(ChannelOrder::Rgb, PixelRange::Byte, first);
        near(values(&byte), [1, 3, 1, 2], [-0.2, 101.8, 407.2, 611.2, 203.7, 254.7]);
        let last = preparation(ChannelOrder::Rgb, PixelRange::Unit, Layout::ChannelsLast);
        near(values(&last), [1, 1, 2, 3], [-0.2, 0.8, 0.5, 0.2, 1.6, 0.7]);
        near(values(&Preparation::bytes(3, first)), [1, 3, 1, 2], [0.0, 51.0, 102.0, 153.0, 204.0, 255.0]);
        assert_eq!(rgb.black_and_white(), (-0.8, 3.2));
    }
}
