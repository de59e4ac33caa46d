//! Raw times of each node of a network in an engine, run by run.
//!
//! `bench::profile` owns their aggregation.

use anyhow::{Result, bail};
use ndarray::ArrayViewD;

use crate::config::EngineName;
use crate::onnx::OnnxFile;

use super::EngineOptions;
use super::ort;
use super::tract::TractEngine;

/// Runs that were timed node by node, excluding the warm-up.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct TimedRuns {
    /// Wall time of each whole run, in microseconds.
    pub run_us: Vec<f64>,
    /// Nodes in the order in which they first ran.
    pub nodes: Vec<TimedNode>,
}

/// One node as the engine runs it: after graph optimisation, if that is on.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct TimedNode {
    pub name: String,
    /// The engine's own name for the operation.
    pub op: String,
    /// The execution provider, if the engine has several.
    pub provider: Option<String>,
    /// Multiply-accumulates per run; `None` for anything but convolutions and matrix products.
    pub macs: Option<u64>,
    /// Shape of the first output, including the batch axis; empty if unknown.
    pub output: Vec<usize>,
    /// Time in each run, in microseconds.
    pub us: Vec<f64>,
}

/// Number of warm-up runs, in which memory is allocated and clock frequencies ramp up.
pub(super) fn warmup(runs: usize) -> usize {
    2 + runs / 4
}

/// Opens a file in an engine of its own and runs a batch `runs` times after the warm-up, with every node timed.
///
/// # Errors
/// `InputError` if the engine refuses the file; another error if the engine has no per-node times, if a run fails or
/// if the engine's times cannot be read.
pub fn time_nodes(
    file: &OnnxFile,
    engine: EngineName,
    options: &EngineOptions,
    images: ArrayViewD<'_, f32>,
    runs: usize,
) -> Result<TimedRuns> {
    match engine {
        EngineName::OrtCpu => ort::time_nodes(file, options, images, runs),
        EngineName::Tract => TractEngine::new(file, options)?.time_nodes(images, runs),
        EngineName::OrtCuda | EngineName::Torch => bail!("{} has no per-node times", engine.key()),
    }
}
