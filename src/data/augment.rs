//! Augmentation of one image on its bytes, before normalisation.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

use crate::config::Augment;

/// Words of randomness set aside for one sample of one epoch.
const WORDS_PER_SAMPLE: u128 = 64;

/// The random stream of one sample in one epoch.
pub(super) fn sample_rng(seed: u64, epoch: usize, sample: u32) -> ChaCha8Rng {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    rng.set_stream(epoch as u64);
    rng.set_word_pos(u128::from(sample) * WORDS_PER_SAMPLE);
    rng
}

/// Applies all augmentations in their order. `pixels` is planar `[channels, height, width]`.
pub(super) fn augment(pixels: &[u8], shape: [usize; 3], list: &[Augment], rng: &mut ChaCha8Rng) -> Vec<u8> {
    let mut pixels = pixels.to_vec();
    for one in list {
        match one {
            Augment::Crop(crop) => {
                let reach = 2 * crop.padding + 1;
                let (top, left) = (below(rng, reach), below(rng, reach));
                pixels = shifted(&pixels, shape, crop.padding, top, left);
            }
            Augment::Flip(flip) => {
                if unit(rng) < flip.probability {
                    pixels.chunks_exact_mut(shape[2]).for_each(<[u8]>::reverse);
                }
            }
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

/// Places of the crop that lie on the image along one side.
fn overlap(side: usize, padding: usize, start: usize) -> std::ops::Range<usize> {
    let first = padding.saturating_sub(start).min(side);
    first..(side + padding).saturating_sub(start).min(side).max(first)
}

fn unit(rng: &mut ChaCha8Rng) -> f64 {
    f64::from(rng.next_u32()) / 2f64.powi(32)
}

fn below(rng: &mut ChaCha8Rng, end: usize) -> usize {
    ((u64::from(rng.next_u32()) * end as u64) >> 32) as usize
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{CropSpec, FlipSpec};

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
        let view = |epoch, sample| augment(&image, [3, 5, 5], &list, &mut sample_rng(9, epoch, sample));
        assert_eq!(view(3, 7), view(3, 7));
        let different = (0..20).filter(|&epoch| view(epoch, 7) != view(epoch, 8)).count();
        assert!(different > 10, "{different} of 20 views differ");
    }

    #[test]
    fn flips_are_as_often_as_asked() {
        let list = [Augment::Flip(FlipSpec { probability: 0.25 })];
        let flipped = (0..4_000)
            .filter(|&sample| augment(&[1, 2], [1, 1, 2], &list, &mut sample_rng(1, 0, sample)) == [2, 1]);
        let share = flipped.count() as f64 / 4_000.0;
        assert!((share - 0.25).abs() < 0.03, "{share}");
    }
}
