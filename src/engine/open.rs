//! From an ONNX file and an engine's name to an engine.

use anyhow::Result;
use serde::{Deserialize, Serialize};

use crate::config::{ConvSearch, CudaSettings, EngineName};
use crate::error::InputError;
use crate::onnx::OnnxFile;

use super::Engine;
use super::ort::OrtEngine;
use super::tract::TractEngine;

/// Threads that run nodes beside each other: one, as nodes follow each other in image networks.
pub const INTER_OP_THREADS: usize = 1;

/// How an engine is set up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EngineOptions {
    /// Intra-op threads, at least 1.
    pub threads: usize,
    /// Whether the runtime may rewrite the graph.
    pub optimize: bool,
    /// Of the CUDA provider.
    pub cuda: CudaSettings,
}

impl EngineOptions {
    /// Every way an engine can be set up that may change its numbers, the usual one first.
    pub fn ways(engine: EngineName, threads: usize) -> Vec<Self> {
        let usual = Self { threads, ..Self::default() };
        match engine {
            EngineName::Torch => vec![usual],
            EngineName::OrtCpu | EngineName::Tract => {
                vec![usual.clone(), Self { optimize: false, ..usual }]
            }
            EngineName::OrtCuda => {
                let tf32 = CudaSettings { tf32: true, ..CudaSettings::default() };
                vec![usual.clone(), Self { cuda: tf32, ..usual }]
            }
        }
    }

    /// What people call an engine, with what is not usual of its set-up.
    pub fn name(&self, engine: EngineName) -> String {
        let engine = match engine {
            EngineName::Torch => "libtorch",
            EngineName::OrtCpu => "ONNX Runtime CPU",
            EngineName::OrtCuda => "ONNX Runtime CUDA",
            EngineName::Tract => "tract",
        };
        let rewriting = if self.optimize { "" } else { ", not optimised" };
        let CudaSettings { conv_search, tf32, graph } = self.cuda;
        let rounding = if tf32 { ", TF32" } else { "" };
        let search = match conv_search {
            ConvSearch::Exhaustive => "",
            ConvSearch::Heuristic => ", quick convolution search",
            ConvSearch::Default => ", no convolution search",
        };
        let replay = if graph { ", CUDA graph" } else { "" };
        format!("{engine}{rewriting}{rounding}{search}{replay}")
    }
}

impl Default for EngineOptions {
    fn default() -> Self {
        Self { threads: 1, optimize: true, cuda: CudaSettings::default() }
    }
}

/// Loads an exported file into an engine.
///
/// # Errors
/// [`InputError`] if the runtime is missing or refuses the file, or if the engine is libtorch, which
/// runs graphs with weights instead of ONNX files.
pub fn open(file: &OnnxFile, engine: EngineName, options: &EngineOptions) -> Result<Box<dyn Engine>> {
    match engine {
        EngineName::OrtCpu => Ok(Box::new(OrtEngine::cpu(file, options)?)),
        EngineName::OrtCuda => Ok(Box::new(OrtEngine::cuda(file, options)?)),
        EngineName::Tract => Ok(Box::new(TractEngine::new(file, options)?)),
        EngineName::Torch => Err(InputError::new(format!("libtorch cannot run {}", file.path.display()))
            .hint("the engines for an ONNX file are ort-cpu, ort-cuda and tract")
            .into()),
    }
}

/// Reads a comma-separated list of engines, as on the command line.
///
/// # Errors
/// [`InputError`] with the names there are.
pub fn engine_names(list: &[String]) -> Result<Vec<EngineName>, InputError> {
    let parse = |name: &String| {
        let known = EngineName::ALL.into_iter().find(|engine| engine.key() == name);
        known.ok_or_else(|| {
            InputError::new(format!("there is no engine '{name}'"))
                .hint("the engines are torch, ort-cpu, ort-cuda and tract")
        })
    };
    list.iter().map(parse).collect()
}
