//! Engines for a student: libtorch from its checkpoint, the others from its file.

use anyhow::Result;

use crate::config::{Device, EngineName};
use crate::engine::torch::TorchEngine;
use crate::engine::{self, Engine, EngineOptions};
use crate::graph::Model;
use crate::onnx::OnnxFile;

/// Opens one engine.
///
/// # Errors
/// If it cannot be loaded, or if it refuses the file; libtorch, if there is no model.
pub(super) fn open(
    model: Option<&Model>,
    device: Device,
    file: &OnnxFile,
    engine: EngineName,
    options: &EngineOptions,
) -> Result<Box<dyn Engine>> {
    match (engine, model) {
        (EngineName::Torch, Some(model)) => Ok(Box::new(TorchEngine::new(model, device, options.threads)?)),
        (EngineName::Torch, None) | (EngineName::OrtCpu | EngineName::OrtCuda | EngineName::Tract, _) => {
            engine::open(file, engine, options)
        }
    }
}
