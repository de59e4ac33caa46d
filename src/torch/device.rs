//! Resolves the device that a pipeline asks for to the one that libtorch uses.

use crate::config::Device;
use crate::error::InputError;

use super::facts::facts;

/// Finds the device to train on. `auto` is the first CUDA device if there is one, else the CPU.
///
/// # Errors
/// [`InputError`] if CUDA is asked for and libtorch does not see that device.
pub fn resolve_device(wanted: Device) -> Result<tch::Device, InputError> {
    let facts = facts();
    match wanted {
        Device::Cpu => Ok(tch::Device::Cpu),
        Device::Auto if facts.devices == 0 => Ok(tch::Device::Cpu),
        Device::Auto => Ok(tch::Device::Cuda(0)),
        Device::Cuda(index) if index < facts.devices => Ok(tch::Device::Cuda(index)),
        Device::Cuda(index) => Err(InputError::new(format!(
            "device cuda:{index} was asked for, but libtorch sees {} CUDA devices",
            facts.devices
        ))
        .hint("set `device: cpu` or `auto`, or see `cohort doctor` for what is missing")),
    }
}

/// Blocks up to this size, glibc's largest setting, are taken from the heap and returned to it: a fresh mapping
/// for every tensor would cost a page fault per page.
const HEAP_BLOCK_BYTES: libc::c_int = 32 << 20;
/// Free memory at the end of the heap that is kept for the next step.
const HEAP_KEPT_BYTES: libc::c_int = 1 << 30;

/// Prepares a process that trains, before anything runs in it. Every run on the CPU then computes the same sums:
/// MKL is asked for its reproducible code paths, unless the user's environment sets them; it reads this at its
/// first product. Memory is kept from step to step.
///
/// # Safety
/// No other thread may run yet, because environment and heap belong to the whole process.
pub unsafe fn prepare_process() {
    for (name, value) in [("MKL_CBWR", "AUTO,STRICT"), ("MKL_DYNAMIC", "FALSE")] {
        if std::env::var_os(name).is_none() {
            // SAFETY: the caller's promise.
            unsafe { std::env::set_var(name, value) };
        }
    }
    #[cfg(target_env = "gnu")]
    for (parameter, bytes) in
        [(libc::M_MMAP_THRESHOLD, HEAP_BLOCK_BYTES), (libc::M_TRIM_THRESHOLD, HEAP_KEPT_BYTES)]
    {
        // SAFETY: changes only where memory comes from. A refusal leaves glibc's own choice.
        unsafe { libc::mallopt(parameter, bytes) };
    }
}

/// Sets the number of threads that libtorch uses inside one operation.
pub fn set_threads(threads: usize) {
    tch::set_num_threads(i32::try_from(threads).unwrap_or(1));
}

/// The number of threads that libtorch uses inside one operation.
pub fn threads() -> usize {
    usize::try_from(tch::get_num_threads()).unwrap_or(1)
}

/// The instructions of the program's own kernels, or nothing where training on this CPU goes through libtorch alone.
pub fn kernels() -> Option<&'static str> {
    crate::kernels::instructions()
}

/// The name of the device that a pipeline's setting resolves to: `cpu` or `cuda:<index>`.
///
/// # Errors
/// As [`resolve_device`].
pub fn device_name(wanted: Device) -> Result<String, InputError> {
    Ok(match resolve_device(wanted)? {
        tch::Device::Cuda(index) => format!("cuda:{index}"),
        tch::Device::Cpu | tch::Device::Mps | tch::Device::Vulkan => "cpu".into(),
    })
}
