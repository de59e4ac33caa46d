//! The small transforms of Winograd's F(4×4, 3×3), each along one side of a tile, for a register of
//! channels at a time. The interpolation points are 0, ±1, ±2 and infinity.

use pulp::Simd;

use super::vector::LINE;

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
    BLOCK * channels + LINE
}

/// `Bᵀ d` along one side.
#[inline(always)]
pub(super) fn to_places<S: Simd>(simd: S, d: [S::f32s; REACH]) -> [S::f32s; REACH] {
    let (two, four, five) = (simd.splat_f32s(2.0), simd.splat_f32s(4.0), simd.splat_f32s(5.0));
    let even = simd.negate_mul_add_f32s(four, d[2], d[4]);
    let odd = simd.negate_mul_add_f32s(four, d[1], d[3]);
    let (near, far) = (simd.sub_f32s(d[4], d[2]), simd.sub_f32s(d[3], d[1]));
    [
        simd.mul_add_f32s(four, d[0], simd.negate_mul_add_f32s(five, d[2], d[4])),
        simd.add_f32s(even, odd),
        simd.sub_f32s(even, odd),
        simd.mul_add_f32s(two, far, near),
        simd.negate_mul_add_f32s(two, far, near),
        simd.mul_add_f32s(four, d[1], simd.negate_mul_add_f32s(five, d[3], d[5])),
    ]
}

/// `Aᵀ m` along one side.
#[inline(always)]
pub(super) fn to_outputs<S: Simd>(simd: S, m: [S::f32s; REACH]) -> [S::f32s; SIDE] {
    let (two, four, eight) = (simd.splat_f32s(2.0), simd.splat_f32s(4.0), simd.splat_f32s(8.0));
    let (even, odd) = (simd.add_f32s(m[1], m[2]), simd.sub_f32s(m[1], m[2]));
    let (far_even, far_odd) = (simd.add_f32s(m[3], m[4]), simd.sub_f32s(m[3], m[4]));
    [
        simd.add_f32s(simd.add_f32s(m[0], even), far_even),
        simd.mul_add_f32s(two, far_odd, odd),
        simd.mul_add_f32s(four, far_even, even),
        simd.add_f32s(simd.mul_add_f32s(eight, far_odd, odd), m[5]),
    ]
}

/// `A y` along one side.
#[inline(always)]
pub(super) fn spread<S: Simd>(simd: S, y: [S::f32s; SIDE]) -> [S::f32s; REACH] {
    let (two, four, eight) = (simd.splat_f32s(2.0), simd.splat_f32s(4.0), simd.splat_f32s(8.0));
    let (even, odd) = (simd.add_f32s(y[0], y[2]), simd.add_f32s(y[1], y[3]));
    let far_even = simd.mul_add_f32s(four, y[2], y[0]);
    let far_odd = simd.mul_add_f32s(eight, y[3], simd.mul_f32s(two, y[1]));
    [
        y[0],
        simd.add_f32s(even, odd),
        simd.sub_f32s(even, odd),
        simd.add_f32s(far_even, far_odd),
        simd.sub_f32s(far_even, far_odd),
        y[3],
    ]
}

/// `G w` along one side.
#[inline(always)]
pub(super) fn from_filter<S: Simd>(simd: S, w: [S::f32s; 3]) -> [S::f32s; REACH] {
    let (quarter, sixth, twelfth, small) = (
        simd.splat_f32s(1.0 / 4.0),
        simd.splat_f32s(1.0 / 6.0),
        simd.splat_f32s(1.0 / 12.0),
        simd.splat_f32s(1.0 / 24.0),
    );
    let ends = simd.mul_f32s(sixth, simd.add_f32s(w[0], w[2]));
    let middle = simd.mul_f32s(sixth, w[1]);
    let far = simd.mul_add_f32s(sixth, w[2], simd.mul_f32s(small, w[0]));
    let far_middle = simd.mul_f32s(twelfth, w[1]);
    let zero = simd.splat_f32s(0.0);
    [
        simd.mul_f32s(quarter, w[0]),
        simd.sub_f32s(zero, simd.add_f32s(ends, middle)),
        simd.sub_f32s(middle, ends),
        simd.add_f32s(far, far_middle),
        simd.sub_f32s(far, far_middle),
        w[2],
    ]
}

/// `Gᵀ u` along one side.
#[inline(always)]
pub(super) fn to_filter<S: Simd>(simd: S, u: [S::f32s; REACH]) -> [S::f32s; 3] {
    let (quarter, sixth, twelfth, small) = (
        simd.splat_f32s(1.0 / 4.0),
        simd.splat_f32s(1.0 / 6.0),
        simd.splat_f32s(1.0 / 12.0),
        simd.splat_f32s(1.0 / 24.0),
    );
    let (near, near_odd) = (simd.add_f32s(u[1], u[2]), simd.sub_f32s(u[2], u[1]));
    let (far, far_odd) = (simd.add_f32s(u[3], u[4]), simd.sub_f32s(u[3], u[4]));
    [
        simd.mul_add_f32s(small, far, simd.negate_mul_add_f32s(sixth, near, simd.mul_f32s(quarter, u[0]))),
        simd.mul_add_f32s(twelfth, far_odd, simd.mul_f32s(sixth, near_odd)),
        simd.add_f32s(simd.mul_f32s(sixth, simd.sub_f32s(far, near)), u[5]),
    ]
}
