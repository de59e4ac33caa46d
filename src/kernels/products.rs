//! The matrix products of Winograd convolution: one small product per position of a transformed tile,
//! with the sums in registers over the whole depth.

#![allow(clippy::needless_range_loop, reason = "rows and columns of small blocks of registers")]

use pulp::Simd;

use super::tiles::{PLACES, plane};
use super::vector::{load, store};

/// `product = source · filter` at every position: `[rows, K]` by `[K, N]`. The number of rows is rounded up to a
/// multiple of the kernel's.
///
/// # Safety
/// `source` and `product` hold 36 planes of `K` and `N` channels, `filter` holds `36·K·N` floats; `rows` is at most
/// [`super::tiles::BLOCK`].
#[inline(always)]
pub(super) unsafe fn multiply_places<S: Simd, const K: usize, const N: usize>(
    simd: S,
    rows: usize,
    source: &[f32],
    filter: &[f32],
    product: &mut [f32],
) {
    for place in 0..PLACES {
        // SAFETY: the last kernel call stays within the plane, since `BLOCK` is a multiple of every kernel's
        // rows; `N` is a multiple of every kernel's columns.
        unsafe {
            let a = source.as_ptr().add(place * plane(K));
            let b = filter.as_ptr().add(place * K * N);
            let c = product.as_mut_ptr().add(place * plane(N));
            // The sums, a row of the filter and one factor fill the registers: 32 of sixteen floats, 16 of eight.
            match (S::F32_LANES, N) {
                (16, 16) => multiply_rows::<S, 24, 1, K, N>(simd, rows, a, b, c),
                (16, 32) => multiply_rows::<S, 12, 2, K, N>(simd, rows, a, b, c),
                (16, _) => multiply_rows::<S, 6, 4, K, N>(simd, rows, a, b, c),
                _ => multiply_rows::<S, 6, 2, K, N>(simd, rows, a, b, c),
            }
        }
    }
}

/// Computes `[rows, K] · [K, N]`, `R` rows by `V` registers at a time; `rows` is rounded up to a multiple of `R`.
///
/// # Safety
/// `a`, `b` and `c` point to that many rows of the matrices, and `N` is a multiple of `V` registers.
#[inline(always)]
unsafe fn multiply_rows<S: Simd, const R: usize, const V: usize, const K: usize, const N: usize>(
    simd: S,
    rows: usize,
    a: *const f32,
    b: *const f32,
    c: *mut f32,
) {
    for column in (0..N).step_by(V * S::F32_LANES) {
        for row in (0..rows).step_by(R) {
            // SAFETY: the caller's matrices hold these rows and columns.
            unsafe { multiply::<S, R, V, K, N>(simd, a.add(row * K), b.add(column), c.add(row * N + column)) }
        }
    }
}

/// Computes `R` rows by `V` registers of `[R, K] · [K, N]`, with the sums in registers over the whole depth.
///
/// # Safety
/// `a`, `b` and `c` point to that many rows of the matrices.
#[inline(always)]
unsafe fn multiply<S: Simd, const R: usize, const V: usize, const K: usize, const N: usize>(
    simd: S,
    a: *const f32,
    b: *const f32,
    c: *mut f32,
) {
    // SAFETY: only `R` rows by `V` registers are accessed, which the caller's matrices hold.
    unsafe {
        let mut sums = [[simd.splat_f32s(0.0); V]; R];
        for step in 0..K {
            let mut right = [simd.splat_f32s(0.0); V];
            for v in 0..V {
                right[v] = load::<S>(b.add(step * N + v * S::F32_LANES));
            }
            for row in 0..R {
                let left = simd.splat_f32s(*a.add(row * K + step));
                for v in 0..V {
                    sums[row][v] = simd.mul_add_f32s(left, right[v], sums[row][v]);
                }
            }
        }
        for row in 0..R {
            for v in 0..V {
                store::<S>(c.add(row * N + v * S::F32_LANES), sums[row][v]);
            }
        }
    }
}

/// `sums += gradientᵀ · source` at every position: `[M, count]` by `[count, N]`.
///
/// # Safety
/// `gradient` and `source` hold 36 planes of `M` and `N` channels, `sums` holds `36·M·N` floats that nothing else uses;
/// `count` is at most [`super::tiles::BLOCK`].
#[inline(always)]
pub(super) unsafe fn add_places<S: Simd, const M: usize, const N: usize>(
    simd: S,
    count: usize,
    gradient: &[f32],
    source: &[f32],
    sums: *mut f32,
) {
    for place in 0..PLACES {
        // SAFETY: `M` and `N` are multiples of every kernel's rows and columns, so every kernel call stays
        // within the planes.
        unsafe {
            let a = gradient.as_ptr().add(place * plane(M));
            let b = source.as_ptr().add(place * plane(N));
            let c = sums.add(place * M * N);
            match (S::F32_LANES, N) {
                (16, 16) => add_rows::<S, 16, 1, M, N>(simd, count, a, b, c),
                (16, 32) => add_rows::<S, 8, 2, M, N>(simd, count, a, b, c),
                (16, _) => add_rows::<S, 4, 4, M, N>(simd, count, a, b, c),
                _ => add_rows::<S, 4, 2, M, N>(simd, count, a, b, c),
            }
        }
    }
}

/// Computes `c += aᵀ·b`, `R` rows by `V` registers at a time.
///
/// # Safety
/// Same as [`multiply_add`], for all `M` rows and `N` columns, which are multiples of `R` and of `V` registers.
#[inline(always)]
unsafe fn add_rows<S: Simd, const R: usize, const V: usize, const M: usize, const N: usize>(
    simd: S,
    count: usize,
    a: *const f32,
    b: *const f32,
    c: *mut f32,
) {
    for column in (0..N).step_by(V * S::F32_LANES) {
        for row in (0..M).step_by(R) {
            // SAFETY: the caller's matrices hold these rows and columns.
            unsafe {
                let (b, c) = (b.add(column), c.add(row * N + column));
                multiply_add::<S, R, V, M, N>(simd, count, a.add(row), b, c);
            }
        }
    }
}

/// Computes `R` rows by `V` registers of `c += aᵀ·b`, with `a` `[count, M]`, `b` `[count, N]` and `c` `[M, N]`.
///
/// # Safety
/// Same as [`multiply`]; in addition, nothing else uses `c`.
#[inline(always)]
unsafe fn multiply_add<S: Simd, const R: usize, const V: usize, const M: usize, const N: usize>(
    simd: S,
    count: usize,
    a: *const f32,
    b: *const f32,
    c: *mut f32,
) {
    // SAFETY: only `R` rows by `V` registers are accessed, which the caller's matrices hold.
    unsafe {
        let mut sums = [[simd.splat_f32s(0.0); V]; R];
        for step in 0..count {
            let mut right = [simd.splat_f32s(0.0); V];
            for v in 0..V {
                right[v] = load::<S>(b.add(step * N + v * S::F32_LANES));
            }
            for row in 0..R {
                let left = simd.splat_f32s(*a.add(step * M + row));
                for v in 0..V {
                    sums[row][v] = simd.mul_add_f32s(left, right[v], sums[row][v]);
                }
            }
        }
        for row in 0..R {
            for v in 0..V {
                let target = c.add(row * N + v * S::F32_LANES);
                store::<S>(target, simd.add_f32s(sums[row][v], load::<S>(target)));
            }
        }
    }
}
