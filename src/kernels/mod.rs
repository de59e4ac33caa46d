//! Kernels for the CPU on plain slices: what libtorch does in several passes, or with more
//! arithmetic than it takes.
//!
//! Images are channels-last here, `[batch, height, width, channels]`. Knows slices and numbers; no
//! tensor type, no graph, no runtime beyond the threads it borrows.

mod norm;
mod pool;
mod winograd;

pub use norm::{Affine, Moments, apply, gradient_moments, input_gradient, moments, supported};
pub use winograd::{Convolution, Epilogue};
