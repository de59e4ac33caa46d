//! How long each node of a network takes in an engine: raw times, run by run.
//!
//! What they say together is `bench::profile`'s.

use anyhow::{Result, bail};
use ndarray::ArrayViewD;

use crate::config::EngineName;
use crate::onnx::OnnxFile;

use super::EngineOptions;
use super::ort;
use super::tract::TractEngine;

/// Runs that were timed node by node, without the warm-up.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct TimedRuns {
    /// Microseconds of each run, from one end to the other.
    pub run_us: Vec<f64>,
    /// In the order they first ran.
    pub nodes: Vec<TimedNode>,
}

/// One node as the engine runs it: after its optimiser, where that is on.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct TimedNode {
    pub name: String,
    /// The engine's own name for the operation.
    pub op: String,
    /// The execution provider, where an engine has several.
    pub provider: Option<String>,
    /// Multiply-accumulates of a run; `None` for what is no convolution and no matrix product.
    pub macs: Option<u64>,
    /// Of the first output, batch included; empty where it is unknown.
    pub output: Vec<usize>,
    /// Microseconds in each run.
    pub us: Vec<f64>,
}

/// Runs that come before those that count: memory is allocated and clocks go up.
pub(super) fn warmup(runs: usize) -> usize {
    2 + runs / 4
}

/// Loads a file for itself and runs a batch `runs` times, every node timed.
///
/// # Errors
/// `InputError` if the engine refuses the file or runs none; if a run fails or the engine's times cannot be read.
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
