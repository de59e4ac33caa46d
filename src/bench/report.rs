//! What a measurement leaves: every cell with its figures and raw samples.

use serde::{Deserialize, Serialize};

use crate::config::{Bench, EngineName};

use super::environment::Environment;
use super::measure::Measured;
use super::stats::{Percentile, Stability, outliers, percentile, stability};

/// All cells of a measurement.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BenchReport {
    pub environment: Environment,
    pub settings: Bench,
    /// What is timed: input and output bound beforehand, the run and its end.
    pub mode: String,
    pub cells: Vec<CellResult>,
}

/// One model on one engine with one batch size and thread count.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CellResult {
    pub model: String,
    pub engine: EngineName,
    /// The engine's full name, with the device.
    pub engine_name: String,
    /// Images a run.
    pub batch: usize,
    /// Intra-op threads.
    pub threads: usize,
    pub samples: usize,
    /// Milliseconds a run; `null` where the samples are too few.
    pub p50: Option<Percentile>,
    pub p90: Option<Percentile>,
    pub p95: Option<Percentile>,
    pub p99: Option<Percentile>,
    pub mean_ms: f64,
    pub min_ms: f64,
    pub max_ms: f64,
    pub images_per_second: f64,
    pub outliers: usize,
    pub stability: Stability,
    pub warmup_runs: usize,
    /// Whether the warm-up settled before its time was over.
    pub warm: bool,
    /// Loading the model.
    pub load_ms: f64,
    /// The very first run.
    pub first_run_ms: f64,
    /// Raw samples in the order they were taken.
    pub samples_ns: Vec<u64>,
}

/// What identifies a cell, and what was seen before it was measured.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct CellStart {
    pub model: String,
    pub engine: EngineName,
    pub engine_name: String,
    pub batch: usize,
    pub threads: usize,
    pub load_ms: f64,
    pub first_run_ms: f64,
}

impl CellResult {
    pub(super) fn new(start: CellStart, measured: Measured) -> Self {
        let ms: Vec<f64> = measured.samples.iter().map(|&nanoseconds| nanoseconds as f64 * 1e-6).collect();
        let mut sorted = ms.clone();
        sorted.sort_by(f64::total_cmp);
        let mean_ms = ms.iter().sum::<f64>() / ms.len().max(1) as f64;
        Self {
            model: start.model,
            engine: start.engine,
            engine_name: start.engine_name,
            batch: start.batch,
            threads: start.threads,
            samples: ms.len(),
            p50: percentile(&sorted, 0.5),
            p90: percentile(&sorted, 0.9),
            p95: percentile(&sorted, 0.95),
            p99: percentile(&sorted, 0.99),
            mean_ms,
            min_ms: sorted.first().copied().unwrap_or_default(),
            max_ms: sorted.last().copied().unwrap_or_default(),
            images_per_second: start.batch as f64 / (mean_ms * 1e-3).max(1e-12),
            outliers: outliers(&ms),
            stability: stability(&ms),
            warmup_runs: measured.warmup_runs,
            warm: measured.warm,
            load_ms: start.load_ms,
            first_run_ms: start.first_run_ms,
            samples_ns: measured.samples,
        }
    }

    /// Median in milliseconds.
    pub fn p50_ms(&self) -> Option<f64> {
        self.p50.map(|percentile| percentile.value)
    }

    /// 95th percentile in milliseconds.
    pub fn p95_ms(&self) -> Option<f64> {
        self.p95.map(|percentile| percentile.value)
    }
}

/// How many times faster `model` is than `other` in the same cell, by the medians.
pub fn speed_up(cells: &[CellResult], cell: &CellResult, other: &str) -> Option<f64> {
    let same = |candidate: &&CellResult| {
        candidate.model == other
            && candidate.engine == cell.engine
            && candidate.batch == cell.batch
            && candidate.threads == cell.threads
    };
    Some(cells.iter().find(same)?.p50_ms()? / cell.p50_ms()?)
}
