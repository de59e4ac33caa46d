//! Memory aligned to cache lines: a block of zeros, and scratch memory that a thread keeps between calls.

use std::cell::RefCell;

use super::tiles::{MOST, REACH};
use super::vector::LINE;

/// One cache line of floats.
#[derive(Clone, Copy)]
#[repr(align(64))]
struct Line(#[expect(dead_code, reason = "read through pointers")] [f32; LINE]);

/// Zeros that pixels outside the image are read from: one row of a tile with the maximum number of channels.
#[repr(align(64))]
pub(super) struct Zeros(pub [f32; REACH * MOST]);

pub(super) static ZEROS: Zeros = Zeros([0.0; REACH * MOST]);

/// Floats aligned to a cache line.
pub(super) struct Lines(Vec<Line>);

impl Lines {
    pub fn zeroed(floats: usize) -> Self {
        Self(vec![Line([0.0; LINE]); floats.div_ceil(LINE)])
    }

    pub fn floats(&mut self) -> &mut [f32] {
        // SAFETY: a line consists of sixteen floats and has their size, and the lines of a vector are
        // contiguous; they are borrowed for as long as the slice.
        unsafe { std::slice::from_raw_parts_mut(self.0.as_mut_ptr().cast(), self.0.len() * LINE) }
    }

    pub fn as_floats(&self) -> &[f32] {
        // SAFETY: as in `floats`.
        unsafe { std::slice::from_raw_parts(self.0.as_ptr().cast(), self.0.len() * LINE) }
    }
}

/// Calls `work` with scratch memory that this thread keeps; its contents are unspecified.
pub(super) fn with_scratch<T>(floats: usize, work: impl FnOnce(&mut [f32]) -> T) -> T {
    thread_local! {
        static SCRATCH: RefCell<Lines> = const { RefCell::new(Lines(Vec::new())) };
    }
    SCRATCH.with_borrow_mut(|lines| {
        // In emulation the memory has exactly this size, never the rest of a larger call, so that a sanitizer sees
        // accesses past its end.
        if lines.0.len() * LINE < floats || cfg!(emulated_registers) {
            *lines = Lines::zeroed(floats);
        }
        work(&mut lines.floats()[..floats])
    })
}
