//! The small transforms of Winograd's F(4×4, 3×3), each along one side of a tile, for sixteen channels at a time.
//! The interpolation points are 0, ±1, ±2 and infinity.

use super::vector::{
    __m512, _mm512_add_ps, _mm512_fmadd_ps, _mm512_fnmadd_ps, _mm512_mul_ps, _mm512_set1_ps,
    _mm512_setzero_ps, _mm512_sub_ps, LANES,
};

/// Outputs along a side of a tile.
pub(super) const SIDE: usize = 4;
/// Inputs along a side of a tile.
pub(super) const REACH: usize = 6;
/// Positions in a transformed tile.
pub(super) const PLACES: usize = REACH * REACH;
/// Tiles per block: few enough for the L2 cache, and a multiple of the rows of every kernel in `products`.
pub(super) const BLOCK: usize = 48;
/// Maximum number of channels.
pub(super) const MOST: usize = 128;

/// Stride in floats between the matrices of successive positions of a block: one cache line more than a matrix
/// holds, since strides that are powers of two would map to the same few cache sets.
pub(super) const fn plane(channels: usize) -> usize {
    BLOCK * channels + LANES
}

/// `Bᵀ d` along one side.
#[inline]
#[cfg_attr(not(emulated_avx512), target_feature(enable = "avx512f"))]
pub(super) fn to_places(d: [__m512; REACH]) -> [__m512; REACH] {
    let [two, four, five] = [2.0, 4.0, 5.0].map(|number| _mm512_set1_ps(number));
    let even = _mm512_fnmadd_ps(four, d[2], d[4]);
    let odd = _mm512_fnmadd_ps(four, d[1], d[3]);
    let (near, far) = (_mm512_sub_ps(d[4], d[2]), _mm512_sub_ps(d[3], d[1]));
    [
        _mm512_fmadd_ps(four, d[0], _mm512_fnmadd_ps(five, d[2], d[4])),
        _mm512_add_ps(even, odd),
        _mm512_sub_ps(even, odd),
        _mm512_fmadd_ps(two, far, near),
        _mm512_fnmadd_ps(two, far, near),
        _mm512_fmadd_ps(four, d[1], _mm512_fnmadd_ps(five, d[3], d[5])),
    ]
}

/// `Aᵀ m` along one side.
#[inline]
#[cfg_attr(not(emulated_avx512), target_feature(enable = "avx512f"))]
pub(super) fn to_outputs(m: [__m512; REACH]) -> [__m512; SIDE] {
    let [two, four, eight] = [2.0, 4.0, 8.0].map(|number| _mm512_set1_ps(number));
    let (even, odd) = (_mm512_add_ps(m[1], m[2]), _mm512_sub_ps(m[1], m[2]));
    let (far_even, far_odd) = (_mm512_add_ps(m[3], m[4]), _mm512_sub_ps(m[3], m[4]));
    [
        _mm512_add_ps(_mm512_add_ps(m[0], even), far_even),
        _mm512_fmadd_ps(two, far_odd, odd),
        _mm512_fmadd_ps(four, far_even, even),
        _mm512_add_ps(_mm512_fmadd_ps(eight, far_odd, odd), m[5]),
    ]
}

/// `A y` along one side.
#[inline]
#[cfg_attr(not(emulated_avx512), target_feature(enable = "avx512f"))]
pub(super) fn spread(y: [__m512; SIDE]) -> [__m512; REACH] {
    let [two, four, eight] = [2.0, 4.0, 8.0].map(|number| _mm512_set1_ps(number));
    let (even, odd) = (_mm512_add_ps(y[0], y[2]), _mm512_add_ps(y[1], y[3]));
    let far_even = _mm512_fmadd_ps(four, y[2], y[0]);
    let far_odd = _mm512_fmadd_ps(eight, y[3], _mm512_mul_ps(two, y[1]));
    [
        y[0],
        _mm512_add_ps(even, odd),
        _mm512_sub_ps(even, odd),
        _mm512_add_ps(far_even, far_odd),
        _mm512_sub_ps(far_even, far_odd),
        y[3],
    ]
}

/// `G w` along one side.
#[inline]
#[cfg_attr(not(emulated_avx512), target_feature(enable = "avx512f"))]
pub(super) fn from_filter(w: [__m512; 3]) -> [__m512; REACH] {
    let [quarter, sixth, twelfth, small] =
        [1.0 / 4.0, 1.0 / 6.0, 1.0 / 12.0, 1.0 / 24.0].map(|number| _mm512_set1_ps(number));
    let ends = _mm512_mul_ps(sixth, _mm512_add_ps(w[0], w[2]));
    let middle = _mm512_mul_ps(sixth, w[1]);
    let far = _mm512_fmadd_ps(sixth, w[2], _mm512_mul_ps(small, w[0]));
    let far_middle = _mm512_mul_ps(twelfth, w[1]);
    let zero = _mm512_setzero_ps();
    [
        _mm512_mul_ps(quarter, w[0]),
        _mm512_sub_ps(zero, _mm512_add_ps(ends, middle)),
        _mm512_sub_ps(middle, ends),
        _mm512_add_ps(far, far_middle),
        _mm512_sub_ps(far, far_middle),
        w[2],
    ]
}

/// `Gᵀ u` along one side.
#[inline]
#[cfg_attr(not(emulated_avx512), target_feature(enable = "avx512f"))]
pub(super) fn to_filter(u: [__m512; REACH]) -> [__m512; 3] {
    let [quarter, sixth, twelfth, small] =
        [1.0 / 4.0, 1.0 / 6.0, 1.0 / 12.0, 1.0 / 24.0].map(|number| _mm512_set1_ps(number));
    let (near, near_odd) = (_mm512_add_ps(u[1], u[2]), _mm512_sub_ps(u[2], u[1]));
    let (far, far_odd) = (_mm512_add_ps(u[3], u[4]), _mm512_sub_ps(u[3], u[4]));
    [
        _mm512_fmadd_ps(small, far, _mm512_fnmadd_ps(sixth, near, _mm512_mul_ps(quarter, u[0]))),
        _mm512_fmadd_ps(twelfth, far_odd, _mm512_mul_ps(sixth, near_odd)),
        _mm512_add_ps(_mm512_mul_ps(sixth, _mm512_sub_ps(far, near)), u[5]),
    ]
}
