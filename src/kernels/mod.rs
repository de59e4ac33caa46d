//! CPU kernels on plain slices, for operations that libtorch runs in several passes or with more
//! arithmetic than necessary.
//!
//! Images are channels-last here, `[batch, height, width, channels]`. The module knows only slices and numbers: no
//! tensor type, no graph and no runtime, except for the threads that it borrows.

mod blocks;
mod memory;
mod norm;
mod pool;
mod products;
mod sizes;
mod tiles;
mod vector;
mod winograd;

pub use blocks::Epilogue;
pub use norm::{Affine, Moments, apply, gradient_moments, input_gradient, moments};
pub use sizes::Convolution;
pub use vector::{instructions, supported};

/// Pseudorandom values in -1..1 for tests, reproducible by seed.
#[cfg(test)]
fn noise(count: usize, seed: u32) -> Vec<f32> {
    let mut state = seed;
    let next = |_| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        f32::from((state >> 16) as u16) / 32_768.0 - 1.0
    };
    (0..count).map(next).collect()
}
