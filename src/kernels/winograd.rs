//! 3×3 convolutions with a quarter of the multiplications: Winograd's minimal filtering F(4×4, 3×3)
//! (Lavin & Gray 2016, arXiv 1509.09308), for stride 1 and padding 1.
//!
//! The image is divided into tiles of 4×4 outputs. The outputs of a tile with the 6×6 inputs `d` are
//! `Aᵀ[(G w Gᵀ) ⊙ (Bᵀ d B)]A`: products of 36 small matrices, one per position of the transformed
//! tile. The gradient of the input is the same with the filter rotated by 180°; the gradient of the
//! filter is `Gᵀ[Σ (Bᵀ d B) ⊙ (A dy Aᵀ)]G`. The results differ from a direct sum by a few tens of units in the
//! last place.

#![allow(clippy::needless_range_loop, reason = "rows and columns of small square blocks")]

use super::memory::{Lines, ZEROS, with_scratch};
use super::norm::Moments;
use super::pool::{Shared, parallel, parts, share};
use super::products::{add_places, multiply_places};
use super::tiles::{
    BLOCK, PLACES, REACH, SIDE, from_filter, plane, spread, to_filter, to_outputs, to_places,
};
use super::vector::{
    __mmask16, _mm512_add_ps, _mm512_fmadd_ps, _mm512_load_ps, _mm512_loadu_ps, _mm512_maskz_loadu_ps,
    _mm512_max_ps, _mm512_setzero_ps, _mm512_store_ps, _mm512_storeu_ps, _mm512_sub_ps, LANES, supported,
};

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

/// Image and top left pixel of a tile.
#[derive(Debug, Clone, Copy)]
struct Place {
    image: usize,
    top: usize,
    left: usize,
}

/// Sizes of a convolution with a 3×3 kernel, stride 1, padding 1 and no bias, except in the epilogue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Convolution {
    pub batch: usize,
    pub height: usize,
    pub width: usize,
    /// Input channels: 16, 32, 64 or 128.
    pub inputs: usize,
    /// Output channels: 16, 32, 64 or 128.
    pub outputs: usize,
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

impl Convolution {
    /// Whether the kernels support this machine and these sizes.
    pub fn supported(&self) -> bool {
        let channels = |count| matches!(count, 16 | 32 | 64 | 128);
        supported() && channels(self.inputs) && channels(self.outputs)
    }

    /// Whether at most half of the area of the tiles lies outside the image; otherwise a direct sum is faster.
    pub fn worthwhile(&self) -> bool {
        self.tiles() * SIDE * SIDE <= 2 * self.pixels()
    }

    /// `y = epilogue(x * w)`. `x` is `[batch, height, width, inputs]`, `weights` `[outputs, 3, 3,
    /// inputs]`, `y` `[batch, height, width, outputs]`. The moments are zero unless the epilogue asks for them.
    pub fn forward(&self, x: &[f32], weights: &[f32], epilogue: Epilogue<'_>, y: &mut [f32]) -> Moments {
        let filter = transposed(&transformed_filter(weights, self.outputs, self.inputs, false), self);
        self.run(x, &filter, epilogue, y)
    }

    /// The gradient of the input, `dx`, from that of the output, plus `other`, the gradient from other branches
    /// of the backward pass.
    pub fn input_gradient(&self, dy: &[f32], weights: &[f32], other: Option<&[f32]>, dx: &mut [f32]) {
        let turned = Self { inputs: self.outputs, outputs: self.inputs, ..*self };
        let filter = transformed_filter(weights, self.outputs, self.inputs, true);
        turned.run(dy, &filter, Epilogue { residual: other, ..Epilogue::default() }, dx);
    }

    /// The gradient of the weights, `[outputs, 3, 3, inputs]`.
    pub fn weight_gradient(&self, x: &[f32], dy: &[f32], dw: &mut [f32]) {
        assert!(self.supported());
        assert_eq!(x.len(), self.pixels() * self.inputs);
        assert_eq!(dy.len(), self.pixels() * self.outputs);
        assert_eq!(dw.len(), 9 * self.inputs * self.outputs);
        let size = PLACES * self.inputs * self.outputs;
        let parts = parts().min(self.tiles()).max(1);
        let mut sums = Lines::zeroed(parts * size);
        let shared = Shared::new(sums.floats());
        parallel(parts, &|part| {
            let tiles = share(self.tiles(), part, parts);
            // SAFETY: the assertions above checked that AVX-512 is available and that the sizes fit; each part
            // has its own `size` sums.
            unsafe { self.add_filter_gradient(x, dy, tiles, shared.at(part * size)) }
        });
        let sums = sums.floats();
        let target = Shared::new(dw);
        let threads = parts.min(self.outputs);
        parallel(threads, &|part| {
            for output in share(self.outputs, part, threads) {
                // SAFETY: same as above; all parts have finished their sums, and each output's weights are
                // written by exactly one part.
                unsafe { self.filter_gradient(sums, parts, output, target) }
            }
        });
    }

    fn pixels(&self) -> usize {
        self.batch * self.height * self.width
    }

    fn tiles(&self) -> usize {
        self.batch * self.height.div_ceil(SIDE) * self.width.div_ceil(SIDE)
    }

    /// Runs the convolution with a transformed filter `[36, inputs, outputs]`.
    fn run(&self, x: &[f32], filter: &Lines, epilogue: Epilogue<'_>, y: &mut [f32]) -> Moments {
        assert!(self.supported());
        assert_eq!(x.len(), self.pixels() * self.inputs);
        assert_eq!(y.len(), self.pixels() * self.outputs);
        assert!(epilogue.bias.is_none_or(|bias| bias.len() == self.outputs));
        assert!(epilogue.shift.is_none_or(|shift| shift.len() == self.outputs));
        assert!(epilogue.residual.is_none_or(|residual| residual.len() == y.len()));
        let parts = parts().min(self.tiles()).max(1);
        let target = Shared::new(y);
        let found: Vec<_> = (0..parts).map(|_| std::sync::Mutex::new(Moments::zero(self.outputs))).collect();
        parallel(parts, &|part| {
            let tiles = share(self.tiles(), part, parts);
            // SAFETY: the assertions above checked that AVX-512 is available and that the sizes fit; the parts have
            // disjoint tiles, and tiles do not overlap in `y`.
            let moments = unsafe { self.run_tiles(x, filter, epilogue, tiles, target) };
            *found[part].lock().unwrap_or_else(std::sync::PoisonError::into_inner) = moments;
        });
        let mut total = Moments::zero(self.outputs);
        for moments in found {
            total.add(&moments.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner));
        }
        total
    }

    /// Computes a range of tiles of `y` and returns the moments of the written values.
    ///
    /// # Safety
    /// AVX-512 is available. `x`, `filter`, `y` and the slices of the epilogue have the sizes that
    /// [`Self::run`] checks, and no other part writes these tiles.
    #[cfg_attr(not(emulated_avx512), target_feature(enable = "avx512f"))]
    unsafe fn run_tiles(
        &self,
        x: &[f32],
        filter: &Lines,
        epilogue: Epilogue<'_>,
        tiles: std::ops::Range<usize>,
        y: Shared,
    ) -> Moments {
        let mut moments = Moments::zero(self.outputs);
        let filter = filter.as_floats();
        with_scratch(PLACES * (plane(self.inputs) + plane(self.outputs)), |scratch| {
            let (source, product) = scratch.split_at_mut(PLACES * plane(self.inputs));
            let mut partial = vec![[[0.0; LANES]; 2]; self.outputs / LANES];
            for start in tiles.clone().step_by(BLOCK) {
                let block = start..tiles.end.min(start + BLOCK);
                let rows = block.len();
                // SAFETY: the caller guarantees the sizes, for numbers of channels that
                // `Convolution::supported` allows and `by_channels` has an arm for; the scratch memory holds
                // the planes of a block for both.
                unsafe {
                    by_channels!(self.inputs, C => self.transform_inputs::<C>(x, block.clone(), source));
                    by_channels!(self.inputs, K => by_channels!(self.outputs, N =>
                        multiply_places::<K, N>(rows, source, filter, product)));
                    by_channels!(self.outputs, C =>
                        self.transform_outputs::<C>(product, epilogue, block, y, &mut partial));
                }
                if epilogue.shift.is_some() {
                    for (group, partial) in partial.iter_mut().enumerate() {
                        moments.add_lanes(group * LANES, &partial[0], &partial[1]);
                        *partial = [[0.0; LANES]; 2];
                    }
                }
            }
        });
        moments
    }

    /// Places of a range of tiles, in order.
    fn places(&self, tiles: std::ops::Range<usize>) -> impl Iterator<Item = Place> + use<> {
        let (height, width) = (self.height, self.width);
        let (down, across) = (height.div_ceil(SIDE), width.div_ceil(SIDE));
        let first = tiles.start;
        let mut next = Place {
            image: first / (down * across),
            top: first / across % down * SIDE,
            left: first % across * SIDE,
        };
        tiles.map(move |_| {
            let here = next;
            next.left += SIDE;
            if next.left >= width {
                next.left = 0;
                next.top += SIDE;
                if next.top >= height {
                    next.top = 0;
                    next.image += 1;
                }
            }
            here
        })
    }

    /// The window of `N`×`N` pixels of `C` floats that starts `before` pixels above and left of a place: a
    /// pointer to the first pixel of each row and a mask per column. Pixels outside the image are zeros.
    ///
    /// # Safety
    /// `pixels` has the size of the images, because the pointers of rows inside an image are derived from it.
    #[inline(always)]
    unsafe fn window<const N: usize, const C: usize>(
        &self,
        pixels: &[f32],
        place: Place,
        before: usize,
    ) -> ([*const f32; N], [__mmask16; N]) {
        let mut rows = [ZEROS.0.as_ptr(); N];
        for (index, pointer) in rows.iter_mut().enumerate() {
            let row = (place.top + index).wrapping_sub(before);
            if row < self.height {
                let pixel = (place.image * self.height + row) * self.width + place.left;
                *pointer = pixels.as_ptr().wrapping_add(pixel * C).wrapping_sub(before * C);
            }
        }
        let mut columns = [0; N];
        for (index, mask) in columns.iter_mut().enumerate() {
            *mask = if (place.left + index).wrapping_sub(before) < self.width { !0 } else { 0 };
        }
        (rows, columns)
    }

    /// Writes `Bᵀ d B` of a range of tiles into `[36, BLOCK, C]`.
    ///
    /// # Safety
    /// `x` has the size of the input with `C` channels, and `into` the size of a block's planes.
    #[cfg_attr(not(emulated_avx512), target_feature(enable = "avx512f"))]
    unsafe fn transform_inputs<const C: usize>(
        &self,
        x: &[f32],
        tiles: std::ops::Range<usize>,
        into: &mut [f32],
    ) {
        for (tile, place) in self.places(tiles).enumerate() {
            // SAFETY: a row lies inside the image or in `ZEROS`, which holds a row of pixels with the maximum
            // number of channels, and columns outside the image are masked; the caller guarantees that `into`
            // holds a block's planes and that there are no more tiles than that, and it starts on a cache line,
            // like all `Lines`.
            unsafe {
                let (pointers, masks) = self.window::<REACH, C>(x, place, 1);
                let target = into.as_mut_ptr().add(tile * C);
                for channel in (0..C).step_by(LANES) {
                    let mut half = [[_mm512_setzero_ps(); REACH]; REACH];
                    for row in 0..REACH {
                        let mut d = [_mm512_setzero_ps(); REACH];
                        for column in 0..REACH {
                            let from = pointers[row].wrapping_add(column * C + channel);
                            d[column] = _mm512_maskz_loadu_ps(masks[column], from);
                        }
                        half[row] = to_places(d);
                    }
                    for column in 0..REACH {
                        let mut line = [_mm512_setzero_ps(); REACH];
                        for row in 0..REACH {
                            line[row] = half[row][column];
                        }
                        for (row, value) in to_places(line).into_iter().enumerate() {
                            _mm512_store_ps(target.add((row * REACH + column) * plane(C) + channel), value);
                        }
                    }
                }
            }
        }
    }

    /// Computes `Aᵀ m A` of a range of tiles and writes it through the epilogue into `y`.
    ///
    /// # Safety
    /// `product` has the size of a block's planes; `y` and the slices of the epilogue have the size of the
    /// output with `C` channels; no other part writes these tiles.
    #[cfg_attr(not(emulated_avx512), target_feature(enable = "avx512f"))]
    unsafe fn transform_outputs<const C: usize>(
        &self,
        product: &[f32],
        epilogue: Epilogue<'_>,
        tiles: std::ops::Range<usize>,
        y: Shared,
        partial: &mut [[[f32; LANES]; 2]],
    ) {
        let zero = _mm512_setzero_ps();
        let load = |slice: &[f32], at: usize| {
            // SAFETY: `at` is the offset of a channel group, in a per-channel slice or in a pixel inside the image.
            unsafe { _mm512_loadu_ps(slice.as_ptr().add(at)) }
        };
        for (tile, place) in self.places(tiles).enumerate() {
            let first = (place.image * self.height + place.top) * self.width + place.left;
            let rows = SIDE.min(self.height - place.top);
            let columns = SIDE.min(self.width - place.left);
            for (group, partial) in partial.iter_mut().enumerate() {
                let channel = group * LANES;
                // SAFETY: the product holds a block's planes, and there are no more tiles than that; rows and
                // columns stop at the edge of the image, so only pixels of this tile are written, which belongs
                // to this part alone.
                unsafe {
                    let source = product.as_ptr().add(tile * C + channel);
                    let mut half = [[zero; SIDE]; REACH];
                    for row in 0..REACH {
                        let mut m = [zero; REACH];
                        for column in 0..REACH {
                            m[column] = _mm512_load_ps(source.add((row * REACH + column) * plane(C)));
                        }
                        half[row] = to_outputs(m);
                    }
                    let bias = epilogue.bias.map_or(zero, |bias| load(bias, channel));
                    let shift = epilogue.shift.map_or(zero, |shift| load(shift, channel));
                    let mut sums = _mm512_loadu_ps(partial[0].as_ptr());
                    let mut squares = _mm512_loadu_ps(partial[1].as_ptr());
                    for column in 0..SIDE {
                        if column >= columns {
                            break;
                        }
                        let mut m = [zero; REACH];
                        for row in 0..REACH {
                            m[row] = half[row][column];
                        }
                        for (row, value) in to_outputs(m).into_iter().enumerate() {
                            if row >= rows {
                                break;
                            }
                            let at = (first + row * self.width + column) * C + channel;
                            let mut value = _mm512_add_ps(value, bias);
                            if let Some(residual) = epilogue.residual {
                                value = _mm512_add_ps(value, load(residual, at));
                            }
                            if epilogue.relu {
                                value = _mm512_max_ps(value, zero);
                            }
                            _mm512_storeu_ps(y.at(at), value);
                            if epilogue.shift.is_some() {
                                let centred = _mm512_sub_ps(value, shift);
                                sums = _mm512_add_ps(sums, centred);
                                squares = _mm512_fmadd_ps(centred, centred, squares);
                            }
                        }
                    }
                    _mm512_storeu_ps(partial[0].as_mut_ptr(), sums);
                    _mm512_storeu_ps(partial[1].as_mut_ptr(), squares);
                }
            }
        }
    }

    /// Adds `Σ (A dy Aᵀ) ⊗ (Bᵀ d B)` over a range of tiles to `sums`, `[36, outputs, inputs]`.
    ///
    /// # Safety
    /// AVX-512 is available. `x` and `dy` have the sizes of the input and the output, and `sums`, which starts on a
    /// cache line, belongs to this part alone.
    #[cfg_attr(not(emulated_avx512), target_feature(enable = "avx512f"))]
    unsafe fn add_filter_gradient(
        &self,
        x: &[f32],
        dy: &[f32],
        tiles: std::ops::Range<usize>,
        sums: *mut f32,
    ) {
        with_scratch(PLACES * (plane(self.inputs) + plane(self.outputs)), |scratch| {
            let (source, gradient) = scratch.split_at_mut(PLACES * plane(self.inputs));
            for start in tiles.clone().step_by(BLOCK) {
                let block = start..tiles.end.min(start + BLOCK);
                let count = block.len();
                // SAFETY: the caller guarantees the sizes; the scratch memory holds the planes of a block for both.
                unsafe {
                    by_channels!(self.inputs, C => self.transform_inputs::<C>(x, block.clone(), source));
                    by_channels!(self.outputs, C => self.transform_gradients::<C>(dy, block, gradient));
                    by_channels!(self.outputs, M => by_channels!(self.inputs, N =>
                        add_places::<M, N>(count, gradient, source, sums)));
                }
            }
        });
    }

    /// Writes `A dy Aᵀ` of a range of tiles into `[36, BLOCK, C]`.
    ///
    /// # Safety
    /// Same as [`Self::transform_inputs`], with the size and channels of the output.
    #[cfg_attr(not(emulated_avx512), target_feature(enable = "avx512f"))]
    unsafe fn transform_gradients<const C: usize>(
        &self,
        dy: &[f32],
        tiles: std::ops::Range<usize>,
        into: &mut [f32],
    ) {
        for (tile, place) in self.places(tiles).enumerate() {
            // SAFETY: same as in `transform_inputs`, with the size and channels of the output.
            unsafe {
                let (pointers, masks) = self.window::<SIDE, C>(dy, place, 0);
                let target = into.as_mut_ptr().add(tile * C);
                for channel in (0..C).step_by(LANES) {
                    let mut half = [[_mm512_setzero_ps(); REACH]; SIDE];
                    for row in 0..SIDE {
                        let mut line = [_mm512_setzero_ps(); SIDE];
                        for column in 0..SIDE {
                            let from = pointers[row].wrapping_add(column * C + channel);
                            line[column] = _mm512_maskz_loadu_ps(masks[column], from);
                        }
                        half[row] = spread(line);
                    }
                    for column in 0..REACH {
                        let mut line = [_mm512_setzero_ps(); SIDE];
                        for row in 0..SIDE {
                            line[row] = half[row][column];
                        }
                        for (row, value) in spread(line).into_iter().enumerate() {
                            _mm512_store_ps(target.add((row * REACH + column) * plane(C) + channel), value);
                        }
                    }
                }
            }
        }
    }

    /// Computes `Gᵀ u G` for one output channel, where `u` is the total of the parts' sums.
    ///
    /// # Safety
    /// AVX-512 is available. `dw` has the size of the weights, and no other part writes those of this output.
    #[cfg_attr(not(emulated_avx512), target_feature(enable = "avx512f"))]
    unsafe fn filter_gradient(&self, sums: &[f32], parts: usize, output: usize, dw: Shared) {
        let size = PLACES * self.inputs * self.outputs;
        assert!(sums.len() >= parts * size);
        let zero = _mm512_setzero_ps();
        for channel in (0..self.inputs).step_by(LANES) {
            let mut half = [[zero; REACH]; 3];
            for column in 0..REACH {
                let mut line = [zero; REACH];
                for (row, value) in line.iter_mut().enumerate() {
                    let at = ((row * REACH + column) * self.outputs + output) * self.inputs + channel;
                    for part in 0..parts {
                        // SAFETY: a channel group of this output, within the sums, whose length is asserted above.
                        let sum = unsafe { _mm512_loadu_ps(sums.as_ptr().add(part * size + at)) };
                        *value = _mm512_add_ps(*value, sum);
                    }
                }
                for (row, value) in to_filter(line).into_iter().enumerate() {
                    half[row][column] = value;
                }
            }
            for (row, half) in half.into_iter().enumerate() {
                for (column, value) in to_filter(half).into_iter().enumerate() {
                    let at = ((output * 3 + row) * 3 + column) * self.inputs + channel;
                    // SAFETY: a channel group of this output's weights, which belong to this part alone.
                    unsafe { _mm512_storeu_ps(dw.at(at), value) };
                }
            }
        }
    }
}

/// `G w Gᵀ` of every filter, `[36, outputs, inputs]`, from weights `[outputs, 3, 3, inputs]`, which are rotated
/// by 180° if `turned`.
fn transformed_filter(weights: &[f32], outputs: usize, inputs: usize, turned: bool) -> Lines {
    assert_eq!(weights.len(), 9 * inputs * outputs);
    assert!(supported() && inputs.is_multiple_of(LANES));
    let mut filter = Lines::zeroed(PLACES * inputs * outputs);
    let target = Shared::new(filter.floats());
    let parts = parts().min(outputs);
    parallel(parts, &|part| {
        for output in share(outputs, part, parts) {
            // SAFETY: the assertion checked that AVX-512 is available; an output's elements are within the
            // filter and belong to one part alone.
            unsafe {
                transform_filter(
                    &weights[output * 9 * inputs..][..9 * inputs],
                    output,
                    outputs,
                    turned,
                    target,
                )
            }
        }
    });
    filter
}

/// Writes `G w Gᵀ` of one output's filter, `[3, 3, inputs]`, to its elements of `into`, `[36, outputs, inputs]`.
///
/// # Safety
/// AVX-512 is available. `into` has that size, and no other part writes the elements of this output.
#[cfg_attr(not(emulated_avx512), target_feature(enable = "avx512f"))]
unsafe fn transform_filter(weights: &[f32], output: usize, outputs: usize, turned: bool, into: Shared) {
    let inputs = weights.len() / 9;
    let zero = _mm512_setzero_ps();
    for channel in (0..inputs).step_by(LANES) {
        let mut half = [[zero; 3]; REACH];
        for column in 0..3 {
            let mut line = [zero; 3];
            for (row, value) in line.iter_mut().enumerate() {
                let tap = if turned { 8 - (row * 3 + column) } else { row * 3 + column };
                // SAFETY: a channel group of one of the nine taps, each of which has `inputs` floats.
                *value = unsafe { _mm512_loadu_ps(weights.as_ptr().add(tap * inputs + channel)) };
            }
            for (row, value) in from_filter(line).into_iter().enumerate() {
                half[row][column] = value;
            }
        }
        for (row, half) in half.into_iter().enumerate() {
            for (column, value) in from_filter(half).into_iter().enumerate() {
                let at = ((row * REACH + column) * outputs + output) * inputs + channel;
                // SAFETY: a channel group within the filter, at this output, which belongs to this part alone.
                unsafe { _mm512_storeu_ps(into.at(at), value) };
            }
        }
    }
}

/// Transposes a filter from `[36, outputs, inputs]` to `[36, inputs, outputs]`.
fn transposed(filter: &Lines, sizes: &Convolution) -> Lines {
    let (inputs, outputs) = (sizes.inputs, sizes.outputs);
    let mut turned = Lines::zeroed(PLACES * inputs * outputs);
    let (source, target) = (filter.as_floats(), Shared::new(turned.floats()));
    let parts = parts().min(PLACES);
    parallel(parts, &|part| {
        for place in share(PLACES, part, parts) {
            let base = place * inputs * outputs;
            for input in 0..inputs {
                for output in 0..outputs {
                    // SAFETY: within the matrix of a position, which belongs to one part alone.
                    unsafe {
                        *target.at(base + input * outputs + output) = source[base + output * inputs + input]
                    }
                }
            }
        }
    });
    turned
}

#[cfg(test)]
mod tests {
    use super::super::noise;
    use super::*;

    /// Visits every term of the convolution by its definition, as output pixel, input pixel and tap; the output and
    /// both gradients are sums over these terms.
    fn walk(sizes: &Convolution, mut visit: impl FnMut(usize, usize, usize)) {
        let Convolution { batch, height, width, .. } = *sizes;
        for image in 0..batch {
            for row in 0..height {
                for column in 0..width {
                    for tap in 0..9 {
                        let (from_row, from_column) = (row + tap / 3, column + tap % 3);
                        if (1..=height).contains(&from_row) && (1..=width).contains(&from_column) {
                            let target = (image * height + row) * width + column;
                            visit(target, (image * height + from_row - 1) * width + from_column - 1, tap);
                        }
                    }
                }
            }
        }
    }

    #[track_caller]
    fn close(found: &[f32], expected: &[f64]) {
        let scale = (expected.iter().map(|v| v * v).sum::<f64>() / expected.len() as f64).sqrt();
        for (index, (found, expected)) in found.iter().zip(expected).enumerate() {
            let error = (f64::from(*found) - expected).abs();
            assert!(error < 5e-5 * scale, "at {index}: {found} against {expected}, scale {scale}");
        }
    }

    #[test]
    fn all_three_directions_agree_with_the_definition() {
        for (height, width, inputs, outputs) in [
            (8, 8, 16, 16),
            (5, 7, 16, 32),
            (1, 9, 32, 16),
            (4, 4, 64, 128),
            (14, 3, 128, 64),
            (32, 9, 16, 16),
        ] {
            let sizes = Convolution { batch: 3, height, width, inputs, outputs };
            if !sizes.supported() {
                return;
            }
            let pixels = sizes.pixels();
            let x = noise(pixels * inputs, 1);
            let w = noise(9 * inputs * outputs, 2);
            let dy = noise(pixels * outputs, 3);
            let mut expected_y = vec![0.0; pixels * outputs];
            let mut expected_dx = vec![0.0; pixels * inputs];
            let mut expected_dw = vec![0.0; w.len()];
            walk(&sizes, |target, source, tap| {
                for output in 0..outputs {
                    for input in 0..inputs {
                        let weight = (output * 9 + tap) * inputs + input;
                        let (into, from) = (target * outputs + output, source * inputs + input);
                        expected_y[into] += f64::from(x[from]) * f64::from(w[weight]);
                        expected_dx[from] += f64::from(dy[into]) * f64::from(w[weight]);
                        expected_dw[weight] += f64::from(dy[into]) * f64::from(x[from]);
                    }
                }
            });
            let (mut y, mut dx, mut dw) = (vec![9.0; dy.len()], vec![9.0; x.len()], vec![9.0; w.len()]);
            sizes.forward(&x, &w, Epilogue::default(), &mut y);
            sizes.input_gradient(&dy, &w, None, &mut dx);
            sizes.weight_gradient(&x, &dy, &mut dw);
            close(&y, &expected_y);
            close(&dx, &expected_dx);
            close(&dw, &expected_dw);
        }
    }

    #[test]
    fn the_epilogue_is_applied_before_the_moments() {
        let sizes = Convolution { batch: 2, height: 6, width: 5, inputs: 16, outputs: 32 };
        if !sizes.supported() {
            return;
        }
        let (x, w) = (noise(sizes.pixels() * 16, 4), noise(9 * 16 * 32, 5));
        let (bias, shift, residual) = (noise(32, 6), noise(32, 7), noise(sizes.pixels() * 32, 8));
        let mut plain = vec![0.0; residual.len()];
        sizes.forward(&x, &w, Epilogue::default(), &mut plain);
        let mut y = plain.clone();
        let epilogue =
            Epilogue { bias: Some(&bias), residual: Some(&residual), relu: true, shift: Some(&shift) };
        let moments = sizes.forward(&x, &w, epilogue, &mut y);
        let (mut sums, mut squares) = (vec![0.0; 32], vec![0.0; 32]);
        for (index, (found, plain)) in y.iter().zip(&plain).enumerate() {
            let channel = index % 32;
            assert!((found - (plain + bias[channel] + residual[index]).max(0.0)).abs() < 1e-6);
            let centred = f64::from(found - shift[channel]);
            sums[channel] += centred;
            squares[channel] += centred * centred;
        }
        for (found, expected) in moments.sums.iter().chain(&moments.products).zip(sums.iter().chain(&squares))
        {
            assert!((found - expected).abs() < 1e-3, "{found} against {expected}");
        }
    }
}
