//! Inputs for runs in which only the time matters, not the output.

use ndarray::{ArrayD, IxDyn};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

use crate::contract::Element;

/// A batch of seeded noise: uniform in ±1.7, which has the spread of normalised pixels, or integers from the
/// smallest to the largest value that the input takes, within 0..=255.
pub(super) fn noise(batch: usize, sample: &[usize], element: Element, seed: u64) -> ArrayD<f32> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut share = || f64::from(rng.next_u32()) / 2f64.powi(32);
    let shape = [&[batch], sample].concat();
    ArrayD::from_shape_simple_fn(IxDyn(&shape), || match element {
        Element::Integer { least, most } => {
            let (least, most) = (least.max(0) as f64, most.min(255) as f64);
            (least + share() * (most - least + 1.0)).floor() as f32
        }
        Element::Float32 | Element::Float16 | Element::BFloat16 | Element::Float64 => {
            (1.7 * (2.0 * share() - 1.0)) as f32
        }
    })
}
