//! The NVIDIA driver's report on the first GPU. The driver's library is opened at run time; if it is missing,
//! no GPU is reported.

use std::sync::OnceLock;

use nvml_wrapper::bitmasks::device::ThrottleReasons;
use nvml_wrapper::enum_wrappers::device::{Clock, TemperatureSensor};
use nvml_wrapper::enums::device::UsedGpuMemory;
use nvml_wrapper::{Device, Nvml};
use serde::{Deserialize, Serialize};

/// The library's name as drivers install it.
const LIBRARY: &str = "libnvidia-ml.so.1";

/// Index of the GPU that the CUDA provider uses.
const DEVICE: u32 = 0;

/// Identifies the GPU.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Gpu {
    pub name: String,
    pub driver: String,
    /// The newest CUDA version that the driver supports, such as `13.0`.
    pub cuda: String,
    pub memory_bytes: Option<u64>,
}

/// The GPU's state at one time.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct GpuState {
    pub graphics_mhz: Option<u32>,
    pub memory_mhz: Option<u32>,
    pub temperature_celsius: Option<u32>,
    pub power_watts: Option<f64>,
    /// Reasons for which the clocks are held down, except for idleness and clock settings.
    pub throttled: Vec<String>,
}

fn device() -> Option<Device<'static>> {
    static NVML: OnceLock<Option<Nvml>> = OnceLock::new();
    let nvml = NVML.get_or_init(|| Nvml::builder().lib_path(LIBRARY.as_ref()).init().ok());
    nvml.as_ref()?.device_by_index(DEVICE).ok()
}

/// The first GPU, if there is one.
pub fn gpu() -> Option<Gpu> {
    let device = device()?;
    let cuda = device.nvml().sys_cuda_driver_version().unwrap_or_default();
    Some(Gpu {
        name: device.name().ok()?,
        driver: device.nvml().sys_driver_version().unwrap_or_default(),
        cuda: format!("{}.{}", cuda / 1_000, cuda % 1_000 / 10),
        memory_bytes: device.memory_info().ok().map(|memory| memory.total),
    })
}

/// The first GPU's current clocks, temperature, power and throttling.
pub fn gpu_state() -> Option<GpuState> {
    let device = device()?;
    let slowed = [
        (ThrottleReasons::HW_SLOWDOWN, "hardware slowdown"),
        (ThrottleReasons::HW_THERMAL_SLOWDOWN, "hardware thermal slowdown"),
        (ThrottleReasons::SW_THERMAL_SLOWDOWN, "software thermal slowdown"),
        (ThrottleReasons::HW_POWER_BRAKE_SLOWDOWN, "power brake"),
        (ThrottleReasons::SW_POWER_CAP, "power cap"),
    ];
    let reasons = device.current_throttle_reasons().unwrap_or(ThrottleReasons::empty());
    let throttled = slowed.into_iter().filter(|(reason, _)| reasons.contains(*reason));
    Some(GpuState {
        graphics_mhz: device.clock_info(Clock::Graphics).ok(),
        memory_mhz: device.clock_info(Clock::Memory).ok(),
        temperature_celsius: device.temperature(TemperatureSensor::Gpu).ok(),
        power_watts: device.power_usage().ok().map(|milliwatts| f64::from(milliwatts) * 1e-3),
        throttled: throttled.map(|(_, name)| name.to_string()).collect(),
    })
}

/// GPU memory in use at one time, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GpuMemory {
    /// Memory of this process; `None` before it has used the GPU, and where the driver cannot tell processes
    /// apart, as in a container.
    own: Option<u64>,
    /// Memory of all processes.
    all: u64,
}

/// GPU memory in use now.
pub fn gpu_memory() -> Option<GpuMemory> {
    let device = device()?;
    let own = device.running_compute_processes().ok().into_iter().flatten();
    let own = own.filter(|process| process.pid == std::process::id());
    let bytes = own.filter_map(|process| match process.used_gpu_memory {
        UsedGpuMemory::Used(bytes) => Some(bytes),
        UsedGpuMemory::Unavailable => None,
    });
    Some(GpuMemory { own: bytes.reduce(|sum, bytes| sum + bytes), all: device.memory_info().ok()?.used })
}

/// Bytes in use at successive times, all by one measure: this process's if it is known at the end, else that of
/// all processes.
pub fn bytes_by_one_measure<const N: usize>(moments: [Option<GpuMemory>; N]) -> Option<[u64; N]> {
    let own = moments.last().copied().flatten()?.own.is_some();
    let mut bytes = [0; N];
    for (bytes, moment) in bytes.iter_mut().zip(moments) {
        let GpuMemory { own: mine, all } = moment?;
        *bytes = if own { mine.unwrap_or(0) } else { all };
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_measures_are_never_mixed() {
        let moment = |own, all| Some(GpuMemory { own, all });
        let told_apart = [moment(None, 900), moment(Some(100), 1_000), moment(Some(150), 1_050)];
        assert_eq!(bytes_by_one_measure(told_apart), Some([0, 100, 150]));
        let container = [moment(None, 900), moment(None, 1_000), moment(None, 1_050)];
        assert_eq!(bytes_by_one_measure(container), Some([900, 1_000, 1_050]));
        assert_eq!(bytes_by_one_measure([None, None, None]), None);
    }
}
