//! From the device a pipeline asks for to the one libtorch uses.

use crate::config::Device;
use crate::error::InputError;

use super::facts::facts;

/// Finds the device to train on. `auto` is the first CUDA device where there is one, else the CPU.
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

/// Blocks up to this size, glibc's largest choice, are taken from the heap and go back to it: a fresh
/// mapping for every tensor would be paid for page by page.
const HEAP_BLOCK_BYTES: libc::c_int = 32 << 20;
/// Free memory at the heap's end that is kept for the next step.
const HEAP_KEPT_BYTES: libc::c_int = 1 << 30;

/// Sets what a process that trains needs before anything runs in it. The same sums come out of every
/// run on the CPU: MKL is asked for its reproducible paths, unless the user's environment says
/// otherwise; it reads this at its first product. And memory is kept from step to step.
///
/// # Safety
/// No other thread may run yet: environment and heap are the whole process's.
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

/// Sets how many threads libtorch uses inside one operation.
pub fn set_threads(threads: usize) {
    tch::set_num_threads(i32::try_from(threads).unwrap_or(1));
}

/// How many threads libtorch uses inside one operation.
pub fn threads() -> usize {
    usize::try_from(tch::get_num_threads()).unwrap_or(1)
}

/// The name of the device a pipeline's choice comes to: `cpu` or `cuda:<index>`.
///
/// # Errors
/// As [`resolve_device`].
pub fn device_name(wanted: Device) -> Result<String, InputError> {
    Ok(match resolve_device(wanted)? {
        tch::Device::Cuda(index) => format!("cuda:{index}"),
        tch::Device::Cpu | tch::Device::Mps | tch::Device::Vulkan => "cpu".into(),
    })
}
