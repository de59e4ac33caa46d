//! Compares a measurement with an older one.

use serde::{Deserialize, Serialize};

use crate::config::{CudaSettings, EngineName};
use crate::error::InputError;

use super::budgets::Outcome;
use super::cell::{CellId, CellResult};
use super::environment::Environment;
use super::stats::{Ratio, unpaired_ratio};

/// One of the two measurements that are compared.
#[derive(Debug, Clone, Copy)]
pub struct Side<'a> {
    /// Number of models measured.
    pub models: usize,
    pub environment: &'a Environment,
    /// The settings of the CUDA provider.
    pub cuda: CudaSettings,
    pub cells: &'a [CellResult],
}

/// Comparison of every cell that both measurements contain.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Comparison {
    pub against: String,
    /// How much slower a cell may be: 0.05 means 5 %.
    pub allowed: f64,
    pub cells: Vec<Compared>,
    /// Cells that only one of the two measurements contains.
    pub only_old: Vec<CellId>,
    pub only_new: Vec<CellId>,
    /// Differences between the machines and the library versions.
    pub differences: Vec<String>,
}

/// One cell, new over old.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Compared {
    pub cell: CellId,
    /// Ratio of the medians, with its interval.
    pub p50: Option<Ratio>,
    /// Ratio of the 99th percentiles; it does not affect the outcome.
    pub p99: Option<f64>,
    pub outcome: Outcome,
    /// Why the outcome is undecided.
    pub reason: Option<String>,
}

/// Compares `new` with `old`. A cell fails if its median is slower by more than `allowed` over the whole
/// confidence interval, and holds if the whole interval is within. If each measurement has only one model,
/// the model names are ignored.
///
/// # Errors
/// [`InputError`] if they have no cell in common.
pub fn compare(
    new: &Side<'_>,
    old: &Side<'_>,
    against: String,
    allowed: f64,
    seed: u64,
) -> Result<Comparison, InputError> {
    let one_each = old.models == 1 && new.models == 1;
    let same = |new: &CellId, old: &CellId| match one_each {
        true => {
            CellId { model: String::new(), ..new.clone() } == CellId { model: String::new(), ..old.clone() }
        }
        false => new == old,
    };
    let other_cpu = old.environment.cpu_model != new.environment.cpu_model;
    let gpu = |side: &Side<'_>| side.environment.gpu.as_ref().map(|gpu| gpu.name.clone());
    let (other_gpu, other_set_up) = (gpu(old) != gpu(new), old.cuda != new.cuda);
    let unlike = |cell: &CellId| match cell.engine {
        _ if other_cpu => Some("measured on another CPU"),
        EngineName::OrtCuda if other_gpu => Some("measured on another GPU"),
        EngineName::OrtCuda if other_set_up => Some("CUDA was set up differently"),
        EngineName::OrtCuda | EngineName::OrtCpu | EngineName::Tract | EngineName::Torch => None,
    };
    let mut cells = Vec::new();
    let mut only_new = Vec::new();
    for cell in new.cells {
        match old.cells.iter().find(|other| same(&cell.cell, &other.cell)) {
            Some(other) => cells.push(compared(cell, other, unlike(&cell.cell), allowed, seed)),
            None => only_new.push(cell.cell.clone()),
        }
    }
    let gone = old.cells.iter().filter(|other| !new.cells.iter().any(|cell| same(&cell.cell, &other.cell)));
    let only_old = gone.map(|cell| cell.cell.clone()).collect();
    if cells.is_empty() {
        let problem =
            format!("{against} measured nothing with the same model, engine, batch, threads and mode");
        return Err(InputError::new(problem).hint("measure with the same options as before"));
    }
    let differences = old.environment.differences(new.environment);
    Ok(Comparison { against, allowed, cells, only_old, only_new, differences })
}

fn compared(new: &CellResult, old: &CellResult, unlike: Option<&str>, allowed: f64, seed: u64) -> Compared {
    let p50 = unpaired_ratio(&new.turn_medians(), &old.turn_medians(), seed);
    let undecided = |reason: &str| (Outcome::Undecided, Some(reason.to_string()));
    let (outcome, reason) = match (p50, unlike) {
        (None, _) => undecided("too few turns for an interval"),
        (Some(_), Some(reason)) => undecided(reason),
        (Some(_), None) if !new.stability.stable => undecided("unstable now"),
        (Some(_), None) if !old.stability.stable => undecided("was unstable"),
        (Some(ratio), None) if ratio.low > 1.0 + allowed => (Outcome::Fails, None),
        (Some(ratio), None) if ratio.high <= 1.0 + allowed => (Outcome::Holds, None),
        (Some(_), None) => undecided("the interval spans the limit"),
    };
    let p99 = new.p99.zip(old.p99).map(|(new, old)| new.value / old.value);
    Compared { cell: new.cell.clone(), p50, p99, outcome, reason }
}
