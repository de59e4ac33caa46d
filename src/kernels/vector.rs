//! AVX-512 registers of sixteen floats and the instructions on them.
//!
//! With `--cfg emulated_avx512` the same functions are loops over the lanes in plain Rust. The kernels then run
//! on any processor, slowly but with the same results, and a sanitizer sees every float that is read or
//! written.

#[cfg(not(emulated_avx512))]
pub(super) use std::arch::x86_64::{
    __m512, __mmask16, _CMP_GT_OQ, _mm512_add_ps, _mm512_cmp_ps_mask, _mm512_fmadd_ps, _mm512_fnmadd_ps,
    _mm512_load_ps, _mm512_loadu_ps, _mm512_mask_storeu_ps, _mm512_maskz_loadu_ps, _mm512_maskz_mov_ps,
    _mm512_max_ps, _mm512_mul_ps, _mm512_set1_ps, _mm512_setzero_ps, _mm512_store_ps, _mm512_storeu_ps,
    _mm512_sub_ps,
};

#[cfg(emulated_avx512)]
pub(super) use emulated::*;

/// Floats in a register.
pub(super) const LANES: usize = 16;

/// Whether this machine can run the kernels.
pub fn supported() -> bool {
    cfg!(emulated_avx512) || std::is_x86_feature_detected!("avx512f")
}

/// Functions with the names and behaviour of `std::arch`, which documents them.
#[cfg(emulated_avx512)]
#[expect(non_camel_case_types, reason = "the names of `std::arch`")]
mod emulated {
    use std::array::from_fn;

    use super::LANES;

    #[derive(Clone, Copy)]
    pub struct __m512([f32; LANES]);

    pub type __mmask16 = u16;

    pub const _CMP_GT_OQ: i32 = 30;

    fn is_set(mask: __mmask16, lane: usize) -> bool {
        mask >> lane & 1 == 1
    }

    pub fn _mm512_setzero_ps() -> __m512 {
        __m512([0.0; LANES])
    }

    pub fn _mm512_set1_ps(value: f32) -> __m512 {
        __m512([value; LANES])
    }

    pub fn _mm512_add_ps(a: __m512, b: __m512) -> __m512 {
        __m512(from_fn(|lane| a.0[lane] + b.0[lane]))
    }

    pub fn _mm512_sub_ps(a: __m512, b: __m512) -> __m512 {
        __m512(from_fn(|lane| a.0[lane] - b.0[lane]))
    }

    pub fn _mm512_mul_ps(a: __m512, b: __m512) -> __m512 {
        __m512(from_fn(|lane| a.0[lane] * b.0[lane]))
    }

    /// The lane of `b` if either operand is NaN or both are zero.
    pub fn _mm512_max_ps(a: __m512, b: __m512) -> __m512 {
        __m512(from_fn(|lane| if a.0[lane] > b.0[lane] { a.0[lane] } else { b.0[lane] }))
    }

    pub fn _mm512_fmadd_ps(a: __m512, b: __m512, c: __m512) -> __m512 {
        __m512(from_fn(|lane| a.0[lane].mul_add(b.0[lane], c.0[lane])))
    }

    pub fn _mm512_fnmadd_ps(a: __m512, b: __m512, c: __m512) -> __m512 {
        __m512(from_fn(|lane| (-a.0[lane]).mul_add(b.0[lane], c.0[lane])))
    }

    pub fn _mm512_cmp_ps_mask<const PREDICATE: i32>(a: __m512, b: __m512) -> __mmask16 {
        const { assert!(PREDICATE == _CMP_GT_OQ) }
        (0..LANES).map(|lane| u16::from(a.0[lane] > b.0[lane]) << lane).sum()
    }

    pub fn _mm512_maskz_mov_ps(mask: __mmask16, a: __m512) -> __m512 {
        __m512(from_fn(|lane| if is_set(mask, lane) { a.0[lane] } else { 0.0 }))
    }

    /// # Safety
    /// The floats selected by the mask can be read.
    pub unsafe fn _mm512_maskz_loadu_ps(mask: __mmask16, from: *const f32) -> __m512 {
        // SAFETY: only floats selected by the mask are read, which the caller guarantees to be readable.
        __m512(from_fn(|lane| if is_set(mask, lane) { unsafe { *from.add(lane) } } else { 0.0 }))
    }

    /// # Safety
    /// Sixteen floats can be read.
    pub unsafe fn _mm512_loadu_ps(from: *const f32) -> __m512 {
        // SAFETY: the caller upholds the same contract.
        unsafe { _mm512_maskz_loadu_ps(!0, from) }
    }

    /// # Safety
    /// Same as [`_mm512_loadu_ps`].
    pub unsafe fn _mm512_load_ps(from: *const f32) -> __m512 {
        assert!(from.addr().is_multiple_of(64), "an aligned load from {from:?}");
        // SAFETY: the caller upholds the same contract.
        unsafe { _mm512_loadu_ps(from) }
    }

    /// # Safety
    /// The floats selected by the mask can be written.
    pub unsafe fn _mm512_mask_storeu_ps(to: *mut f32, mask: __mmask16, a: __m512) {
        for lane in (0..LANES).filter(|&lane| is_set(mask, lane)) {
            // SAFETY: only floats selected by the mask are written, which the caller guarantees to be writable.
            unsafe { *to.add(lane) = a.0[lane] }
        }
    }

    /// # Safety
    /// Sixteen floats can be written.
    pub unsafe fn _mm512_storeu_ps(to: *mut f32, a: __m512) {
        // SAFETY: the caller upholds the same contract.
        unsafe { _mm512_mask_storeu_ps(to, !0, a) }
    }

    /// # Safety
    /// Same as [`_mm512_storeu_ps`].
    pub unsafe fn _mm512_store_ps(to: *mut f32, a: __m512) {
        assert!(to.addr().is_multiple_of(64), "an aligned store to {to:?}");
        // SAFETY: the caller upholds the same contract.
        unsafe { _mm512_storeu_ps(to, a) }
    }
}
