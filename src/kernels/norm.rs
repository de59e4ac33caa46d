//! Batch normalisation fused with the operations around it: the addition of a shortcut and the ReLU run in the
//! same pass, both forward and backward. Every function reads and writes each image once.

use std::sync::{Mutex, PoisonError};

use super::pool::{Shared, parallel, parts, share};
use super::vector::{
    __m512, __mmask16, _CMP_GT_OQ, _mm512_add_ps, _mm512_cmp_ps_mask, _mm512_fmadd_ps, _mm512_mask_storeu_ps,
    _mm512_maskz_loadu_ps, _mm512_maskz_mov_ps, _mm512_max_ps, _mm512_setzero_ps, _mm512_storeu_ps,
    _mm512_sub_ps, LANES, supported,
};

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

    /// Adds the sums held in one register pair, for the channels from `first` on.
    pub fn add_lanes(&mut self, first: usize, sums: &[f32; LANES], products: &[f32; LANES]) {
        let count = LANES.min(self.sums.len() - first);
        for lane in 0..count {
            self.sums[first + lane] += f64::from(sums[lane]);
            self.products[first + lane] += f64::from(products[lane]);
        }
    }
}

/// Sums of `x - shift` and of its squares over the rows of `x`, `[rows, channels]`.
pub fn moments(x: &[f32], shift: &[f32]) -> Moments {
    assert!(supported() && x.len().is_multiple_of(shift.len()));
    over_rows(x.len(), shift.len(), |rows, moments| {
        // SAFETY: the assertion checked that AVX-512 is available, and `over_rows` passes rows of `x`.
        unsafe { add_moments(x, shift, rows, moments) }
    })
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
    assert!(supported() && x.len().is_multiple_of(channels) && x.len() == y.len());
    assert!(map.offset.len() == channels && map.residual.is_none_or(|residual| residual.len() == x.len()));
    let target = Shared::new(y);
    over_rows(x.len(), channels, |rows, _| {
        // SAFETY: the assertions checked that AVX-512 is available and that the slices have the same size;
        // `over_rows` passes disjoint rows to the parts.
        unsafe { apply_rows(x, map, rows, target) }
    });
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
    assert!(supported() && x.len().is_multiple_of(channels) && dy.len() == x.len());
    assert!(output.is_none_or(|output| output.len() == x.len()));
    assert!(masked.as_ref().is_none_or(|masked| masked.len() == x.len()));
    let masked = masked.map(Shared::new);
    over_rows(x.len(), channels, |rows, moments| {
        // SAFETY: same as in `apply`.
        unsafe { add_gradient_moments(dy, x, mean, output, masked, rows, moments) }
    })
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
    assert!(supported() && x.len().is_multiple_of(channels) && dy.len() == x.len() && dx.len() == x.len());
    assert!(slope.len() == channels && offset.len() == channels);
    assert!(output.is_none_or(|output| output.len() == x.len()));
    let target = Shared::new(dx);
    over_rows(x.len(), channels, |rows, _| {
        // SAFETY: same as in `apply`.
        unsafe { gradient_rows(dy, x, output, [scale, slope, offset], rows, target) }
    });
}

/// Passes blocks of rows to every part and adds up the sums of the parts, in the order of the parts.
fn over_rows(
    floats: usize,
    channels: usize,
    work: impl Fn(std::ops::Range<usize>, &mut Moments) + Sync,
) -> Moments {
    let rows = floats / channels.max(1);
    let parts = parts().min(rows.div_ceil(ROWS)).max(1);
    let found: Vec<_> = (0..parts).map(|_| Mutex::new(Moments::zero(channels))).collect();
    parallel(parts, &|part| {
        let mut moments = Moments::zero(channels);
        let mine = share(rows, part, parts);
        for start in mine.clone().step_by(ROWS) {
            work(start..mine.end.min(start + ROWS), &mut moments);
        }
        *found[part].lock().unwrap_or_else(PoisonError::into_inner) = moments;
    });
    let mut total = Moments::zero(channels);
    for moments in found {
        total.add(&moments.into_inner().unwrap_or_else(PoisonError::into_inner));
    }
    total
}

/// Splits the channels of a row into registers: the first channel of each and the mask of its valid lanes.
fn groups(channels: usize) -> impl Iterator<Item = (usize, __mmask16)> {
    (0..channels).step_by(LANES).map(move |first| {
        let left = channels - first;
        (first, if left >= LANES { !0 } else { (1 << left) - 1 })
    })
}

/// Adds the sums of a range of rows.
///
/// # Safety
/// AVX-512 is available, and the rows are within `x`, `[rows, channels]`.
#[cfg_attr(not(emulated_avx512), target_feature(enable = "avx512f"))]
unsafe fn add_moments(x: &[f32], shift: &[f32], rows: std::ops::Range<usize>, moments: &mut Moments) {
    let channels = shift.len();
    for (first, mask) in groups(channels) {
        let (mut sums, mut squares) = (_mm512_setzero_ps(), _mm512_setzero_ps());
        // SAFETY: accesses are masked to this group's channels, and the caller guarantees that the rows are
        // within `x`.
        unsafe {
            let shift = _mm512_maskz_loadu_ps(mask, shift.as_ptr().add(first));
            for row in rows.clone() {
                let value = _mm512_maskz_loadu_ps(mask, x.as_ptr().add(row * channels + first));
                let value = _mm512_sub_ps(value, shift);
                sums = _mm512_add_ps(sums, value);
                squares = _mm512_fmadd_ps(value, value, squares);
            }
        }
        moments.add_lanes(first, &lanes(sums), &lanes(squares));
    }
}

/// Applies the map to a range of rows.
///
/// # Safety
/// AVX-512 is available, the rows are within `x`, the residual and `y`, and no other part writes them.
#[cfg_attr(not(emulated_avx512), target_feature(enable = "avx512f"))]
unsafe fn apply_rows(x: &[f32], map: Affine<'_>, rows: std::ops::Range<usize>, y: Shared) {
    let channels = map.scale.len();
    let zero = _mm512_setzero_ps();
    for (first, mask) in groups(channels) {
        // SAFETY: accesses are masked to this group's channels, and the caller guarantees that the rows are in
        // range.
        unsafe {
            let load = |slice: &[f32], at: usize| _mm512_maskz_loadu_ps(mask, slice.as_ptr().add(at));
            let (scale, offset) = (load(map.scale, first), load(map.offset, first));
            for row in rows.clone() {
                let at = row * channels + first;
                let mut value = _mm512_fmadd_ps(load(x, at), scale, offset);
                if let Some(residual) = map.residual {
                    value = _mm512_add_ps(value, load(residual, at));
                }
                if map.relu {
                    value = _mm512_max_ps(value, zero);
                }
                _mm512_mask_storeu_ps(y.at(at), mask, value);
            }
        }
    }
}

/// Adds the sums of a range of rows and writes these rows of `masked`.
///
/// # Safety
/// AVX-512 is available, the rows are within all slices, and no other part writes them.
#[cfg_attr(not(emulated_avx512), target_feature(enable = "avx512f"))]
unsafe fn add_gradient_moments(
    dy: &[f32],
    x: &[f32],
    mean: &[f32],
    output: Option<&[f32]>,
    masked: Option<Shared>,
    rows: std::ops::Range<usize>,
    moments: &mut Moments,
) {
    let channels = mean.len();
    for (first, mask) in groups(channels) {
        let (mut sums, mut products) = (_mm512_setzero_ps(), _mm512_setzero_ps());
        // SAFETY: accesses are masked to this group's channels, and the caller guarantees that the rows are in
        // range.
        unsafe {
            let load = |slice: &[f32], at: usize| _mm512_maskz_loadu_ps(mask, slice.as_ptr().add(at));
            let mean = load(mean, first);
            for row in rows.clone() {
                let at = row * channels + first;
                let gradient = masked_gradient(load(dy, at), output.map(|output| load(output, at)));
                if let Some(masked) = masked {
                    _mm512_mask_storeu_ps(masked.at(at), mask, gradient);
                }
                sums = _mm512_add_ps(sums, gradient);
                products = _mm512_fmadd_ps(gradient, _mm512_sub_ps(load(x, at), mean), products);
            }
        }
        moments.add_lanes(first, &lanes(sums), &lanes(products));
    }
}

/// Computes the input gradient of a range of rows.
///
/// # Safety
/// Same as [`add_gradient_moments`].
#[cfg_attr(not(emulated_avx512), target_feature(enable = "avx512f"))]
unsafe fn gradient_rows(
    dy: &[f32],
    x: &[f32],
    output: Option<&[f32]>,
    [scale, slope, offset]: [&[f32]; 3],
    rows: std::ops::Range<usize>,
    dx: Shared,
) {
    let channels = scale.len();
    for (first, mask) in groups(channels) {
        // SAFETY: accesses are masked to this group's channels, and the caller guarantees that the rows are in
        // range.
        unsafe {
            let load = |slice: &[f32], at: usize| _mm512_maskz_loadu_ps(mask, slice.as_ptr().add(at));
            let [scale, slope, offset] = [scale, slope, offset].map(|numbers| load(numbers, first));
            for row in rows.clone() {
                let at = row * channels + first;
                let gradient = masked_gradient(load(dy, at), output.map(|output| load(output, at)));
                let value = _mm512_fmadd_ps(load(x, at), slope, offset);
                _mm512_mask_storeu_ps(dx.at(at), mask, _mm512_fmadd_ps(gradient, scale, value));
            }
        }
    }
}

/// `dy` with zeros wherever the output is not positive.
#[inline]
#[cfg_attr(not(emulated_avx512), target_feature(enable = "avx512f"))]
fn masked_gradient(dy: __m512, output: Option<__m512>) -> __m512 {
    match output {
        Some(output) => {
            let positive = _mm512_cmp_ps_mask::<_CMP_GT_OQ>(output, _mm512_setzero_ps());
            _mm512_maskz_mov_ps(positive, dy)
        }
        None => dy,
    }
}

#[inline]
#[cfg_attr(not(emulated_avx512), target_feature(enable = "avx512f"))]
fn lanes(register: __m512) -> [f32; LANES] {
    let mut lanes = [0.0; LANES];
    // SAFETY: the array has as many floats as the register.
    unsafe { _mm512_storeu_ps(lanes.as_mut_ptr(), register) };
    lanes
}

#[cfg(test)]
mod tests {
    use super::super::noise;
    use super::*;

    #[test]
    fn rows_of_any_width_are_mapped_and_summed() {
        if !supported() {
            return;
        }
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
