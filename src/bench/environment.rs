//! The machine and the libraries on which a measurement depends.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::cgroup;
use super::gpu::{Gpu, gpu};

/// The machine and libraries behind a latency or parity figure.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Environment {
    pub cpu_model: String,
    /// Logical processors of the machine.
    pub processors: usize,
    /// Logical processors that this process may use (affinity mask, CPU set and quota).
    pub available_threads: usize,
    /// The processors that the affinity mask and the CPU set of a container leave, such as `0-3,8`, where the system says so.
    pub cpu_set: Option<String>,
    /// CPU time that a container's quota allows, in cores; `None` without a quota.
    pub cpu_quota: Option<f64>,
    /// CPU frequency governor, where the system reports one.
    pub governor: Option<String>,
    pub memory_bytes: u64,
    pub system: String,
    pub gpu: Option<Gpu>,
    /// Inter-op threads of ONNX Runtime; intra-op threads are a setting.
    pub inter_op_threads: usize,
    /// When ONNX Runtime's idle threads spin: during a run, as by its default, and not between runs.
    pub spinning: String,
    /// Version of each library.
    pub versions: BTreeMap<String, String>,
}

impl Environment {
    /// Reads the machine and the libraries.
    pub fn read() -> Self {
        let (mut cpu_model, mut processors, mut memory_bytes) = (String::new(), 0, 0);
        if let Ok(mut system) = sysinfo::System::new() {
            system.refresh_cpu_all();
            system.refresh_memory();
            cpu_model = system.cpus().first().map(|cpu| cpu.brand().trim().to_string()).unwrap_or_default();
            processors = system.cpus().len();
            memory_bytes = system.total_memory();
        }
        let governor = std::fs::read_to_string("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor");
        Self {
            cpu_model,
            processors,
            available_threads: usable_threads(),
            cpu_set: cpu_set(),
            cpu_quota: cgroup::quota().cores,
            governor: governor.ok().map(|text| text.trim().to_string()),
            memory_bytes,
            system: sysinfo::System::long_os_version().unwrap_or_default(),
            gpu: gpu(),
            inter_op_threads: crate::engine::INTER_OP_THREADS,
            spinning: "during a run".into(),
            versions: versions(),
        }
    }

    /// How much of the machine's CPUs this process may use, in a few words.
    pub fn cpus(&self) -> String {
        let Self { available_threads, processors, .. } = self;
        let set = self.cpu_set.as_ref().filter(|set| members(set).is_some_and(|count| count < *processors));
        let set = set.map_or(String::new(), |set| format!(", CPU set {set}"));
        let quota = self.cpu_quota.map_or(String::new(), |cores| format!(", a quota of {cores:.2} cores"));
        format!("{available_threads} of {processors} processors{set}{quota}")
    }

    /// A warning about cells whose threads cannot all run at once.
    pub(super) fn oversubscribed(&self, threads: &[usize]) -> Vec<String> {
        let most = threads.iter().copied().max().unwrap_or(1);
        let most = if threads.contains(&0) { most.max(self.available_threads) } else { most };
        let allowed = self.cpu_set.as_deref().and_then(members).unwrap_or(self.available_threads);
        let mut warnings = Vec::new();
        if most > allowed {
            warnings.push(format!(
                "{most} threads share {allowed} processors and wait for each other; measure fewer"
            ));
        }
        if let Some(cores) = self.cpu_quota.filter(|&cores| most as f64 > cores) {
            warnings.push(format!(
                "{most} threads have a quota of {cores:.2} cores and pause whenever it is used up, which the percentiles show; raise \
                 it, or measure fewer"
            ));
        }
        warnings
    }

    /// Lists what differs in `other`, each with both values.
    pub fn differences(&self, other: &Self) -> Vec<String> {
        let gpu = |environment: &Self| environment.gpu.as_ref().map_or("none".into(), |gpu| gpu.name.clone());
        let mut pairs = vec![
            ("CPU".to_string(), self.cpu_model.clone(), other.cpu_model.clone()),
            ("CPUs".into(), self.cpus(), other.cpus()),
            ("GPU".into(), gpu(self), gpu(other)),
        ];
        for (library, version) in &self.versions {
            let now = other.versions.get(library).cloned().unwrap_or_else(|| "none".into());
            pairs.push((library.clone(), version.clone(), now));
        }
        let differing = pairs.into_iter().filter(|(_, then, now)| then != now);
        differing.map(|(what, then, now)| format!("{what} was {then}, is {now}")).collect()
    }
}

/// The processors on which this process may run.
fn cpu_set() -> Option<String> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    Some(status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"))?.trim().to_string())
}

/// How many processors a list such as `0-3,8` has.
fn members(set: &str) -> Option<usize> {
    let count = |range: &str| match range.split_once('-') {
        Some((first, last)) => Some(last.parse::<usize>().ok()?.checked_sub(first.parse().ok()?)? + 1),
        None => range.parse::<usize>().ok().map(|_| 1),
    };
    set.split(',').map(count).sum()
}

/// Number of threads that this process may use at once.
pub fn usable_threads() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

fn versions() -> BTreeMap<String, String> {
    let mut versions = BTreeMap::from([
        ("cohort".to_string(), env!("CARGO_PKG_VERSION").to_string()),
        ("tract".to_string(), env!("COHORT_TRACT_VERSION").to_string()),
    ]);
    if let Ok(facts) = crate::engine::ort::facts() {
        versions.insert("onnxruntime".to_string(), facts.version);
    }
    #[cfg(feature = "train")]
    versions.insert("libtorch".to_string(), crate::torch::facts().version);
    versions
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_container_leaves_is_named() {
        let mut environment = Environment { processors: 16, available_threads: 2, ..Environment::read() };
        environment.cpu_set = Some("0-3,8".into());
        environment.cpu_quota = Some(1.5);
        assert_eq!(environment.cpus(), "2 of 16 processors, CPU set 0-3,8, a quota of 1.50 cores");
        assert_eq!(environment.oversubscribed(&[1]), Vec::<String>::new());
        let [quota] = &environment.oversubscribed(&[1, 0])[..] else { panic!("one warning") };
        assert!(quota.contains("2 threads have a quota of 1.50 cores"), "{quota}");
        let both = environment.oversubscribed(&[6]);
        assert!(both.len() == 2 && both[0].contains("6 threads share 5 processors"), "{both:?}");
        environment.cpu_set = None;
        environment.cpu_quota = None;
        assert_eq!(environment.cpus(), "2 of 16 processors");
        assert_eq!(environment.oversubscribed(&[3]).len(), 1);
    }
}
