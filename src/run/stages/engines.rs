//! Engines for a student: libtorch from its checkpoint, the others from its file.

use anyhow::Result;

use crate::config::{Device, EngineName};
use crate::engine::torch::TorchEngine;
use crate::engine::{self, Engine, EngineOptions};
use crate::graph::{Graph, Weights};
use crate::onnx::OnnxFile;

/// Opens one engine.
///
/// # Errors
/// If it cannot be loaded, or refuses the file.
pub(super) fn open(
    (graph, weights): (&Graph, &Weights),
    device: Device,
    file: &OnnxFile,
    engine: EngineName,
    options: &EngineOptions,
) -> Result<Box<dyn Engine>> {
    match engine {
        EngineName::Torch => Ok(Box::new(TorchEngine::new(graph, weights, device, options.threads)?)),
        EngineName::OrtCpu | EngineName::OrtCuda | EngineName::Tract => engine::open(file, engine, options),
    }
}
