//! A cell: what identifies it, its figures and raw samples, and how cells relate to each other.

use serde::{Deserialize, Serialize};

use crate::config::{EngineName, Mode, Quantile};
use crate::engine::Placement;

use super::measure::Measured;
use super::stats::{
    Percentile, Ratio, Stability, outliers, paired_ratio, percentiles, stability, turn_medians,
};

/// The knee is the smallest batch that gives this share of the best throughput.
const KNEE: f64 = 0.9;

/// Minimum number of batch sizes in a sweep.
const SWEEP: usize = 3;

/// Identifies a cell.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct CellId {
    pub model: String,
    pub engine: EngineName,
    /// Samples per run.
    pub batch: usize,
    /// Intra-op threads.
    pub threads: usize,
    pub mode: Mode,
}

impl std::fmt::Display for CellId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { model, engine, batch, threads, mode } = self;
        write!(f, "{model} {}/{} batch {batch} threads {threads}", engine.key(), mode.key())
    }
}

/// One cell's figures; times are in milliseconds per run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CellResult {
    pub cell: CellId,
    /// The engine's full name, including the device.
    pub engine_name: String,
    pub samples: usize,
    /// `null` where there are too few samples.
    pub p50: Option<Percentile>,
    pub p90: Option<Percentile>,
    pub p95: Option<Percentile>,
    pub p99: Option<Percentile>,
    #[serde(rename = "p99.9")]
    pub p999: Option<Percentile>,
    pub mean_ms: f64,
    pub min_ms: f64,
    pub max_ms: f64,
    /// Samples of the model per second.
    pub images_per_second: f64,
    /// Number of samples far from the median, by the median absolute deviation; they are counted, not
    /// dropped.
    pub outliers: usize,
    pub stability: Stability,
    pub warmup_runs: usize,
    /// Whether the warm-up settled before its time was up.
    pub warm: bool,
    /// Time to open the model in a process that has already loaded the library.
    pub load_ms: f64,
    /// Time of the very first run.
    pub first_run_ms: f64,
    /// Number of nodes by execution provider and operator, for engines that have several providers.
    pub placement: Placement,
    /// Number of samples per turn.
    pub turns: Vec<usize>,
    /// Raw samples in the order they were taken.
    pub samples_ns: Vec<u64>,
}

impl CellResult {
    /// Computes a measurement's figures; the fields about the engine and its start-up are left empty.
    pub(super) fn of(cell: CellId, measured: Measured) -> Self {
        let ms = milliseconds(&measured.samples);
        let found = percentiles(&ms, &measured.turns, &Quantile::ALL.map(Quantile::share));
        let mean_ms = ms.iter().sum::<f64>() / ms.len().max(1) as f64;
        Self {
            engine_name: String::new(),
            samples: ms.len(),
            p50: found[0],
            p90: found[1],
            p95: found[2],
            p99: found[3],
            p999: found[4],
            mean_ms,
            min_ms: ms.iter().copied().reduce(f64::min).unwrap_or_default(),
            max_ms: ms.iter().copied().reduce(f64::max).unwrap_or_default(),
            images_per_second: cell.batch as f64 / (mean_ms * 1e-3).max(1e-12),
            outliers: outliers(&ms),
            stability: stability(&ms),
            warmup_runs: measured.warmup_runs,
            warm: measured.warm,
            load_ms: 0.0,
            first_run_ms: 0.0,
            placement: Placement::new(),
            turns: measured.turns,
            samples_ns: measured.samples,
            cell,
        }
    }

    pub fn percentile(&self, quantile: Quantile) -> Option<Percentile> {
        match quantile {
            Quantile::P50 => self.p50,
            Quantile::P90 => self.p90,
            Quantile::P95 => self.p95,
            Quantile::P99 => self.p99,
            Quantile::P999 => self.p999,
        }
    }

    /// Samples in milliseconds.
    pub fn samples_ms(&self) -> Vec<f64> {
        milliseconds(&self.samples_ns)
    }

    /// Medians of the cell's turns, in milliseconds.
    pub fn turn_medians(&self) -> Vec<f64> {
        turn_medians(&self.samples_ms(), &self.turns)
    }
}

fn milliseconds(nanoseconds: &[u64]) -> Vec<f64> {
    nanoseconds.iter().map(|&nanoseconds| nanoseconds as f64 * 1e-6).collect()
}

/// How many times faster one model is than another in the same cell, paired by rounds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SpeedUp {
    pub cell: CellId,
    pub over: String,
    pub ratio: Ratio,
    pub distinguishable: bool,
}

/// Speed-up over `baseline` for every cell that was also measured with `baseline`.
pub fn speed_ups(cells: &[CellResult], baseline: &str, seed: u64) -> Vec<SpeedUp> {
    let of = |cell: &CellResult| {
        let id = CellId { model: baseline.to_string(), ..cell.cell.clone() };
        let other = cells.iter().find(|other| other.cell == id).filter(|_| cell.cell.model != baseline)?;
        let ratio = paired_ratio(&other.turn_medians(), &cell.turn_medians(), seed)?;
        let distinguishable = ratio.is_distinguishable();
        Some(SpeedUp { cell: cell.cell.clone(), over: baseline.to_string(), ratio, distinguishable })
    };
    cells.iter().filter_map(of).collect()
}

/// One cell measured at several batch sizes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Sweep {
    /// The cell at the knee: the smallest batch that gives 90 % of the best throughput.
    pub knee: CellId,
    /// Batch size and samples per second.
    pub points: Vec<(usize, f64)>,
}

/// Sweeps among the cells that cover at least three batch sizes.
pub fn sweeps(cells: &[CellResult]) -> Vec<Sweep> {
    let mut seen: Vec<CellId> = Vec::new();
    let mut sweeps = Vec::new();
    for cell in cells {
        let group = CellId { batch: 0, ..cell.cell.clone() };
        if seen.contains(&group) {
            continue;
        }
        let same = cells.iter().filter(|other| CellId { batch: 0, ..other.cell.clone() } == group);
        let mut points: Vec<(usize, f64)> =
            same.map(|cell| (cell.cell.batch, cell.images_per_second)).collect();
        points.sort_by_key(|point| point.0);
        if let Some(batch) = knee(&points).filter(|_| points.len() >= SWEEP) {
            sweeps.push(Sweep { knee: CellId { batch, ..group.clone() }, points });
        }
        seen.push(group);
    }
    sweeps
}

fn knee(points: &[(usize, f64)]) -> Option<usize> {
    let best = points.iter().map(|point| point.1).fold(0.0, f64::max);
    Some(points.iter().find(|point| point.1 >= KNEE * best)?.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_knee_is_where_more_gives_little() {
        assert_eq!(knee(&[(1, 100.0), (8, 400.0), (32, 440.0), (64, 441.0)]), Some(8));
        assert_eq!(knee(&[(1, 100.0), (8, 90.0)]), Some(1));
        assert_eq!(knee(&[]), None);
    }
}
