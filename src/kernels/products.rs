//! The matrix products of Winograd convolution: one small product per position of a transformed tile,
//! with the sums in registers over the whole depth.

use super::tiles::{PLACES, plane};
use super::vector::{
    _mm512_add_ps, _mm512_fmadd_ps, _mm512_load_ps, _mm512_set1_ps, _mm512_setzero_ps, _mm512_store_ps, LANES,
};

/// `product = source · filter` at every position: `[rows, K]` by `[K, N]`. The number of rows is rounded up to a
/// multiple of the kernel's.
///
/// # Safety
/// AVX-512 is available. The slices start on cache lines; `source` and `product` hold 36 planes of `K` and `N`
/// channels, `filter` holds `36·K·N` floats; `rows` is at most [`super::tiles::BLOCK`].
#[cfg_attr(not(emulated_avx512), target_feature(enable = "avx512f"))]
pub(super) unsafe fn multiply_places<const K: usize, const N: usize>(
    rows: usize,
    source: &[f32],
    filter: &[f32],
    product: &mut [f32],
) {
    for place in 0..PLACES {
        // SAFETY: the last kernel call stays within the plane, since `BLOCK` is a multiple of every kernel's
        // rows; `N` is a multiple of every kernel's columns, so every call starts on a cache line.
        unsafe {
            let a = source.as_ptr().add(place * plane(K));
            let b = filter.as_ptr().add(place * K * N);
            let c = product.as_mut_ptr().add(place * plane(N));
            let mut row = 0;
            match N {
                16 => {
                    while row < rows {
                        multiply::<24, 1, K, N>(a.add(row * K), b, c.add(row * N));
                        row += 24;
                    }
                }
                32 => {
                    while row < rows {
                        multiply::<12, 2, K, N>(a.add(row * K), b, c.add(row * N));
                        row += 12;
                    }
                }
                _ => {
                    for column in (0..N).step_by(4 * LANES) {
                        row = 0;
                        while row < rows {
                            multiply::<6, 4, K, N>(a.add(row * K), b.add(column), c.add(row * N + column));
                            row += 6;
                        }
                    }
                }
            }
        }
    }
}

/// Computes `R` rows by `V` registers of `[R, K] · [K, N]`, with the sums in registers over the whole depth.
///
/// # Safety
/// AVX-512 is available. `a`, `b` and `c` point to that many rows of the matrices, and `b` and `c` to cache lines.
#[inline]
#[cfg_attr(not(emulated_avx512), target_feature(enable = "avx512f"))]
pub(super) unsafe fn multiply<const R: usize, const V: usize, const K: usize, const N: usize>(
    a: *const f32,
    b: *const f32,
    c: *mut f32,
) {
    // SAFETY: only `R` rows by `V` registers are accessed, which the caller's matrices hold.
    unsafe {
        let mut sums = [[_mm512_setzero_ps(); V]; R];
        for step in 0..K {
            let mut right = [_mm512_setzero_ps(); V];
            for (v, value) in right.iter_mut().enumerate() {
                *value = _mm512_load_ps(b.add(step * N + v * LANES));
            }
            for (row, sums) in sums.iter_mut().enumerate() {
                let left = _mm512_set1_ps(*a.add(row * K + step));
                for (sum, right) in sums.iter_mut().zip(right) {
                    *sum = _mm512_fmadd_ps(left, right, *sum);
                }
            }
        }
        for (row, sums) in sums.into_iter().enumerate() {
            for (v, sum) in sums.into_iter().enumerate() {
                _mm512_store_ps(c.add(row * N + v * LANES), sum);
            }
        }
    }
}

/// `sums += gradientᵀ · source` at every position: `[M, count]` by `[count, N]`.
///
/// # Safety
/// AVX-512 is available. The slices and `sums` start on cache lines; `gradient` and `source` hold 36 planes of
/// `M` and `N` channels, `sums` holds `36·M·N` floats that nothing else uses; `count` is at most
/// [`super::tiles::BLOCK`].
#[cfg_attr(not(emulated_avx512), target_feature(enable = "avx512f"))]
pub(super) unsafe fn add_places<const M: usize, const N: usize>(
    count: usize,
    gradient: &[f32],
    source: &[f32],
    sums: *mut f32,
) {
    for place in 0..PLACES {
        // SAFETY: `M` and `N` are multiples of every kernel's rows and columns, so every kernel call stays
        // within the planes and starts on a cache line.
        unsafe {
            let a = gradient.as_ptr().add(place * plane(M));
            let b = source.as_ptr().add(place * plane(N));
            let c = sums.add(place * M * N);
            match N {
                16 => {
                    for row in (0..M).step_by(16) {
                        multiply_add::<16, 1, M, N>(count, a.add(row), b, c.add(row * N));
                    }
                }
                32 => {
                    for row in (0..M).step_by(8) {
                        multiply_add::<8, 2, M, N>(count, a.add(row), b, c.add(row * N));
                    }
                }
                _ => {
                    for column in (0..N).step_by(4 * LANES) {
                        for row in (0..M).step_by(4) {
                            let (b, c) = (b.add(column), c.add(row * N + column));
                            multiply_add::<4, 4, M, N>(count, a.add(row), b, c);
                        }
                    }
                }
            }
        }
    }
}

/// Computes `R` rows by `V` registers of `c += aᵀ·b`, with `a` `[count, M]`, `b` `[count, N]` and `c` `[M, N]`.
///
/// # Safety
/// Same as [`multiply`]; in addition, nothing else uses `c`.
#[inline]
#[cfg_attr(not(emulated_avx512), target_feature(enable = "avx512f"))]
pub(super) unsafe fn multiply_add<const R: usize, const V: usize, const M: usize, const N: usize>(
    count: usize,
    a: *const f32,
    b: *const f32,
    c: *mut f32,
) {
    // SAFETY: only `R` rows by `V` registers are accessed, which the caller's matrices hold.
    unsafe {
        let mut sums = [[_mm512_setzero_ps(); V]; R];
        for step in 0..count {
            let mut right = [_mm512_setzero_ps(); V];
            for (v, value) in right.iter_mut().enumerate() {
                *value = _mm512_load_ps(b.add(step * N + v * LANES));
            }
            for (row, sums) in sums.iter_mut().enumerate() {
                let left = _mm512_set1_ps(*a.add(step * M + row));
                for (sum, right) in sums.iter_mut().zip(right) {
                    *sum = _mm512_fmadd_ps(left, right, *sum);
                }
            }
        }
        for (row, sums) in sums.into_iter().enumerate() {
            for (v, sum) in sums.into_iter().enumerate() {
                let target = c.add(row * N + v * LANES);
                _mm512_store_ps(target, _mm512_add_ps(sum, _mm512_load_ps(target)));
            }
        }
    }
}
