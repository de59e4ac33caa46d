//! Distributes work over the threads that libtorch already has.
//!
//! A second thread pool would compete with libtorch's for the cores, because its OpenMP threads spin while they
//! wait. The parallel region is therefore opened through the C interface of the OpenMP runtime that the process
//! has loaded.

use std::ffi::{c_int, c_uint, c_void};
use std::sync::OnceLock;

/// The required subset of the OpenMP runtime, which both GCC's and LLVM's runtimes provide.
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
        // SAFETY: the name is zero-terminated, and looking it up has no side effects.
        let found = unsafe { libc::dlsym(libc::RTLD_DEFAULT, name.as_ptr()) };
        (!found.is_null()).then_some(found)
    };
    let parallel = symbol(c"GOMP_parallel")?;
    let thread = symbol(c"omp_get_thread_num")?;
    let threads = symbol(c"omp_get_num_threads")?;
    let most = symbol(c"omp_get_max_threads")?;
    // SAFETY: the symbols are functions of an OpenMP runtime, with the signatures that GCC's documents and
    // LLVM's repeats. The library stays loaded, because nothing here opened it.
    unsafe {
        Some(OpenMp {
            parallel: std::mem::transmute::<*mut c_void, Parallel>(parallel),
            thread: std::mem::transmute::<*mut c_void, Count>(thread),
            threads: std::mem::transmute::<*mut c_void, Count>(threads),
            most: std::mem::transmute::<*mut c_void, Count>(most),
        })
    }
}

/// Number of parts to split the work of [`parallel`] into: OpenMP's maximum number of threads.
pub fn parts() -> usize {
    // SAFETY: the function takes nothing and only reads a setting.
    open_mp().map_or(1, |omp| usize::try_from(unsafe { (omp.most)() }).unwrap_or(1).max(1))
}

/// Calls `work(part)` once for every part below `parts`, in parallel if there are threads.
/// No result depends on which thread runs a part, because parts are numbered and threads are not.
pub fn parallel(parts: usize, work: &(dyn Fn(usize) + Sync)) {
    let Some(omp) = open_mp().filter(|_| parts > 1) else {
        return (0..parts).for_each(work);
    };
    let region = Region { parts, work, omp };
    // SAFETY: `run` casts the pointer back to the `Region` it points to. The region outlives the call, which
    // returns when every thread has left `run`, and several threads may use its contents, since `work` is
    // `Sync`.
    unsafe { (omp.parallel)(run, (&raw const region).cast_mut().cast(), parts as c_uint, 0) }
}

struct Region<'a> {
    parts: usize,
    work: &'a (dyn Fn(usize) + Sync),
    omp: &'static OpenMp,
}

/// Runs one thread's parts of the region.
///
/// # Safety
/// `data` points to a [`Region`] that lives until this returns, and the thread is in its parallel region.
unsafe extern "C" fn run(data: *mut c_void) {
    // SAFETY: the caller guarantees that the pointer is valid, and nothing writes to the region.
    let region = unsafe { &*data.cast::<Region<'_>>() };
    // SAFETY: the functions take no arguments, and in a parallel region they describe it.
    let (thread, threads) = unsafe { ((region.omp.thread)(), (region.omp.threads)()) };
    let (thread, threads) = (usize::try_from(thread).unwrap_or(0), usize::try_from(threads).unwrap_or(1));
    (thread..region.parts).step_by(threads.max(1)).for_each(region.work);
}

/// The items of `0..count` that belong to `part`: consecutive, and split as evenly as possible.
pub fn share(count: usize, part: usize, parts: usize) -> std::ops::Range<usize> {
    part * count / parts..(part + 1) * count / parts
}

/// A pointer that parts may use concurrently, each at its own offsets.
#[derive(Clone, Copy)]
pub struct Shared(*mut f32);

// SAFETY: the pointer is dereferenced only in unsafe blocks, each of which states why no other part uses the same
// offset.
unsafe impl Send for Shared {}
// SAFETY: same as for `Send`.
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
