//! The machine and the libraries on which a measurement depends.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::gpu::{Gpu, gpu};

/// The machine and libraries behind a latency or parity figure.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Environment {
    pub cpu_model: String,
    /// Logical processors of the machine.
    pub processors: usize,
    /// Logical processors that this process may use (affinity mask and cgroup).
    pub available_threads: usize,
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
            governor: governor.ok().map(|text| text.trim().to_string()),
            memory_bytes,
            system: sysinfo::System::long_os_version().unwrap_or_default(),
            gpu: gpu(),
            inter_op_threads: crate::engine::INTER_OP_THREADS,
            spinning: "during a run".into(),
            versions: versions(),
        }
    }

    /// Lists what differs in `other`, each with both values.
    pub fn differences(&self, other: &Self) -> Vec<String> {
        let gpu = |environment: &Self| environment.gpu.as_ref().map_or("none".into(), |gpu| gpu.name.clone());
        let mut pairs = vec![
            ("CPU".to_string(), self.cpu_model.clone(), other.cpu_model.clone()),
            ("cores".into(), self.available_threads.to_string(), other.available_threads.to_string()),
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
