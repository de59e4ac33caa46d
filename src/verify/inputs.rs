//! The inputs on which engines are compared, all from a seed or from the data.

use anyhow::Result;
use ndarray::{ArrayD, ArrayViewD, Axis, IxDyn, Slice};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

use crate::data::{Preparation, Split};

/// Samples of seeded noise.
const NOISE: usize = 32;

/// One kind of input, normalised, `[samples, channels, height, width]`.
#[derive(Debug, Clone, PartialEq)]
pub struct InputSet {
    pub name: &'static str,
    pub images: ArrayD<f32>,
    /// Whether its numbers decide. Inputs far outside of what images can be are reported and must
    /// stay finite.
    pub gates: bool,
}

/// Every kind of input: the images that are given, noise, constants within the range of pixels,
/// impulses, and noise far too small and far too large. `range` is the normalised value of a black
/// and of a white pixel.
pub fn input_sets(
    images: Option<ArrayD<f32>>,
    shape: [usize; 3],
    range: (f32, f32),
    seed: u64,
) -> Vec<InputSet> {
    let set = |name, images, gates| InputSet { name, images, gates };
    let noise = noise(shape, seed);
    let constant = |value: f32| ArrayD::from_elem(batch(1, shape), value);
    let middle = f32::midpoint(range.0, range.1);
    let constants = [0.0, range.0, middle, range.1].map(constant);
    let constants = ndarray::concatenate(Axis(0), &constants.each_ref().map(|constant| constant.view()));
    let checkerboard = ArrayD::from_shape_fn(batch(1, shape), |at| {
        if (at[2] + at[3]).is_multiple_of(2) { range.1 } else { range.0 }
    });
    let mut sets = Vec::new();
    sets.extend(images.map(|images| set("images", images, true)));
    sets.push(set("noise", noise.clone(), true));
    sets.extend(constants.ok().map(|constants| set("constants", constants, true)));
    sets.push(set("saturation", checkerboard, true));
    sets.push(set("impulses", impulses(shape, range), true));
    sets.push(set("tiny", noise.mapv(|value| value * 1e-6), false));
    sets.push(set("huge", noise.mapv(|value| value * 1e4), false));
    sets
}

/// All images of a split as a network wants them.
///
/// # Errors
/// If an image cannot be read.
pub fn images_of(split: &Split, preparation: &Preparation) -> Result<ArrayD<f32>> {
    let mut batches = Vec::new();
    for batch in preparation.batches(split, split.len()) {
        batches.push(batch?.images);
    }
    let views: Vec<ArrayViewD<'_, f32>> = batches.iter().map(|batch| batch.view()).collect();
    Ok(ndarray::concatenate(Axis(0), &views)?)
}

fn batch(samples: usize, [channels, height, width]: [usize; 3]) -> IxDyn {
    IxDyn(&[samples, channels, height, width])
}

/// Standard normal values by the Box–Muller transform.
fn noise(shape: [usize; 3], seed: u64) -> ArrayD<f32> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut unit = move || (f64::from(rng.next_u32()) + 0.5) / 2f64.powi(32);
    ArrayD::from_shape_simple_fn(batch(NOISE, shape), || {
        let radius = (-2.0 * unit().ln()).sqrt();
        (radius * (std::f64::consts::TAU * unit()).cos()) as f32
    })
}

/// One white pixel on black: at each corner and in the middle, where padding and strides show.
fn impulses(shape: [usize; 3], range: (f32, f32)) -> ArrayD<f32> {
    let [_, height, width] = shape;
    let places = [(0, 0), (0, width - 1), (height - 1, 0), (height - 1, width - 1), (height / 2, width / 2)];
    ArrayD::from_shape_fn(batch(places.len(), shape), |at| {
        if (at[2], at[3]) == places[at[0]] { range.1 } else { range.0 }
    })
}

/// The images and, after them, black ones up to the batch size a file takes.
pub(super) fn padded(images: ArrayViewD<'_, f32>, size: usize) -> ArrayD<f32> {
    let mut shape = images.shape().to_vec();
    let filled = shape[0];
    shape[0] = size;
    let mut all = ArrayD::zeros(shape);
    all.slice_axis_mut(Axis(0), Slice::from(..filled)).assign(&images);
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inputs_come_from_the_seed() {
        let sets = |seed| input_sets(None, [3, 5, 4], (-1.0, 2.0), seed);
        assert_eq!(sets(1), sets(1));
        assert_ne!(sets(1), sets(2));
        for set in sets(1) {
            assert_eq!(set.images.shape()[1..], [3, 5, 4], "{}", set.name);
            assert!(set.images.iter().all(|value| value.is_finite()), "{}", set.name);
        }
    }
}
