//! The conditions of a measurement: load, stolen time, clocks, throttling.
//!
//! Reads what the system offers (`/proc`, `/sys`); values it does not offer are `None`, never guesses.

use serde::{Deserialize, Serialize};

use super::cgroup;
use super::environment::Environment;
use super::gpu::{GpuState, gpu_state};

/// Load before the measurement, as a share of the usable cores, above which a warning is given.
const BUSY: f64 = 0.25;

/// Share of CPU time stolen by the hypervisor above which a warning is given.
const STOLEN: f64 = 0.01;

/// Relative change of the CPU clock above which a warning is given.
const CLOCK_CHANGE: f64 = 0.1;

/// The frequency governor under which a CPU keeps its clock.
const PERFORMANCE: &str = "performance";

/// The state of the machine at one time. Counters start at boot or, for this process's own, at its start.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Snapshot {
    /// Processes that were running or waiting, averaged over a minute.
    pub load_average: f64,
    /// Mean clock of the CPUs.
    pub cpu_mhz: Option<f64>,
    /// Ticks of all CPUs, and those stolen by the hypervisor.
    pub ticks: Option<(u64, u64)>,
    /// Number of times a core was throttled because of heat.
    pub thermal_throttles: Option<u64>,
    /// Number of times this process's control group had used up its CPU quota.
    pub quota_throttles: Option<u64>,
    /// Number of times this process was descheduled from a core.
    pub involuntary_switches: u64,
    pub gpu: Option<GpuState>,
}

impl Snapshot {
    /// Reads the current state.
    pub fn take() -> Self {
        let read = |path: &str| std::fs::read_to_string(path).ok();
        Self {
            load_average: sysinfo::System::load_average().map_or(0.0, |average| average.one),
            cpu_mhz: read("/proc/cpuinfo").as_deref().and_then(mean_mhz),
            ticks: read("/proc/stat").as_deref().and_then(ticks),
            thermal_throttles: thermal_throttles(),
            quota_throttles: cgroup::quota().throttled,
            involuntary_switches: involuntary_switches(),
            gpu: gpu_state(),
        }
    }
}

/// The machine before and after a measurement.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Conditions {
    pub before: Snapshot,
    pub after: Snapshot,
}

impl Conditions {
    /// Share of CPU time stolen by the hypervisor.
    pub fn stolen(&self) -> Option<f64> {
        let ((all, stolen), (all_after, stolen_after)) = (self.before.ticks?, self.after.ticks?);
        let passed = all_after.checked_sub(all).filter(|&passed| passed > 0)?;
        Some(stolen_after.saturating_sub(stolen) as f64 / passed as f64)
    }

    /// Conditions that may have distorted the figures, each with its remedy.
    pub fn warnings(&self, environment: &Environment) -> Vec<String> {
        let mut warnings = Vec::new();
        let (before, after) = (&self.before, &self.after);
        if before.load_average > BUSY * environment.available_threads as f64 {
            let load = before.load_average;
            warnings
                .push(format!("the load average was {load:.2} when the measurement began; stop other work"));
        }
        if let Some(stolen) = self.stolen().filter(|&stolen| stolen > STOLEN) {
            let share = 100.0 * stolen;
            warnings.push(format!(
                "the hypervisor stole {share:.1} % of the CPU time; measure on a dedicated machine"
            ));
        }
        if let Some(governor) = environment.governor.as_deref().filter(|&governor| governor != PERFORMANCE) {
            warnings.push(format!(
                "CPU frequency governor '{governor}'; set it to '{PERFORMANCE}' with cpupower frequency-set"
            ));
        }
        if let (Some(from), Some(to)) = (before.cpu_mhz, after.cpu_mhz)
            && (to / from - 1.0).abs() > CLOCK_CHANGE
        {
            warnings
                .push(format!("the CPU clock went from {from:.0} to {to:.0} MHz; pin it, or measure longer"));
        }
        let grown = |before: Option<u64>, after: Option<u64>| {
            before.zip(after).map(|(before, after)| after.saturating_sub(before)).filter(|&grown| grown > 0)
        };
        if let Some(times) = grown(before.thermal_throttles, after.thermal_throttles) {
            warnings.push(format!("cores were thermally throttled {times} times; cool the machine"));
        }
        if let Some(times) = grown(before.quota_throttles, after.quota_throttles) {
            warnings.push(format!("the CPU quota ran out {times} times; raise it, or use fewer threads"));
        }
        for reason in after.gpu.iter().flat_map(|gpu| &gpu.throttled) {
            warnings.push(format!("the GPU was throttled ({reason}); cool it or lift its power limit"));
        }
        warnings
    }
}

fn mean_mhz(cpuinfo: &str) -> Option<f64> {
    let lines = cpuinfo.lines().filter(|line| line.starts_with("cpu MHz"));
    let clocks: Vec<f64> = lines.filter_map(|line| line.split(':').nth(1)?.trim().parse().ok()).collect();
    (!clocks.is_empty()).then(|| clocks.iter().sum::<f64>() / clocks.len() as f64)
}

/// Total and stolen ticks, from the first line: user, nice, system, idle, iowait, irq, softirq, steal.
fn ticks(stat: &str) -> Option<(u64, u64)> {
    let line = stat.lines().find(|line| line.starts_with("cpu "))?;
    let ticks: Vec<u64> =
        line.split_whitespace().skip(1).take(8).filter_map(|tick| tick.parse().ok()).collect();
    Some((ticks.iter().sum(), *ticks.get(7)?))
}

fn thermal_throttles() -> Option<u64> {
    let count = |cpu: usize| {
        let path = format!("/sys/devices/system/cpu/cpu{cpu}/thermal_throttle/core_throttle_count");
        std::fs::read_to_string(path).ok()?.trim().parse::<u64>().ok()
    };
    (0..).map_while(count).reduce(|sum, count| sum + count)
}

fn involuntary_switches() -> u64 {
    let mut usage = std::mem::MaybeUninit::<libc::rusage>::zeroed();
    // SAFETY: the call fills the structure it is given, which is zeroed beforehand.
    let usage = unsafe {
        libc::getrusage(libc::RUSAGE_SELF, usage.as_mut_ptr());
        usage.assume_init()
    };
    usage.ru_nivcsw.max(0) as u64
}

/// Peak resident memory of this program. `getrusage` would include the memory its parent had before starting
/// it.
pub fn peak_rss_bytes() -> Option<u64> {
    peak(&std::fs::read_to_string("/proc/self/status").ok()?)
}

fn peak(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    Some(line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? * 1_024)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn snapshot() -> Snapshot {
        Snapshot {
            load_average: 0.0,
            cpu_mhz: None,
            ticks: None,
            thermal_throttles: None,
            quota_throttles: None,
            involuntary_switches: 0,
            gpu: None,
        }
    }

    #[test]
    fn files_of_the_system_are_read() {
        assert_eq!(mean_mhz("cpu MHz\t\t: 2000.0\nflags: x\ncpu MHz\t\t: 3000.0\n"), Some(2_500.0));
        assert_eq!(mean_mhz("processor : 0\n"), None);
        assert_eq!(ticks("cpu  10 1 2 80 3 0 1 3 0 0\ncpu0 1\n"), Some((100, 3)));
        assert_eq!(ticks("cpu  10 1\n"), None);
        assert_eq!(peak("VmPeak:\t  9 kB\nVmHWM:\t  2048 kB\n"), Some(2 << 20));
        assert!(peak_rss_bytes().unwrap() > 1 << 20);
    }

    #[test]
    fn what_disturbs_is_named() {
        let mut environment = Environment::read();
        environment.governor = None;
        let quiet = Conditions { before: snapshot(), after: snapshot() };
        assert_eq!(quiet.warnings(&environment), Vec::<String>::new());
        let mut before =
            Snapshot { load_average: 64.0, cpu_mhz: Some(3e3), ticks: Some((100, 0)), ..snapshot() };
        before.thermal_throttles = Some(1);
        before.quota_throttles = Some(4);
        let mut after = Snapshot { cpu_mhz: Some(2e3), ticks: Some((300, 20)), ..snapshot() };
        after.thermal_throttles = Some(3);
        after.quota_throttles = Some(4);
        environment.governor = Some("powersave".into());
        let warnings = Conditions { before, after }.warnings(&environment);
        for (warning, said) in
            warnings.iter().zip(["was 64", "stole 10.0 %", "powersave", "2000 MHz", "throttled 2"])
        {
            assert!(warning.contains(said), "{warning}");
        }
        assert_eq!(warnings.len(), 5);
    }
}
