//! Augmentation of single images on their bytes, before normalisation.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

use crate::config::Augment;

/// Random words reserved per sample and epoch.
const WORDS_PER_SAMPLE: u128 = 64;

/// The random stream of one sample in one epoch.
pub(super) fn sample_rng(seed: u64, epoch: usize, sample: u32) -> ChaCha8Rng {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    rng.set_stream(epoch as u64);
    rng.set_word_pos(u128::from(sample) * WORDS_PER_SAMPLE);
    rng
}

/// One change to an image, with all random draws made.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Change {
    /// The crop whose corner is at (`top`, `left`) of the image padded with black.
    Crop { padding: usize, top: usize, left: usize },
    /// A horizontal flip, if `flipped`.
    Flip { flipped: bool },
    /// A rotation about the centre with bilinear interpolation; pixels from outside are black.
    Turn { radians: f64 },
    /// Sets the part of a square around `centre`, `[row, column]`, that lies in the image to the channel's
    /// mean.
    CutOut { centre: [usize; 2], size: usize },
}

/// Draws the changes to one image, in the order of the list; augmentations that mix images are skipped.
pub(super) fn draw(list: &[Augment], [_, height, width]: [usize; 3], rng: &mut ChaCha8Rng) -> Vec<Change> {
    let mut changes = Vec::with_capacity(list.len());
    for one in list {
        match one {
            Augment::Crop(crop) => {
                let reach = 2 * crop.padding + 1;
                let (top, left) = (below(rng, reach), below(rng, reach));
                changes.push(Change::Crop { padding: crop.padding, top, left });
            }
            Augment::Flip(flip) => changes.push(Change::Flip { flipped: unit(rng) < flip.probability }),
            Augment::Rotate(rotate) => {
                let degrees = (2.0 * unit(rng) - 1.0) * rotate.degrees;
                changes.push(Change::Turn { radians: degrees.to_radians() });
            }
            Augment::Cutout(cutout) => {
                let centre = [below(rng, height), below(rng, width)];
                changes.push(Change::CutOut { centre, size: cutout.size });
            }
            Augment::Mixup(_) | Augment::Cutmix(_) => {}
        }
    }
    changes
}

/// Applies the changes to an image's bytes, planar `[channels, height, width]`; `grey` is the mean of each
/// channel.
pub fn changed(pixels: &[u8], shape: [usize; 3], changes: &[Change], grey: &[u8]) -> Vec<u8> {
    let mut pixels = pixels.to_vec();
    for change in changes {
        match *change {
            Change::Crop { padding, top, left } => pixels = shifted(&pixels, shape, padding, top, left),
            Change::Flip { flipped: true } => pixels.chunks_exact_mut(shape[2]).for_each(<[u8]>::reverse),
            Change::Flip { flipped: false } => {}
            Change::Turn { radians } => pixels = turned(&pixels, shape, radians),
            Change::CutOut { centre, size } => cut_out(&mut pixels, shape, centre, size, grey),
        }
    }
    pixels
}

/// The crop whose corner is at (`top`, `left`) of the image padded with black.
fn shifted(
    pixels: &[u8],
    [_, height, width]: [usize; 3],
    padding: usize,
    top: usize,
    left: usize,
) -> Vec<u8> {
    let mut cropped = vec![0; pixels.len()];
    let columns = overlap(width, padding, left);
    for (plane, target) in pixels.chunks_exact(height * width).zip(cropped.chunks_exact_mut(height * width)) {
        for row in overlap(height, padding, top) {
            let from = (row + top - padding) * width;
            let source = &plane[from + columns.start + left - padding..][..columns.len()];
            target[row * width + columns.start..][..columns.len()].copy_from_slice(source);
        }
    }
    cropped
}

/// Positions of the crop that lie on the image along one side.
fn overlap(side: usize, padding: usize, start: usize) -> std::ops::Range<usize> {
    let first = padding.saturating_sub(start).min(side);
    first..(side + padding).saturating_sub(start).min(side).max(first)
}

/// The image rotated about its centre with bilinear interpolation.
fn turned(pixels: &[u8], [_, height, width]: [usize; 3], radians: f64) -> Vec<u8> {
    let (sin, cos) = radians.sin_cos();
    let middle = [(height as f64 - 1.0) / 2.0, (width as f64 - 1.0) / 2.0];
    let mut result = Vec::with_capacity(pixels.len());
    for plane in pixels.chunks_exact(height * width) {
        let at = |row: f64, column: f64| {
            let inside = row >= 0.0 && column >= 0.0 && row < height as f64 && column < width as f64;
            if inside { f64::from(plane[row as usize * width + column as usize]) } else { 0.0 }
        };
        for row in 0..height {
            for column in 0..width {
                let (down, across) = (row as f64 - middle[0], column as f64 - middle[1]);
                let from = [middle[0] + cos * down - sin * across, middle[1] + sin * down + cos * across];
                let first = from.map(f64::floor);
                let [low, right] = [from[0] - first[0], from[1] - first[1]];
                let upper = at(first[0], first[1]) * (1.0 - right) + at(first[0], first[1] + 1.0) * right;
                let lower =
                    at(first[0] + 1.0, first[1]) * (1.0 - right) + at(first[0] + 1.0, first[1] + 1.0) * right;
                result.push((upper * (1.0 - low) + lower * low).round() as u8);
            }
        }
    }
    result
}

/// Fills the part of a square that lies in the image with grey.
fn cut_out(pixels: &mut [u8], [_, height, width]: [usize; 3], centre: [usize; 2], size: usize, grey: &[u8]) {
    let [rows, columns] = [(centre[0], height), (centre[1], width)].map(|(centre, side)| {
        let first = centre.saturating_sub(size / 2);
        first..(centre + size - size / 2).min(side).max(first)
    });
    for (plane, grey) in pixels.chunks_exact_mut(height * width).zip(grey) {
        for row in rows.clone() {
            plane[row * width..][columns.clone()].fill(*grey);
        }
    }
}

pub(super) fn unit(rng: &mut ChaCha8Rng) -> f64 {
    f64::from(rng.next_u32()) / 2f64.powi(32)
}

pub(super) fn below(rng: &mut ChaCha8Rng, end: usize) -> usize {
    ((u64::from(rng.next_u32()) * end as u64) >> 32) as usize
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{CropSpec, FlipSpec};

    fn augment(
        pixels: &[u8],
        shape: [usize; 3],
        list: &[Augment],
        grey: &[u8],
        mut rng: ChaCha8Rng,
    ) -> Vec<u8> {
        changed(pixels, shape, &draw(list, shape, &mut rng), grey)
    }

    #[test]
    fn crops_move_the_image() {
        let image = [1, 2, 3, 4, 5, 6];
        let shape = [1, 2, 3];
        assert_eq!(shifted(&image, shape, 1, 1, 1), image);
        assert_eq!(shifted(&image, shape, 1, 0, 0), [0, 0, 0, 0, 1, 2]);
        assert_eq!(shifted(&image, shape, 1, 2, 2), [5, 6, 0, 0, 0, 0]);
        assert_eq!(shifted(&image, shape, 9, 0, 18), [0; 6]);
    }

    #[test]
    fn a_sample_of_an_epoch_is_always_the_same() {
        let list = [Augment::Crop(CropSpec { padding: 2 }), Augment::Flip(FlipSpec { probability: 0.5 })];
        let image: Vec<u8> = (0..75).collect();
        let view = |epoch, sample| augment(&image, [3, 5, 5], &list, &[0; 3], sample_rng(9, epoch, sample));
        assert_eq!(view(3, 7), view(3, 7));
        let different = (0..20).filter(|&epoch| view(epoch, 7) != view(epoch, 8)).count();
        assert!(different > 10, "{different} of 20 views differ");
    }

    #[test]
    fn turns_go_about_the_centre() {
        let image = [1, 2, 3, 4, 5, 6, 7, 8, 9];
        let quarter = std::f64::consts::FRAC_PI_2;
        assert_eq!(turned(&image, [1, 3, 3], 0.0), image);
        assert_eq!(turned(&image, [1, 3, 3], quarter), [7, 4, 1, 8, 5, 2, 9, 6, 3]);
        assert_eq!(turned(&image, [1, 3, 3], 2.0 * quarter), [9, 8, 7, 6, 5, 4, 3, 2, 1]);
        let eighth = turned(&[100; 9], [1, 3, 3], quarter / 2.0);
        assert_eq!(eighth[4], 100);
        assert!(eighth[0] < 100 && eighth[0] > 0, "{eighth:?}");
    }

    #[test]
    fn cutout_stays_in_the_image() {
        let mut image = [9; 32];
        cut_out(&mut image, [2, 4, 4], [0, 3], 3, &[1, 2]);
        assert_eq!(image[..16], [9, 9, 1, 1, 9, 9, 1, 1, 9, 9, 9, 9, 9, 9, 9, 9]);
        assert_eq!(image[16..20], [9, 9, 2, 2]);
        cut_out(&mut image, [2, 4, 4], [3, 0], 2, &[1, 2]);
        assert_eq!(image[8..16], [1, 9, 9, 9, 1, 9, 9, 9]);
    }

    #[test]
    fn flips_are_as_often_as_asked() {
        let list = [Augment::Flip(FlipSpec { probability: 0.25 })];
        let flipped = (0..4_000)
            .filter(|&sample| augment(&[1, 2], [1, 1, 2], &list, &[0], sample_rng(1, 0, sample)) == [2, 1]);
        let share = flipped.count() as f64 / 4_000.0;
        assert!((share - 0.25).abs() < 0.03, "{share}");
    }
}
