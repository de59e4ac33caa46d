//! The inputs on which engines are compared, all derived from a seed or from the data.

use anyhow::Result;
use ndarray::{ArrayD, ArrayViewD, Axis, Slice};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

use crate::contract::{ImageInput, Pixels, Preparation};
use crate::data::{Split, prepared_batches};
use crate::seed::derive_seed;

use super::effort::Amount;

/// Maximum number of values in such a pool: 64 MiB.
const MAX_POOL: usize = 1 << 24;

/// One kind of input in the network's layout: `[samples, channels, height, width]`, or channels last.
#[derive(Debug, Clone, PartialEq)]
pub struct InputSet {
    pub name: &'static str,
    pub images: ArrayD<f32>,
    /// Whether its errors decide the verdict. Inputs far outside the range of images are only reported and
    /// must stay finite.
    pub gates: bool,
}

/// Every kind of input: the given images, noise, constants within the range of pixels, a checkerboard of
/// black and white, impulses, and noise far too small and far too large. For whole-number pixels, the last
/// two are noise of the two darkest values and noise of the two extremes.
pub fn input_sets(
    images: Option<ArrayD<f32>>,
    input: &ImageInput,
    seed: u64,
    amount: &Amount,
) -> Vec<InputSet> {
    let set = |name, images, gates| InputSet { name, images, gates };
    let (Pixels::Single { black, white } | Pixels::Half { black, white } | Pixels::Whole { black, white }) =
        input.pixels;
    let middle = match input.pixels {
        Pixels::Single { .. } | Pixels::Half { .. } => f32::midpoint(black, white),
        Pixels::Whole { .. } => f32::midpoint(black, white).floor(),
    };
    let levels = [0.0, black, middle, white];
    let checkerboard =
        input.drawn(1, |_, (row, column)| if (row + column).is_multiple_of(2) { white } else { black });
    let (noise, tiny, huge) = match input.pixels {
        Pixels::Single { .. } | Pixels::Half { .. } => {
            let noise = normal(input, seed, amount.noise);
            let many = if matches!(input.pixels, Pixels::Half { .. }) { 1e2 } else { 1e4 };
            let some = noise.slice_axis(Axis(0), Slice::from(..amount.unreal.min(amount.noise)));
            (noise.clone(), some.mapv(|value| value * 1e-6), some.mapv(|value| value * many))
        }
        Pixels::Whole { .. } => {
            let noise = uniform(input, seed, black, white, amount.noise);
            let bright = |value: f32| value > middle;
            let some = noise.slice_axis(Axis(0), Slice::from(..amount.unreal.min(amount.noise)));
            let tiny = some.mapv(|value| if bright(value) { black + 1.0 } else { black });
            let huge = some.mapv(|value| if bright(value) { white } else { black });
            (noise, tiny, huge)
        }
    };
    let mut sets = Vec::new();
    sets.extend(images.map(|images| set("images", images, true)));
    sets.push(set("noise", noise, true));
    sets.push(set("constants", input.drawn(levels.len(), |sample, _| levels[sample]), true));
    sets.push(set("saturation", checkerboard, true));
    sets.push(set("impulses", impulses(input, black, white), true));
    sets.push(set("tiny", tiny, false));
    sets.push(set("huge", huge, false));
    sets
}

/// Number of images of a given size in a pool to choose samples from.
pub fn pool_size(image: [usize; 3], amount: &Amount) -> usize {
    (MAX_POOL / image.iter().product::<usize>().max(1)).clamp(1, amount.pool.max(1))
}

/// A pool of noise to choose samples from, distinct from the noise in [`input_sets`].
pub fn noise_pool(input: &ImageInput, seed: u64, amount: &Amount) -> ArrayD<f32> {
    let (seed, samples) = (derive_seed(seed, &["pool"]), pool_size(input.shape, amount));
    match input.pixels {
        Pixels::Single { .. } | Pixels::Half { .. } => normal(input, seed, samples),
        Pixels::Whole { black, white } => uniform(input, seed, black, white, samples),
    }
}

/// All images of a split, prepared for a network.
///
/// # Errors
/// If an image cannot be read.
pub fn images_of(split: &Split, preparation: &Preparation) -> Result<ArrayD<f32>> {
    let mut batches = Vec::new();
    for batch in prepared_batches(preparation, split, split.len()) {
        batches.push(batch?.images);
    }
    let views: Vec<ArrayViewD<'_, f32>> = batches.iter().map(|batch| batch.view()).collect();
    Ok(ndarray::concatenate(Axis(0), &views)?)
}

/// Standard normal values by the Box–Muller transform.
fn normal(input: &ImageInput, seed: u64, samples: usize) -> ArrayD<f32> {
    let mut unit = unit(seed);
    ArrayD::from_shape_simple_fn(input.batch(samples), || {
        let radius = (-2.0 * unit().ln()).sqrt();
        (radius * (std::f64::consts::TAU * unit()).cos()) as f32
    })
}

/// Whole numbers from `least` to `most`, uniformly distributed.
fn uniform(input: &ImageInput, seed: u64, least: f32, most: f32, samples: usize) -> ArrayD<f32> {
    let mut unit = unit(seed);
    let (least, count) = (f64::from(least), f64::from(most - least) + 1.0);
    ArrayD::from_shape_simple_fn(input.batch(samples), || (least + (unit() * count).floor()) as f32)
}

/// Uniform numbers in the open interval from 0 to 1.
fn unit(seed: u64) -> impl FnMut() -> f64 {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    move || (f64::from(rng.next_u32()) + 0.5) / 2f64.powi(32)
}

/// One white pixel on black, at each corner and in the middle, where errors in padding and strides show.
fn impulses(input: &ImageInput, black: f32, white: f32) -> ArrayD<f32> {
    let [_, height, width] = input.layout.planar(input.shape);
    let places = [(0, 0), (0, width - 1), (height - 1, 0), (height - 1, width - 1), (height / 2, width / 2)];
    input.drawn(places.len(), |sample, at| if at == places[sample] { white } else { black })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contract::Layout;

    const SINGLE: Pixels = Pixels::Single { black: -1.0, white: 2.0 };

    fn input(shape: [usize; 3], layout: Layout, pixels: Pixels) -> ImageInput {
        ImageInput { shape, layout, pixels }
    }

    #[test]
    fn inputs_come_from_the_seed() {
        let sets = |seed| {
            input_sets(None, &input([3, 5, 4], Layout::ChannelsFirst, SINGLE), seed, &Amount::default())
        };
        assert_eq!(sets(1), sets(1));
        assert_ne!(sets(1), sets(2));
        for set in sets(1) {
            assert_eq!(set.images.shape()[1..], [3, 5, 4], "{}", set.name);
            assert!(set.images.iter().all(|value| value.is_finite()), "{}", set.name);
        }
    }

    #[test]
    fn what_is_drawn_is_the_same_picture_with_channels_last() {
        let first = input_sets(None, &input([3, 5, 4], Layout::ChannelsFirst, SINGLE), 1, &Amount::default());
        let last = input_sets(None, &input([5, 4, 3], Layout::ChannelsLast, SINGLE), 1, &Amount::default());
        for (first, last) in first
            .iter()
            .zip(&last)
            .filter(|(first, _)| ["constants", "saturation", "impulses"].contains(&first.name))
        {
            let turned = first.images.view().permuted_axes(vec![0, 2, 3, 1]);
            assert_eq!(turned, last.images, "{}", first.name);
        }
    }

    #[test]
    fn whole_numbers_stay_whole_and_in_range() {
        for (black, white) in [(0.0, 255.0), (-128.0, 127.0), (0.0, 1.0)] {
            let pixels = Pixels::Whole { black, white };
            for set in
                input_sets(None, &input([5, 4, 3], Layout::ChannelsLast, pixels), 1, &Amount::default())
            {
                let whole = |value: f32| value.fract() == 0.0 && (black..=white).contains(&value);
                assert!(set.images.iter().all(|&value| whole(value)), "{} of {white}", set.name);
                let varied = set.images.iter().any(|&value| value != set.images[[0, 0, 0, 0].as_slice()]);
                assert!(varied, "{} of {white}", set.name);
            }
        }
    }

    #[test]
    fn half_precision_holds_every_input() {
        let pixels = Pixels::Half { black: -2.0, white: 2.0 };
        for set in input_sets(None, &input([3, 5, 4], Layout::ChannelsFirst, pixels), 1, &Amount::default()) {
            assert!(set.images.iter().all(|value| value.abs() < 1e3), "{}", set.name);
        }
    }
}
