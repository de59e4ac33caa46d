//! The stage `bench`: what is measured, for how long, and which budgets must hold.

use serde::{Deserialize, Serialize};

use super::budget::Budget;
use super::measured::{EngineName, Mode};

/// Settings of the stage that measures latency.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Bench {
    pub engines: Vec<EngineName>,
    /// Batch sizes.
    pub batch: Vec<usize>,
    /// Intra-op threads; each count is a separate row. 0 uses all cores available to the process.
    pub threads: Vec<usize>,
    /// The timed regions; each is a separate row.
    pub modes: Vec<Mode>,
    /// How queries arrive.
    pub scenarios: Vec<Scenario>,
    /// Minimum runs per cell.
    pub min_samples: usize,
    /// Minimum seconds per cell.
    pub min_seconds: f64,
    /// Maximum seconds per cell.
    pub max_seconds: f64,
    /// Query rates of the scenario `server`, in queries per second; each is a separate row.
    pub rates: Vec<f64>,
    /// Target of the scenario `server`: searches for the highest rate at which the 99th percentile of
    /// latency, including the time in the queue, stays below this many milliseconds.
    pub p99_target_ms: Option<f64>,
    /// Fresh processes per cell whose start is timed; 0 times none.
    pub cold_starts: usize,
    /// Whether memory is measured, in a fresh process per cell.
    pub memory: bool,
    /// Whether each cell is afterwards run under the runtime's profiler, for the time per node.
    pub profile: bool,
    /// Budgets that must hold, otherwise the stage fails, such as `ort-cpu:p95<2ms@1`.
    pub budgets: Vec<Budget>,
    /// Whether a cell whose latency drifted makes the stage fail.
    pub strict: bool,
    /// How the CUDA provider is set up.
    pub cuda: CudaSettings,
}

impl Default for Bench {
    fn default() -> Self {
        Self {
            engines: vec![EngineName::OrtCpu, EngineName::Tract],
            batch: vec![1, 8],
            threads: vec![1],
            modes: vec![Mode::Device],
            scenarios: vec![Scenario::SingleStream],
            min_samples: 1_000,
            min_seconds: 5.0,
            max_seconds: 30.0,
            rates: Vec::new(),
            p99_target_ms: None,
            cold_starts: 0,
            memory: false,
            profile: false,
            budgets: Vec::new(),
            strict: false,
            cuda: CudaSettings::default(),
        }
    }
}

/// A setting that is out of range.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutOfRange {
    pub key: &'static str,
    pub found: String,
    pub expected: &'static str,
}

impl Bench {
    /// Every setting that is out of range, in the order of the keys.
    pub fn out_of_range(&self) -> Vec<OutOfRange> {
        let mut found = Vec::new();
        let mut require = |key, holds: bool, value: String, expected| {
            if !holds {
                found.push(OutOfRange { key, found: value, expected });
            }
        };
        let within = |list: &[usize], least: usize, most: usize| {
            !list.is_empty() && list.iter().all(|number| (least..=most).contains(number))
        };
        let positive = |number: f64| number > 0.0 && number.is_finite();
        let batches = within(&self.batch, 1, 65_536);
        require("batch", batches, format!("{:?}", self.batch), "sizes from 1 to 65536");
        let threads = within(&self.threads, 0, 1_024);
        require("threads", threads, format!("{:?}", self.threads), "counts from 0 (all cores) to 1024");
        require("modes", !self.modes.is_empty(), "an empty list".into(), "at least one mode");
        require("scenarios", !self.scenarios.is_empty(), "an empty list".into(), "at least one scenario");
        let samples = (1..=1_000_000).contains(&self.min_samples);
        require("min_samples", samples, self.min_samples.to_string(), "a whole number from 1 to 1000000");
        let least = self.min_seconds >= 0.0 && self.min_seconds.is_finite();
        require("min_seconds", least, self.min_seconds.to_string(), "a number from 0");
        let most = self.max_seconds >= self.min_seconds && positive(self.max_seconds);
        require("max_seconds", most, self.max_seconds.to_string(), "at least min_seconds, and above 0");
        let rates = self.rates.iter().all(|&rate| positive(rate));
        require("rates", rates, format!("{:?}", self.rates), "queries per second, above 0");
        let target = self.p99_target_ms.is_none_or(positive);
        let value = self.p99_target_ms.unwrap_or_default().to_string();
        require("p99_target_ms", target, value, "milliseconds above 0");
        let server = !self.scenarios.contains(&Scenario::Server);
        let given = server || !self.rates.is_empty() || self.p99_target_ms.is_some();
        require("scenarios", given, "server alone".into(), "rates or p99_target_ms with it");
        let on_cuda = self.engines.contains(&EngineName::OrtCuda);
        let replayed = self.modes == [Mode::Device] && self.scenarios == [Scenario::SingleStream];
        let modes: Vec<&str> = self.modes.iter().map(|mode| mode.key()).collect();
        let value = format!("{} with a CUDA graph", modes.join(", "));
        let expected = "device, single-stream: a CUDA graph replays fixed memory addresses";
        require("modes", replayed || !(self.cuda.graph && on_cuda), value, expected);
        let expected = "other engines: CUDA nodes are timed at their launch, not while they run";
        require("profile", !(self.profile && on_cuda), "ort-cuda".into(), expected);
        let starts = self.cold_starts == 0 || (5..=1_000).contains(&self.cold_starts);
        require("cold_starts", starts, self.cold_starts.to_string(), "0, or from 5 to 1000");
        found
    }
}

/// How queries arrive, modelled on MLPerf Inference's load generator (Reddi et al. 2020, arXiv 1911.02549),
/// but with fewer queries and none of its compliance rules, so results are called `-like`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Scenario {
    /// The next query is issued when the last is answered: measures latency.
    SingleStream,
    /// All images are available at once: measures throughput.
    Offline,
    /// Queries arrive at random (Poisson process): measures latency including the time in the queue.
    Server,
}

impl Scenario {
    pub const ALL: [Self; 3] = [Self::SingleStream, Self::Offline, Self::Server];

    /// Name in a pipeline and on the command line.
    pub fn key(self) -> &'static str {
        match self {
            Scenario::SingleStream => "single-stream",
            Scenario::Offline => "offline",
            Scenario::Server => "server",
        }
    }
}

/// Settings of the CUDA provider, all of which affect its latency.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CudaSettings {
    pub conv_search: ConvSearch,
    /// Whether float32 products may be computed in TF32.
    pub tf32: bool,
    /// Whether a run is recorded once as a CUDA graph and then replayed.
    pub graph: bool,
}

/// How cuDNN's convolution algorithms are chosen. Since ONNX Runtime 1.20 none are timed, whatever the names
/// suggest: they stand for modes of cuDNN's heuristics
/// (<https://github.com/microsoft/onnxruntime/issues/22705>).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ConvSearch {
    /// The thorough mode (B).
    #[default]
    Exhaustive,
    /// The quick mode (A).
    Heuristic,
    /// cuDNN's fallback, which may be slow.
    Default,
}

impl ConvSearch {
    pub const ALL: [Self; 3] = [Self::Exhaustive, Self::Heuristic, Self::Default];

    /// Name in a pipeline and on the command line.
    pub fn key(self) -> &'static str {
        match self {
            ConvSearch::Exhaustive => "exhaustive",
            ConvSearch::Heuristic => "heuristic",
            ConvSearch::Default => "default",
        }
    }
}
