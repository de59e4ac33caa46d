//! Augmentation of a whole batch: draws how pairs of images and their labels are mixed. The mixing itself is
//! done on the device where the batch is.

use std::ops::Range;

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;

use crate::config::Augment;

use super::augment::{below, unit};
use super::split::shuffle;

/// Random words reserved per batch and epoch.
const WORDS_PER_BATCH: u128 = 1 << 20;

/// How the images of a batch are mixed with each other, with all random draws made.
#[derive(Debug, Clone, PartialEq)]
pub struct Mix {
    /// For each image, the index in the batch of the image mixed into it.
    pub partners: Vec<usize>,
    /// Weight of an image's own label.
    pub share: f64,
    pub way: Way,
}

/// How two images are combined.
#[derive(Debug, Clone, PartialEq)]
pub enum Way {
    /// Their mean, weighted by the share (mixup, Zhang et al. 2018).
    Blend,
    /// A rectangle of one pasted into the other (CutMix, Yun et al. 2019).
    Paste { rows: Range<usize>, columns: Range<usize> },
}

/// Draws how a batch of `images` is mixed, by one of the list's mixing augmentations if it has any.
pub(super) fn draw(
    images: usize,
    [_, height, width]: [usize; 3],
    list: &[Augment],
    seed: u64,
    (epoch, batch): (usize, usize),
) -> Option<Mix> {
    let ways: Vec<&Augment> = list.iter().filter(|one| one.mixes()).collect();
    if ways.is_empty() || images == 0 {
        return None;
    }
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    rng.set_stream(epoch as u64);
    rng.set_word_pos(batch as u128 * WORDS_PER_BATCH);
    let way = ways[below(&mut rng, ways.len())];
    let mut partners: Vec<usize> = (0..images).collect();
    shuffle(&mut partners, &mut rng);
    match way {
        Augment::Mixup(mixup) => Some(Mix { partners, share: beta(&mut rng, mixup.alpha), way: Way::Blend }),
        Augment::Cutmix(cutmix) => {
            let side = (1.0 - beta(&mut rng, cutmix.alpha)).sqrt();
            let [rows, columns] = [height, width].map(|length| {
                let reach = (length as f64 * side).round() as usize;
                let centre = below(&mut rng, length);
                let first = centre.saturating_sub(reach / 2);
                first..(centre + reach - reach / 2).min(length).max(first)
            });
            let share = 1.0 - (rows.len() * columns.len()) as f64 / (height * width) as f64;
            Some(Mix { partners, share, way: Way::Paste { rows, columns } })
        }
        Augment::Crop(_) | Augment::Flip(_) | Augment::Rotate(_) | Augment::Cutout(_) => None,
    }
}

/// A draw from Beta(alpha, alpha), by Jöhnk's method (1964).
fn beta(rng: &mut ChaCha8Rng, alpha: f64) -> f64 {
    loop {
        let [x, y] = [unit(rng), unit(rng)].map(|u| u.powf(1.0 / alpha));
        if x + y > 0.0 && x + y <= 1.0 {
            return x / (x + y);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::MixSpec;

    const SHAPE: [usize; 3] = [2, 4, 5];

    #[test]
    fn shares_follow_their_distribution() {
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        for alpha in [0.2, 1.0, 4.0] {
            let draws: Vec<f64> = (0..4_000).map(|_| beta(&mut rng, alpha)).collect();
            let mean = draws.iter().sum::<f64>() / 4_000.0;
            let variance = draws.iter().map(|draw| (draw - mean).powi(2)).sum::<f64>() / 4_000.0;
            let expected = 1.0 / (4.0 * (2.0 * alpha + 1.0));
            assert!((mean - 0.5).abs() < 0.03, "alpha {alpha}: mean {mean}");
            assert!((variance / expected - 1.0).abs() < 0.1, "alpha {alpha}: {variance}, not {expected}");
        }
    }

    #[test]
    fn a_batch_of_an_epoch_is_always_mixed_alike() {
        for way in [Augment::Mixup(MixSpec { alpha: 0.5 }), Augment::Cutmix(MixSpec { alpha: 1.0 })] {
            let draw = |batch| draw(6, SHAPE, std::slice::from_ref(&way), 3, (1, batch)).unwrap();
            for batch in 0..20 {
                let mix = draw(batch);
                assert_eq!(mix, draw(batch));
                assert_ne!(mix, draw(batch + 1));
                let mut partners = mix.partners.clone();
                partners.sort_unstable();
                assert_eq!(partners, [0, 1, 2, 3, 4, 5]);
                if let Way::Paste { rows, columns } = mix.way {
                    assert!(rows.end <= 4 && columns.end <= 5);
                    let pasted = (rows.len() * columns.len()) as f64 / 20.0;
                    assert!((mix.share + pasted - 1.0).abs() < 1e-12);
                }
            }
        }
    }

    #[test]
    fn without_a_way_nothing_is_mixed() {
        assert_eq!(draw(6, SHAPE, &[], 3, (0, 0)), None);
    }
}
