//! Work shared among the threads that libtorch already has.
//!
//! A second pool would fight with libtorch's for the cores: its OpenMP threads wait by spinning. So
//! the parallel region is opened through the OpenMP runtime in the process, by its C interface.

use std::ffi::{c_int, c_uint, c_void};
use std::sync::OnceLock;

/// The part of OpenMP's runtime that is needed, as GCC's and LLVM's runtimes both have it.
struct OpenMp {
    parallel: Parallel,
    thread: Count,
    threads: Count,
    most: Count,
}

type Parallel = unsafe extern "C" fn(unsafe extern "C" fn(*mut c_void), *mut c_void, c_uint, c_uint);
type Count = unsafe extern "C" fn() -> c_int;

fn open_mp() -> Option<&'static OpenMp> {
    static FOUND: OnceLock<Option<OpenMp>> = OnceLock::new();
    FOUND.get_or_init(find).as_ref()
}

fn find() -> Option<OpenMp> {
    let symbol = |name: &std::ffi::CStr| {
        // SAFETY: the name ends with a zero, and looking it up changes nothing.
        let found = unsafe { libc::dlsym(libc::RTLD_DEFAULT, name.as_ptr()) };
        (!found.is_null()).then_some(found)
    };
    let parallel = symbol(c"GOMP_parallel")?;
    let thread = symbol(c"omp_get_thread_num")?;
    let threads = symbol(c"omp_get_num_threads")?;
    let most = symbol(c"omp_get_max_threads")?;
    // SAFETY: found symbols are functions of an OpenMP runtime, and these the signatures that GCC's documents and LLVM's
    // repeats. The library stays loaded: nothing here opened it.
    unsafe {
        Some(OpenMp {
            parallel: std::mem::transmute::<*mut c_void, Parallel>(parallel),
            thread: std::mem::transmute::<*mut c_void, Count>(thread),
            threads: std::mem::transmute::<*mut c_void, Count>(threads),
            most: std::mem::transmute::<*mut c_void, Count>(most),
        })
    }
}

/// How many parts [`parallel`] makes of its work.
pub fn parts() -> usize {
    // SAFETY: the function takes nothing and only reads a setting.
    open_mp().map_or(1, |omp| usize::try_from(unsafe { (omp.most)() }).unwrap_or(1).max(1))
}

/// Calls `work(part)` once for every part below [`parts`], at the same time where there are threads.
/// Which thread does a part changes no result: parts are numbered, not threads.
pub fn parallel(parts: usize, work: &(dyn Fn(usize) + Sync)) {
    let Some(omp) = open_mp().filter(|_| parts > 1) else {
        return (0..parts).for_each(work);
    };
    let region = Region { parts, work, omp };
    // SAFETY: `run` takes the pointer as the `Region` it is. It outlives the call, which returns when every thread has left
    // `run`, and what is in it may be used by several threads: `work` is `Sync`.
    unsafe { (omp.parallel)(run, (&raw const region).cast_mut().cast(), parts as c_uint, 0) }
}

struct Region<'a> {
    parts: usize,
    work: &'a (dyn Fn(usize) + Sync),
    omp: &'static OpenMp,
}

/// What each thread of the region does.
///
/// # Safety
/// `data` points to a [`Region`] that lives until this returns, and the thread is in its parallel region.
unsafe extern "C" fn run(data: *mut c_void) {
    // SAFETY: the caller's promise; nobody writes to it.
    let region = unsafe { &*data.cast::<Region<'_>>() };
    // SAFETY: functions that take nothing; in a parallel region they tell of it.
    let (thread, threads) = unsafe { ((region.omp.thread)(), (region.omp.threads)()) };
    let (thread, threads) = (usize::try_from(thread).unwrap_or(0), usize::try_from(threads).unwrap_or(1));
    (thread..region.parts).step_by(threads.max(1)).for_each(region.work);
}

/// The items of `0..count` that are `part`'s: consecutive, as even as can be.
pub fn share(count: usize, part: usize, parts: usize) -> std::ops::Range<usize> {
    part * count / parts..(part + 1) * count / parts
}

/// A pointer that parts may use at once, each on places of its own.
#[derive(Clone, Copy)]
pub struct Shared(*mut f32);

// SAFETY: the pointer is only ever read from or written to in unsafe blocks, each of which says why no other part uses
// that place.
unsafe impl Send for Shared {}
// SAFETY: as for `Send`.
unsafe impl Sync for Shared {}

impl Shared {
    pub fn new(slice: &mut [f32]) -> Self {
        Self(slice.as_mut_ptr())
    }

    pub fn at(self, offset: usize) -> *mut f32 {
        self.0.wrapping_add(offset)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[test]
    fn every_part_is_done_once() {
        for parts in [1, 2, 3, 7] {
            let done: Vec<AtomicUsize> = (0..parts).map(|_| AtomicUsize::new(0)).collect();
            parallel(parts, &|part| {
                done[part].fetch_add(1, Ordering::Relaxed);
            });
            assert!(done.iter().all(|count| count.load(Ordering::Relaxed) == 1));
        }
        let shares: Vec<usize> = (0..3).flat_map(|part| share(10, part, 3)).collect();
        assert_eq!(shares, (0..10).collect::<Vec<_>>());
    }
}
