//! Memory that starts on a cache line: zeros, and what a thread keeps between calls.

use std::cell::RefCell;

use super::tiles::{MOST, REACH};
use super::vector::LANES;

/// A cache line of floats.
#[derive(Clone, Copy)]
#[repr(align(64))]
struct Line(#[expect(dead_code, reason = "read through pointers")] [f32; LANES]);

/// What a pixel outside the image points to.
#[repr(align(64))]
pub(super) struct Zeros(pub [f32; REACH * MOST]);

pub(super) static ZEROS: Zeros = Zeros([0.0; REACH * MOST]);

/// Floats that start on a cache line.
pub(super) struct Lines(Vec<Line>);

impl Lines {
    pub fn zeroed(floats: usize) -> Self {
        Self(vec![Line([0.0; LANES]); floats.div_ceil(LANES)])
    }

    pub fn floats(&mut self) -> &mut [f32] {
        // SAFETY: a line is sixteen floats, its size is their size, and the vector's lines follow each other without gaps; they
        // are borrowed as the slice is.
        unsafe { std::slice::from_raw_parts_mut(self.0.as_mut_ptr().cast(), self.0.len() * LANES) }
    }

    pub fn as_floats(&self) -> &[f32] {
        // SAFETY: as in `floats`.
        unsafe { std::slice::from_raw_parts(self.0.as_ptr().cast(), self.0.len() * LANES) }
    }
}

/// Calls `work` with memory that this thread keeps; what is in it is of no account.
pub(super) fn with_scratch<T>(floats: usize, work: impl FnOnce(&mut [f32]) -> T) -> T {
    thread_local! {
        static SCRATCH: RefCell<Lines> = const { RefCell::new(Lines(Vec::new())) };
    }
    SCRATCH.with_borrow_mut(|lines| {
        // Memory of just this size, and not what a larger call left, shows a sanitizer where it ends.
        if lines.0.len() * LANES < floats || cfg!(emulated_avx512) {
            *lines = Lines::zeroed(floats);
        }
        work(&mut lines.floats()[..floats])
    })
}
