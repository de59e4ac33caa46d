//! Which registers the kernels use, and the loads and stores that `pulp`'s instructions leave out.
//!
//! A kernel is written once, for any `pulp::Simd`, and compiled for each kind of register below. With
//! `--cfg emulated_registers` a register is an array and its instructions are loops in plain Rust: the kernels then run on
//! any processor, slowly but with the same results, and a sanitizer sees every float that is read or written.

use pulp::{MemMask, Simd, WithSimd};

/// Floats in a cache line and in the widest register.
pub(super) const LINE: usize = 16;

/// The registers of a processor and the instructions on them.
#[derive(Debug, Clone, Copy)]
pub(super) enum Registers {
    /// Sixteen floats.
    #[cfg(not(emulated_registers))]
    Avx512(pulp::x86::V4),
    /// Eight floats, with fused multiplication and addition.
    #[cfg(not(emulated_registers))]
    Avx2(pulp::x86::V3),
    /// Sixteen floats in an array.
    #[cfg(emulated_registers)]
    Emulated,
}

impl Registers {
    /// All that this machine has, the widest first.
    pub fn all() -> impl Iterator<Item = Self> {
        #[cfg(not(emulated_registers))]
        let all = [pulp::x86::V4::try_new().map(Self::Avx512), pulp::x86::V3::try_new().map(Self::Avx2)];
        #[cfg(emulated_registers)]
        let all = [Some(Self::Emulated)];
        all.into_iter().flatten()
    }

    /// The widest that this machine has.
    pub fn widest() -> Option<Self> {
        #[cfg(test)]
        if let Some(forced) = forced::registers() {
            return Some(forced);
        }
        Self::all().next()
    }

    /// Runs a kernel compiled for these registers.
    pub fn run<K: WithSimd>(self, kernel: K) -> K::Output {
        match self {
            #[cfg(not(emulated_registers))]
            Self::Avx512(simd) => Simd::vectorize(simd, kernel),
            #[cfg(not(emulated_registers))]
            Self::Avx2(simd) => Simd::vectorize(simd, kernel),
            #[cfg(emulated_registers)]
            Self::Emulated => Simd::vectorize(pulp::Scalar512b, kernel),
        }
    }
}

/// The instruction set that the kernels use on this machine, or nothing where it cannot run them.
pub fn instructions() -> Option<&'static str> {
    Some(match Registers::widest()? {
        #[cfg(not(emulated_registers))]
        Registers::Avx512(_) => "AVX-512",
        #[cfg(not(emulated_registers))]
        Registers::Avx2(_) => "AVX2",
        #[cfg(emulated_registers)]
        Registers::Emulated => "emulated registers",
    })
}

/// Whether this machine can run the kernels.
pub fn supported() -> bool {
    Registers::widest().is_some()
}

/// # Safety
/// A register of floats can be read.
#[inline(always)]
pub(super) unsafe fn load<S: Simd>(from: *const f32) -> S::f32s {
    // SAFETY: the caller upholds the same contract.
    unsafe { from.cast::<S::f32s>().read_unaligned() }
}

/// # Safety
/// A register of floats can be written.
#[inline(always)]
pub(super) unsafe fn store<S: Simd>(to: *mut f32, value: S::f32s) {
    // SAFETY: the caller upholds the same contract.
    unsafe { to.cast::<S::f32s>().write_unaligned(value) }
}

/// Lanes of a register: all of them, or those that a mask names.
#[derive(Clone, Copy)]
pub(super) struct Lanes<S: Simd> {
    pub simd: S,
    pub mask: Option<S::m32s>,
}

impl<S: Simd> Lanes<S> {
    /// All lanes.
    #[inline(always)]
    pub fn all(simd: S) -> Self {
        Self { simd, mask: None }
    }

    /// The first `count` lanes.
    #[inline(always)]
    pub fn first(simd: S, count: usize) -> Self {
        Self { simd, mask: Some(simd.mask_between_m32s(0, count as u32).mask()) }
    }

    /// The floats of these lanes, and zeros in the others.
    ///
    /// # Safety
    /// The floats of these lanes can be read.
    #[inline(always)]
    pub unsafe fn load(self, from: *const f32) -> S::f32s {
        // SAFETY: the caller upholds the same contract.
        unsafe {
            match self.mask {
                None => load::<S>(from),
                Some(mask) => self.simd.mask_load_ptr_f32s(MemMask::new(mask), from),
            }
        }
    }

    /// # Safety
    /// The floats of these lanes can be written.
    #[inline(always)]
    pub unsafe fn store(self, to: *mut f32, value: S::f32s) {
        // SAFETY: the caller upholds the same contract.
        unsafe {
            match self.mask {
                None => store::<S>(to, value),
                Some(mask) => self.simd.mask_store_ptr_f32s(MemMask::new(mask), to, value),
            }
        }
    }
}

/// Tests run every kernel on each kind of register that the machine has.
#[cfg(test)]
pub(super) mod forced {
    use std::cell::Cell;

    use super::Registers;

    thread_local! {
        static FORCED: Cell<Option<Registers>> = const { Cell::new(None) };
    }

    pub(in super::super) fn registers() -> Option<Registers> {
        FORCED.get()
    }

    /// Calls `test` once for each kind of register, and fails where there is none.
    pub(in super::super) fn on_each(test: impl Fn()) {
        assert!(Registers::all().next().is_some(), "this machine cannot run the kernels");
        for registers in Registers::all() {
            FORCED.set(Some(registers));
            test();
        }
        FORCED.set(None);
    }
}
