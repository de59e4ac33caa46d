//! Batch normalisation fused with the operations around it: the addition of a shortcut and the ReLU run in the
//! same pass, both forward and backward. Every function reads and writes each image once.

use std::ops::Range;
use std::sync::{Mutex, PoisonError};

use pulp::{Simd, WithSimd};

use super::pool::{Shared, parallel, parts, share};
use super::vector::{LINE, Lanes, Registers};

/// Number of rows that are summed in float32 before their sums are added up in float64.
const ROWS: usize = 64;

/// Two sums over all rows, per channel.
#[derive(Debug, Clone, PartialEq)]
pub struct Moments {
    pub sums: Vec<f64>,
    /// Sums of squares or of products.
    pub products: Vec<f64>,
}

impl Moments {
    /// Sums over no rows.
    pub fn zero(channels: usize) -> Self {
        Self { sums: vec![0.0; channels], products: vec![0.0; channels] }
    }

    /// Adds the sums of `other`.
    pub fn add(&mut self, other: &Self) {
        for (mine, theirs) in self.sums.iter_mut().zip(&other.sums) {
            *mine += theirs;
        }
        for (mine, theirs) in self.products.iter_mut().zip(&other.products) {
            *mine += theirs;
        }
    }

    /// Adds sums of the channels from `first` on, as many as there are.
    pub fn add_from(&mut self, first: usize, sums: &[f32], products: &[f32]) {
        for (total, sum) in self.sums[first..].iter_mut().zip(sums) {
            *total += f64::from(*sum);
        }
        for (total, product) in self.products[first..].iter_mut().zip(products) {
            *total += f64::from(*product);
        }
    }
}

/// Sums of `x - shift` and of its squares over the rows of `x`, `[rows, channels]`.
pub fn moments(x: &[f32], shift: &[f32]) -> Moments {
    assert!(x.len().is_multiple_of(shift.len()));
    over_rows(x.len(), shift.len(), |rows| Forward { x, shift, rows })
}

/// An affine map of rows: `y = relu?(x·scale + offset + residual?)`.
#[derive(Clone, Copy)]
pub struct Affine<'a> {
    /// Scale per channel, like `offset`.
    pub scale: &'a [f32],
    pub offset: &'a [f32],
    /// Same size as `x`.
    pub residual: Option<&'a [f32]>,
    pub relu: bool,
}

/// Applies an affine map to every row of `x`, `[rows, channels]`.
pub fn apply(x: &[f32], map: Affine<'_>, y: &mut [f32]) {
    let channels = map.scale.len();
    assert!(x.len().is_multiple_of(channels) && x.len() == y.len());
    assert!(map.offset.len() == channels && map.residual.is_none_or(|residual| residual.len() == x.len()));
    let y = Shared::new(y);
    over_rows(x.len(), channels, |rows| Map { x, map, rows, y });
}

/// Sums of `g` and of `g·(x - mean)`, where `g` is `dy` with zeros wherever `output` is not positive, or all of
/// `dy` without an output. `masked` receives `g`.
pub fn gradient_moments(
    dy: &[f32],
    x: &[f32],
    mean: &[f32],
    output: Option<&[f32]>,
    masked: Option<&mut [f32]>,
) -> Moments {
    let channels = mean.len();
    assert!(x.len().is_multiple_of(channels) && dy.len() == x.len());
    assert!(output.is_none_or(|output| output.len() == x.len()));
    assert!(masked.as_ref().is_none_or(|masked| masked.len() == x.len()));
    let masked = masked.map(Shared::new);
    over_rows(x.len(), channels, |rows| Backward { dy, x, mean, output, masked, rows })
}

/// `dx = g·scale + x·slope + offset`, with `g` as in [`gradient_moments`].
pub fn input_gradient(
    dy: &[f32],
    x: &[f32],
    output: Option<&[f32]>,
    [scale, slope, offset]: [&[f32]; 3],
    dx: &mut [f32],
) {
    let channels = scale.len();
    assert!(x.len().is_multiple_of(channels) && dy.len() == x.len() && dx.len() == x.len());
    assert!(slope.len() == channels && offset.len() == channels);
    assert!(output.is_none_or(|output| output.len() == x.len()));
    let dx = Shared::new(dx);
    over_rows(x.len(), channels, |rows| Gradient { dy, x, output, maps: [scale, slope, offset], rows, dx });
}

/// Passes blocks of rows to every part and adds up the sums of the parts, in the order of the parts.
fn over_rows<P: Pass>(floats: usize, channels: usize, pass: impl Fn(Range<usize>) -> P + Sync) -> Moments {
    let registers = Registers::widest().expect("`supported` was asked first");
    let rows = floats / channels.max(1);
    let parts = parts().min(rows.div_ceil(ROWS)).max(1);
    let found: Vec<_> = (0..parts).map(|_| Mutex::new(Moments::zero(channels))).collect();
    parallel(parts, &|part| {
        let mut moments = Moments::zero(channels);
        let mine = share(rows, part, parts);
        for start in mine.clone().step_by(ROWS) {
            let pass = pass(start..mine.end.min(start + ROWS));
            registers.run(Groups { pass, channels, moments: &mut moments });
        }
        *found[part].lock().unwrap_or_else(PoisonError::into_inner) = moments;
    });
    let mut total = Moments::zero(channels);
    for moments in found {
        total.add(&moments.into_inner().unwrap_or_else(PoisonError::into_inner));
    }
    total
}

/// Work on a range of rows. What is constructed by the functions above has checked sizes and disjoint rows.
trait Pass {
    /// Processes the channels from `first` on that are in `lanes`, and returns the two sums, which are zero where the
    /// pass has none.
    ///
    /// # Safety
    /// These channels exist.
    unsafe fn group<S: Simd>(&self, lanes: Lanes<S>, first: usize) -> [S::f32s; 2];
}

/// A pass over all channels, as many at a time as a register has lanes.
struct Groups<'a, P> {
    pass: P,
    channels: usize,
    moments: &'a mut Moments,
}

impl<P: Pass> WithSimd for Groups<'_, P> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let mut add = |first: usize, [sums, products]: [S::f32s; 2]| {
            let (mut of_sums, mut of_products) = ([0.0; LINE], [0.0; LINE]);
            // SAFETY: an array has at least as many floats as a register.
            unsafe {
                Lanes::all(simd).store(of_sums.as_mut_ptr(), sums);
                Lanes::all(simd).store(of_products.as_mut_ptr(), products);
            }
            self.moments.add_from(first, &of_sums[..S::F32_LANES], &of_products[..S::F32_LANES]);
        };
        let rest = self.channels % S::F32_LANES;
        let whole = self.channels - rest;
        for first in (0..whole).step_by(S::F32_LANES) {
            // SAFETY: `whole` is at most the number of channels.
            add(first, unsafe { self.pass.group(Lanes::all(simd), first) });
        }
        if rest > 0 {
            // SAFETY: `rest` channels are left.
            add(whole, unsafe { self.pass.group(Lanes::first(simd, rest), whole) });
        }
    }
}

/// [`moments`] of a range of rows.
struct Forward<'a> {
    x: &'a [f32],
    shift: &'a [f32],
    rows: Range<usize>,
}

impl Pass for Forward<'_> {
    #[inline(always)]
    unsafe fn group<S: Simd>(&self, lanes: Lanes<S>, first: usize) -> [S::f32s; 2] {
        let (simd, channels) = (lanes.simd, self.shift.len());
        let (mut sums, mut squares) = (simd.splat_f32s(0.0), simd.splat_f32s(0.0));
        // SAFETY: accesses are limited to this group's channels, and the rows are within `x`.
        unsafe {
            let shift = lanes.load(self.shift.as_ptr().add(first));
            for row in self.rows.clone() {
                let value = lanes.load(self.x.as_ptr().add(row * channels + first));
                let value = simd.sub_f32s(value, shift);
                sums = simd.add_f32s(sums, value);
                squares = simd.mul_add_f32s(value, value, squares);
            }
        }
        [sums, squares]
    }
}

/// [`apply`] to a range of rows.
struct Map<'a> {
    x: &'a [f32],
    map: Affine<'a>,
    rows: Range<usize>,
    y: Shared,
}

impl Pass for Map<'_> {
    #[inline(always)]
    unsafe fn group<S: Simd>(&self, lanes: Lanes<S>, first: usize) -> [S::f32s; 2] {
        let (simd, map, channels) = (lanes.simd, self.map, self.map.scale.len());
        let zero = simd.splat_f32s(0.0);
        // SAFETY: accesses are limited to this group's channels; the rows are in range, and no other part writes them.
        unsafe {
            let scale = lanes.load(map.scale.as_ptr().add(first));
            let offset = lanes.load(map.offset.as_ptr().add(first));
            for row in self.rows.clone() {
                let at = row * channels + first;
                let mut value = simd.mul_add_f32s(lanes.load(self.x.as_ptr().add(at)), scale, offset);
                if let Some(residual) = map.residual {
                    value = simd.add_f32s(value, lanes.load(residual.as_ptr().add(at)));
                }
                if map.relu {
                    value = simd.max_f32s(value, zero);
                }
                lanes.store(self.y.at(at), value);
            }
        }
        [zero; 2]
    }
}

/// [`gradient_moments`] of a range of rows.
struct Backward<'a> {
    dy: &'a [f32],
    x: &'a [f32],
    mean: &'a [f32],
    output: Option<&'a [f32]>,
    masked: Option<Shared>,
    rows: Range<usize>,
}

impl Pass for Backward<'_> {
    #[inline(always)]
    unsafe fn group<S: Simd>(&self, lanes: Lanes<S>, first: usize) -> [S::f32s; 2] {
        let (simd, channels) = (lanes.simd, self.mean.len());
        let (mut sums, mut products) = (simd.splat_f32s(0.0), simd.splat_f32s(0.0));
        // SAFETY: accesses are limited to this group's channels; the rows are in range, and no other part writes them.
        unsafe {
            let mean = lanes.load(self.mean.as_ptr().add(first));
            for row in self.rows.clone() {
                let at = row * channels + first;
                let gradient = masked_gradient(lanes, self.dy, self.output, at);
                if let Some(masked) = self.masked {
                    lanes.store(masked.at(at), gradient);
                }
                sums = simd.add_f32s(sums, gradient);
                let centred = simd.sub_f32s(lanes.load(self.x.as_ptr().add(at)), mean);
                products = simd.mul_add_f32s(gradient, centred, products);
            }
        }
        [sums, products]
    }
}

/// [`input_gradient`] of a range of rows.
struct Gradient<'a> {
    dy: &'a [f32],
    x: &'a [f32],
    output: Option<&'a [f32]>,
    /// Scale, slope and offset.
    maps: [&'a [f32]; 3],
    rows: Range<usize>,
    dx: Shared,
}

impl Pass for Gradient<'_> {
    #[inline(always)]
    unsafe fn group<S: Simd>(&self, lanes: Lanes<S>, first: usize) -> [S::f32s; 2] {
        let [scale, slope, offset] = self.maps;
        let (simd, channels) = (lanes.simd, scale.len());
        // SAFETY: accesses are limited to this group's channels; the rows are in range, and no other part writes them.
        unsafe {
            let scale = lanes.load(scale.as_ptr().add(first));
            let slope = lanes.load(slope.as_ptr().add(first));
            let offset = lanes.load(offset.as_ptr().add(first));
            for row in self.rows.clone() {
                let at = row * channels + first;
                let gradient = masked_gradient(lanes, self.dy, self.output, at);
                let value = simd.mul_add_f32s(lanes.load(self.x.as_ptr().add(at)), slope, offset);
                lanes.store(self.dx.at(at), simd.mul_add_f32s(gradient, scale, value));
            }
        }
        [simd.splat_f32s(0.0); 2]
    }
}

/// `dy` at an offset, with zeros wherever the output is not positive.
///
/// # Safety
/// The floats of the lanes at this offset are within both slices.
#[inline(always)]
unsafe fn masked_gradient<S: Simd>(
    lanes: Lanes<S>,
    dy: &[f32],
    output: Option<&[f32]>,
    at: usize,
) -> S::f32s {
    let simd = lanes.simd;
    // SAFETY: the caller guarantees that the floats can be read.
    unsafe {
        let dy = lanes.load(dy.as_ptr().add(at));
        match output {
            Some(output) => {
                let zero = simd.splat_f32s(0.0);
                let positive = simd.greater_than_f32s(lanes.load(output.as_ptr().add(at)), zero);
                simd.select_f32s(positive, dy, zero)
            }
            None => dy,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::noise;
    use super::super::vector::forced::on_each;
    use super::*;

    #[test]
    fn rows_of_any_width_are_mapped_and_summed() {
        on_each(each_width_of_rows);
    }

    fn each_width_of_rows() {
        for (rows, channels) in [(1, 16), (130, 16), (77, 5), (200, 40), (3, 64)] {
            let count = rows * channels;
            let (x, dy, residual) = (noise(count, 1), noise(count, 2), noise(count, 3));
            let (scale, offset, mean) = (noise(channels, 4), noise(channels, 5), noise(channels, 6));
            let mut y = vec![9.0; count];
            let map = Affine { scale: &scale, offset: &offset, residual: Some(&residual), relu: true };
            apply(&x, map, &mut y);
            let mut masked = vec![9.0; count];
            let backward = gradient_moments(&dy, &x, &mean, Some(&y), Some(&mut masked));
            let mut dx = vec![9.0; count];
            input_gradient(&dy, &x, Some(&y), [&scale, &offset, &mean], &mut dx);
            let forward = moments(&x, &mean);
            let (mut wanted, mut wanted_backward) = (Moments::zero(channels), Moments::zero(channels));
            for index in 0..count {
                let channel = index % channels;
                let expected = (x[index] * scale[channel] + offset[channel] + residual[index]).max(0.0);
                assert!((y[index] - expected).abs() < 1e-6);
                let gradient = if y[index] > 0.0 { dy[index] } else { 0.0 };
                assert_eq!(masked[index], gradient);
                let expected = gradient * scale[channel] + x[index] * offset[channel] + mean[channel];
                assert!((dx[index] - expected).abs() < 1e-6);
                let centred = f64::from(x[index]) - f64::from(mean[channel]);
                wanted.sums[channel] += centred;
                wanted.products[channel] += centred * centred;
                wanted_backward.sums[channel] += f64::from(gradient);
                wanted_backward.products[channel] += f64::from(gradient) * centred;
            }
            for (found, wanted) in [(forward, wanted), (backward, wanted_backward)] {
                let pairs = found.sums.iter().zip(&wanted.sums);
                for (found, wanted) in pairs.chain(found.products.iter().zip(&wanted.products)) {
                    assert!((found - wanted).abs() < 1e-4, "{found} against {wanted}");
                }
            }
        }
    }
}
