//! Augmentation of a whole batch: two images and their labels in one.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;

use crate::config::Augment;

use super::augment::{below, unit};
use super::split::shuffle;

/// Words of randomness set aside for one batch of one epoch.
const WORDS_PER_BATCH: u128 = 1 << 20;

/// The other half of a batch's labels.
#[derive(Debug, Clone, PartialEq)]
pub struct Mixed {
    /// Label of the image that was mixed into each.
    pub labels: Vec<i64>,
    /// Share of an image's own label.
    pub share: f64,
}

/// Mixes a normalised batch, `[batch, channels, height, width]`, by one of the list's ways, if it has
/// any.
pub(super) fn mix(
    values: &mut [f32],
    labels: &[i64],
    [channels, height, width]: [usize; 3],
    list: &[Augment],
    seed: u64,
    (epoch, batch): (usize, usize),
) -> Option<Mixed> {
    let ways: Vec<&Augment> = list.iter().filter(|one| one.mixes()).collect();
    if ways.is_empty() || labels.is_empty() {
        return None;
    }
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    rng.set_stream(epoch as u64);
    rng.set_word_pos(batch as u128 * WORDS_PER_BATCH);
    let way = ways[below(&mut rng, ways.len())];
    let mut partners: Vec<usize> = (0..labels.len()).collect();
    shuffle(&mut partners, &mut rng);
    let image = channels * height * width;
    let others = values.to_vec();
    let other = |index: usize| &others[partners[index] * image..][..image];
    let share = match way {
        Augment::Mixup(mixup) => {
            let share = beta(&mut rng, mixup.alpha);
            for (index, own) in values.chunks_exact_mut(image).enumerate() {
                for (own, other) in own.iter_mut().zip(other(index)) {
                    *own = (f64::from(*own) * share + f64::from(*other) * (1.0 - share)) as f32;
                }
            }
            share
        }
        Augment::Cutmix(cutmix) => {
            let side = (1.0 - beta(&mut rng, cutmix.alpha)).sqrt();
            let [rows, columns] = [height, width].map(|length| {
                let reach = (length as f64 * side).round() as usize;
                let centre = below(&mut rng, length);
                let first = centre.saturating_sub(reach / 2);
                first..(centre + reach - reach / 2).min(length).max(first)
            });
            for (index, own) in values.chunks_exact_mut(image).enumerate() {
                let planes = own.chunks_exact_mut(height * width);
                for (own, other) in planes.zip(other(index).chunks_exact(height * width)) {
                    for row in rows.clone() {
                        let columns = row * width + columns.start..row * width + columns.end;
                        own[columns.clone()].copy_from_slice(&other[columns]);
                    }
                }
            }
            1.0 - (rows.len() * columns.len()) as f64 / (height * width) as f64
        }
        Augment::Crop(_) | Augment::Flip(_) | Augment::Rotate(_) | Augment::Cutout(_) => 1.0,
    };
    Some(Mixed { labels: partners.iter().map(|&partner| labels[partner]).collect(), share })
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

    const LABELS: [i64; 6] = [0, 1, 2, 3, 4, 5];
    const SHAPE: [usize; 3] = [2, 4, 5];

    /// Images whose every value is ten times their label.
    fn batch() -> Vec<f32> {
        LABELS.iter().flat_map(|&label| [10.0 * label as f32; 40]).collect()
    }

    fn mixed(way: Augment, batch_number: usize) -> (Vec<f32>, Mixed) {
        let mut values = batch();
        let mixed = mix(&mut values, &LABELS, SHAPE, &[way], 3, (1, batch_number)).unwrap();
        (values, mixed)
    }

    #[test]
    fn images_and_labels_are_mixed_alike() {
        for way in [Augment::Mixup(MixSpec { alpha: 0.5 }), Augment::Cutmix(MixSpec { alpha: 1.0 })] {
            for number in 0..20 {
                let (values, mixed) = mixed(way.clone(), number);
                for (index, image) in values.chunks_exact(40).enumerate() {
                    let mean = f64::from(image.iter().sum::<f32>()) / 40.0;
                    let (own, other) = (LABELS[index] as f64, mixed.labels[index] as f64);
                    let expected = 10.0 * (own * mixed.share + other * (1.0 - mixed.share));
                    assert!((mean - expected).abs() < 1e-4, "{way:?}: {mean}, not {expected}");
                }
                assert_eq!((values, mixed), self::mixed(way.clone(), number));
            }
        }
    }

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
    fn without_a_way_nothing_is_mixed() {
        assert_eq!(mix(&mut batch(), &LABELS, SHAPE, &[], 3, (0, 0)), None);
    }
}
