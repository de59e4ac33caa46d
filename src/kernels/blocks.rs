//! Winograd convolution of a range of tiles, a block of tiles at a time, for any registers.
//!
//! Its user, `winograd`, has checked all sizes before it constructs a kernel, and gives parts that run at the same time disjoint
//! outputs; each kernel relies on both.

#![allow(clippy::needless_range_loop, reason = "rows and columns of small square blocks")]

use std::ops::Range;

use pulp::{Simd, WithSimd};

use super::memory::ZEROS;
use super::norm::Moments;
use super::pool::Shared;
use super::products::{add_places, multiply_places};
use super::sizes::{Convolution, Place};
use super::tiles::{
    BLOCK, PLACES, REACH, SIDE, from_filter, plane, spread, to_filter, to_outputs, to_places,
};
use super::vector::{Lanes, load, store};

/// Calls a function with the number of channels, checked by [`Convolution::supported`], as a constant.
macro_rules! by_channels {
    ($channels:expr, $constant:ident => $call:expr) => {
        match $channels {
            16 => {
                const $constant: usize = 16;
                $call
            }
            32 => {
                const $constant: usize = 32;
                $call
            }
            64 => {
                const $constant: usize = 64;
                $call
            }
            _ => {
                const $constant: usize = 128;
                $call
            }
        }
    };
}

/// Operations on an output before it is written.
#[derive(Default, Clone, Copy)]
pub struct Epilogue<'a> {
    /// Bias per channel.
    pub bias: Option<&'a [f32]>,
    /// Added to the output; same size as the output.
    pub residual: Option<&'a [f32]>,
    pub relu: bool,
    /// Shift per channel. If given, the sums of the written values minus the shift, and of their squares, are
    /// returned.
    pub shift: Option<&'a [f32]>,
}

/// Floats of scratch memory that [`Outputs`] and [`AddFilterGradient`] need: the planes of a block for both sides.
pub(super) fn scratch(sizes: &Convolution) -> usize {
    PLACES * (plane(sizes.inputs) + plane(sizes.outputs))
}

/// Computes a range of tiles of `y` and returns the moments of the written values.
pub(super) struct Outputs<'a> {
    pub sizes: &'a Convolution,
    pub x: &'a [f32],
    /// Transformed, `[36, inputs, outputs]`.
    pub filter: &'a [f32],
    pub epilogue: Epilogue<'a>,
    pub tiles: Range<usize>,
    pub scratch: &'a mut [f32],
    pub y: Shared,
}

impl WithSimd for Outputs<'_> {
    type Output = Moments;

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> Moments {
        let Self { sizes, x, filter, epilogue, tiles, scratch, y } = self;
        let (source, product) = scratch.split_at_mut(PLACES * plane(sizes.inputs));
        let mut moments = Moments::zero(sizes.outputs);
        let mut partial = vec![0.0; 2 * sizes.outputs];
        for start in tiles.clone().step_by(BLOCK) {
            let block = start..tiles.end.min(start + BLOCK);
            let rows = block.len();
            // SAFETY: the sizes fit, and `by_channels` has an arm for each number of channels that
            // `Convolution::supported` allows; the scratch memory holds the planes of a block for both sides.
            unsafe {
                by_channels!(sizes.inputs, C => transform_inputs::<S, C>(simd, sizes, x, block.clone(), source));
                by_channels!(sizes.inputs, K => by_channels!(sizes.outputs, N =>
                    multiply_places::<S, K, N>(simd, rows, source, filter, product)));
                by_channels!(sizes.outputs, C =>
                    transform_outputs::<S, C>(simd, sizes, product, epilogue, block, y, &mut partial));
            }
            if epilogue.shift.is_some() {
                let (sums, squares) = partial.split_at(sizes.outputs);
                moments.add_from(0, sums, squares);
                partial.fill(0.0);
            }
        }
        moments
    }
}

/// Adds `Σ (A dy Aᵀ) ⊗ (Bᵀ d B)` over a range of tiles to `sums`, `[36, outputs, inputs]`, which belongs to this part alone.
pub(super) struct AddFilterGradient<'a> {
    pub sizes: &'a Convolution,
    pub x: &'a [f32],
    pub dy: &'a [f32],
    pub tiles: Range<usize>,
    pub scratch: &'a mut [f32],
    pub sums: *mut f32,
}

impl WithSimd for AddFilterGradient<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { sizes, x, dy, tiles, scratch, sums } = self;
        let (source, gradient) = scratch.split_at_mut(PLACES * plane(sizes.inputs));
        for start in tiles.clone().step_by(BLOCK) {
            let block = start..tiles.end.min(start + BLOCK);
            let count = block.len();
            // SAFETY: the same as in `Outputs`.
            unsafe {
                by_channels!(sizes.inputs, C => transform_inputs::<S, C>(simd, sizes, x, block.clone(), source));
                by_channels!(sizes.outputs, C => transform_gradients::<S, C>(simd, sizes, dy, block, gradient));
                by_channels!(sizes.outputs, M => by_channels!(sizes.inputs, N =>
                    add_places::<S, M, N>(simd, count, gradient, source, sums)));
            }
        }
    }
}

/// A window of `N`×`N` pixels of `C` floats: a pointer to the first pixel of each row, and which columns are inside the
/// image. Pixels outside the image are zeros.
struct Window<S: Simd, const N: usize> {
    rows: [*const f32; N],
    columns: [Lanes<S>; N],
}

/// The window that starts `before` pixels above and left of a place.
///
/// # Safety
/// `pixels` has the size of the images, because the pointers of rows inside an image are derived from it.
#[inline(always)]
unsafe fn window<S: Simd, const N: usize, const C: usize>(
    simd: S,
    sizes: &Convolution,
    pixels: &[f32],
    place: Place,
    before: usize,
) -> Window<S, N> {
    let mut rows = [ZEROS.0.as_ptr(); N];
    for index in 0..N {
        let row = (place.top + index).wrapping_sub(before);
        if row < sizes.height {
            let pixel = (place.image * sizes.height + row) * sizes.width + place.left;
            rows[index] = pixels.as_ptr().wrapping_add(pixel * C).wrapping_sub(before * C);
        }
    }
    let mut columns = [Lanes::first(simd, 0); N];
    for index in 0..N {
        if (place.left + index).wrapping_sub(before) < sizes.width {
            columns[index] = Lanes::first(simd, S::F32_LANES);
        }
    }
    Window { rows, columns }
}

/// Writes `Bᵀ d B` of a range of tiles into `[36, BLOCK, C]`.
///
/// # Safety
/// `x` has the size of the input with `C` channels, and `into` the size of a block's planes.
#[inline(always)]
unsafe fn transform_inputs<S: Simd, const C: usize>(
    simd: S,
    sizes: &Convolution,
    x: &[f32],
    tiles: Range<usize>,
    into: &mut [f32],
) {
    let zero = simd.splat_f32s(0.0);
    for (tile, place) in sizes.places(tiles).enumerate() {
        // SAFETY: a row lies inside the image or in `ZEROS`, which holds a row of pixels with the maximum
        // number of channels, and columns outside the image are not read; the caller guarantees that `into`
        // holds a block's planes and that there are no more tiles than that.
        unsafe {
            let window = window::<S, REACH, C>(simd, sizes, x, place, 1);
            let target = into.as_mut_ptr().add(tile * C);
            for channel in (0..C).step_by(S::F32_LANES) {
                let mut half = [[zero; REACH]; REACH];
                for row in 0..REACH {
                    let mut d = [zero; REACH];
                    for column in 0..REACH {
                        let from = window.rows[row].wrapping_add(column * C + channel);
                        d[column] = window.columns[column].load(from);
                    }
                    half[row] = to_places(simd, d);
                }
                for column in 0..REACH {
                    let mut line = [zero; REACH];
                    for row in 0..REACH {
                        line[row] = half[row][column];
                    }
                    let line = to_places(simd, line);
                    for row in 0..REACH {
                        store::<S>(target.add((row * REACH + column) * plane(C) + channel), line[row]);
                    }
                }
            }
        }
    }
}

/// Computes `Aᵀ m A` of a range of tiles and writes it through the epilogue into `y`. The sums and the sums of squares of
/// the written values are added to the first and second half of `partial`.
///
/// # Safety
/// `product` has the size of a block's planes; `y` and the slices of the epilogue have the size of the
/// output with `C` channels, and `partial` two times `C`; no other part writes these tiles.
#[inline(always)]
unsafe fn transform_outputs<S: Simd, const C: usize>(
    simd: S,
    sizes: &Convolution,
    product: &[f32],
    epilogue: Epilogue<'_>,
    tiles: Range<usize>,
    y: Shared,
    partial: &mut [f32],
) {
    let zero = simd.splat_f32s(0.0);
    for (tile, place) in sizes.places(tiles).enumerate() {
        let first = (place.image * sizes.height + place.top) * sizes.width + place.left;
        let rows = SIDE.min(sizes.height - place.top);
        let columns = SIDE.min(sizes.width - place.left);
        for channel in (0..C).step_by(S::F32_LANES) {
            // SAFETY: the product holds a block's planes, and there are no more tiles than that; rows and
            // columns stop at the edge of the image, so only pixels of this tile are written, which belongs
            // to this part alone.
            unsafe {
                let source = product.as_ptr().add(tile * C + channel);
                let mut half = [[zero; SIDE]; REACH];
                for row in 0..REACH {
                    let mut m = [zero; REACH];
                    for column in 0..REACH {
                        m[column] = load::<S>(source.add((row * REACH + column) * plane(C)));
                    }
                    half[row] = to_outputs(simd, m);
                }
                let (mut bias, mut shift) = (zero, zero);
                if let Some(values) = epilogue.bias {
                    bias = load::<S>(values.as_ptr().add(channel));
                }
                if let Some(values) = epilogue.shift {
                    shift = load::<S>(values.as_ptr().add(channel));
                }
                let [of_sums, of_squares] =
                    [channel, C + channel].map(|at| partial.as_mut_ptr().wrapping_add(at));
                let mut sums = load::<S>(of_sums);
                let mut squares = load::<S>(of_squares);
                for column in 0..SIDE {
                    if column >= columns {
                        break;
                    }
                    let mut m = [zero; REACH];
                    for row in 0..REACH {
                        m[row] = half[row][column];
                    }
                    let line = to_outputs(simd, m);
                    for row in 0..SIDE {
                        if row >= rows {
                            break;
                        }
                        let at = (first + row * sizes.width + column) * C + channel;
                        let mut value = simd.add_f32s(line[row], bias);
                        if let Some(residual) = epilogue.residual {
                            value = simd.add_f32s(value, load::<S>(residual.as_ptr().add(at)));
                        }
                        if epilogue.relu {
                            value = simd.max_f32s(value, zero);
                        }
                        store::<S>(y.at(at), value);
                        if epilogue.shift.is_some() {
                            let centred = simd.sub_f32s(value, shift);
                            sums = simd.add_f32s(sums, centred);
                            squares = simd.mul_add_f32s(centred, centred, squares);
                        }
                    }
                }
                store::<S>(of_sums, sums);
                store::<S>(of_squares, squares);
            }
        }
    }
}

/// Writes `A dy Aᵀ` of a range of tiles into `[36, BLOCK, C]`.
///
/// # Safety
/// Same as [`transform_inputs`], with the size and channels of the output.
#[inline(always)]
unsafe fn transform_gradients<S: Simd, const C: usize>(
    simd: S,
    sizes: &Convolution,
    dy: &[f32],
    tiles: Range<usize>,
    into: &mut [f32],
) {
    let zero = simd.splat_f32s(0.0);
    for (tile, place) in sizes.places(tiles).enumerate() {
        // SAFETY: same as in `transform_inputs`, with the size and channels of the output.
        unsafe {
            let window = window::<S, SIDE, C>(simd, sizes, dy, place, 0);
            let target = into.as_mut_ptr().add(tile * C);
            for channel in (0..C).step_by(S::F32_LANES) {
                let mut half = [[zero; REACH]; SIDE];
                for row in 0..SIDE {
                    let mut line = [zero; SIDE];
                    for column in 0..SIDE {
                        let from = window.rows[row].wrapping_add(column * C + channel);
                        line[column] = window.columns[column].load(from);
                    }
                    half[row] = spread(simd, line);
                }
                for column in 0..REACH {
                    let mut line = [zero; SIDE];
                    for row in 0..SIDE {
                        line[row] = half[row][column];
                    }
                    let line = spread(simd, line);
                    for row in 0..REACH {
                        store::<S>(target.add((row * REACH + column) * plane(C) + channel), line[row]);
                    }
                }
            }
        }
    }
}

/// Computes `Gᵀ u G` for one output channel, where `u` is the total of the parts' `sums`, each `[36, outputs, inputs]`.
/// No other part writes the weights of this output.
pub(super) struct TotalFilterGradient<'a> {
    pub sizes: &'a Convolution,
    pub sums: &'a [f32],
    pub parts: usize,
    pub output: usize,
    pub dw: Shared,
}

impl WithSimd for TotalFilterGradient<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { sizes: &Convolution { inputs, outputs, .. }, sums, parts, output, dw } = self;
        let size = PLACES * inputs * outputs;
        assert!(sums.len() >= parts * size);
        let zero = simd.splat_f32s(0.0);
        for channel in (0..inputs).step_by(S::F32_LANES) {
            let mut half = [[zero; REACH]; 3];
            for column in 0..REACH {
                let mut line = [zero; REACH];
                for row in 0..REACH {
                    let at = ((row * REACH + column) * outputs + output) * inputs + channel;
                    for part in 0..parts {
                        // SAFETY: a channel group of this output, within the sums, whose length is asserted above.
                        let sum = unsafe { load::<S>(sums.as_ptr().add(part * size + at)) };
                        line[row] = simd.add_f32s(line[row], sum);
                    }
                }
                let line = to_filter(simd, line);
                for row in 0..3 {
                    half[row][column] = line[row];
                }
            }
            for row in 0..3 {
                let line = to_filter(simd, half[row]);
                for column in 0..3 {
                    let at = ((output * 3 + row) * 3 + column) * inputs + channel;
                    // SAFETY: a channel group of this output's weights, which belong to this part alone.
                    unsafe { store::<S>(dw.at(at), line[column]) };
                }
            }
        }
    }
}

/// Writes `G w Gᵀ` of one output's filter, `[3, 3, inputs]`, to its elements of `into`, `[36, outputs, inputs]`; rotated by
/// 180° if `turned`. No other part writes these elements.
pub(super) struct TransformFilter<'a> {
    pub weights: &'a [f32],
    pub output: usize,
    pub outputs: usize,
    pub turned: bool,
    pub into: Shared,
}

impl WithSimd for TransformFilter<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { weights, output, outputs, turned, into } = self;
        let inputs = weights.len() / 9;
        let zero = simd.splat_f32s(0.0);
        for channel in (0..inputs).step_by(S::F32_LANES) {
            let mut half = [[zero; 3]; REACH];
            for column in 0..3 {
                let mut line = [zero; 3];
                for row in 0..3 {
                    let tap = if turned { 8 - (row * 3 + column) } else { row * 3 + column };
                    // SAFETY: a channel group of one of the nine taps, each of which has `inputs` floats.
                    line[row] = unsafe { load::<S>(weights.as_ptr().add(tap * inputs + channel)) };
                }
                let line = from_filter(simd, line);
                for row in 0..REACH {
                    half[row][column] = line[row];
                }
            }
            for row in 0..REACH {
                let line = from_filter(simd, half[row]);
                for column in 0..REACH {
                    let at = ((row * REACH + column) * outputs + output) * inputs + channel;
                    // SAFETY: a channel group within the filter, at this output, which belongs to this part alone.
                    unsafe { store::<S>(into.at(at), line[column]) };
                }
            }
        }
    }
}
