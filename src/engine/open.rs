//! Opens an ONNX file in the engine with a given name.

use anyhow::Result;
use serde::{Deserialize, Serialize};

use crate::config::{ConvSearch, CudaSettings, EngineName};
use crate::error::InputError;
use crate::onnx::OnnxFile;

use super::Engine;
use super::ort::OrtEngine;
use super::tract::TractEngine;

/// Inter-op threads: one, because the nodes of image networks run one after another.
pub const INTER_OP_THREADS: usize = 1;

/// How an engine is set up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EngineOptions {
    /// Intra-op threads, at least 1.
    pub threads: usize,
    /// Whether the runtime may rewrite the graph.
    pub optimize: bool,
    /// Settings of the CUDA provider.
    pub cuda: CudaSettings,
    /// Whether ONNX Runtime's products of int8 must not saturate, which they may on x64 processors without VNNI
    /// instructions; this is slower.
    #[serde(default)]
    pub exact_int8: bool,
}

impl EngineOptions {
    /// Every setup of an engine that may change its numbers, the default one first.
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

    /// Display name of an engine, followed by the settings that differ from the defaults.
    pub fn name(&self, engine: EngineName) -> String {
        let (name, cuda) = match engine {
            EngineName::Torch => ("libtorch", String::new()),
            EngineName::OrtCpu => ("ONNX Runtime CPU", String::new()),
            EngineName::OrtCuda => ("ONNX Runtime CUDA", unusual(self.cuda)),
            EngineName::Tract => ("tract", String::new()),
        };
        let rewriting = if self.optimize { "" } else { ", not optimised" };
        let exact = if self.exact_int8 { ", exact int8 products" } else { "" };
        format!("{name}{rewriting}{cuda}{exact}")
    }
}

/// The settings of the CUDA provider that differ from the defaults.
fn unusual(CudaSettings { conv_search, tf32, graph }: CudaSettings) -> String {
    let rounding = if tf32 { ", TF32" } else { "" };
    let search = match conv_search {
        ConvSearch::Exhaustive => "",
        ConvSearch::Heuristic => ", quick convolution search",
        ConvSearch::Default => ", no convolution search",
    };
    let replay = if graph { ", CUDA graph" } else { "" };
    format!("{rounding}{search}{replay}")
}

impl Default for EngineOptions {
    fn default() -> Self {
        Self { threads: 1, optimize: true, cuda: CudaSettings::default(), exact_int8: false }
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
/// [`InputError`] listing the known names, if one is unknown.
pub fn engine_names(list: &[String]) -> Result<Vec<EngineName>, InputError> {
    let parse = |name: &String| {
        let known = EngineName::ALL.into_iter().find(|engine| engine.key() == name);
        known.ok_or_else(|| {
            InputError::new(format!("unknown engine '{name}'"))
                .hint("the engines are torch, ort-cpu, ort-cuda and tract")
        })
    };
    list.iter().map(parse).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_tell_what_is_not_usual_of_the_engine_itself() {
        let cuda = CudaSettings { tf32: true, graph: true, ..CudaSettings::default() };
        let options = EngineOptions { optimize: false, cuda, ..EngineOptions::default() };
        assert_eq!(options.name(EngineName::OrtCuda), "ONNX Runtime CUDA, not optimised, TF32, CUDA graph");
        assert_eq!(options.name(EngineName::OrtCpu), "ONNX Runtime CPU, not optimised");
        assert_eq!(EngineOptions::default().name(EngineName::OrtCuda), "ONNX Runtime CUDA");
    }
}
