//! `cohort doctor`: reports which libraries were found, where, whether they load, and whether they compute on
//! CUDA.

use std::path::Path;

use anyhow::Result;
use ndarray::ArrayD;
use serde::Serialize;

use crate::bench::Environment;
use crate::config::EngineName;
use crate::engine::{Engine, EngineOptions, open};
use crate::error::InputError;
use crate::graph::Model;
use crate::onnx::{OnnxFile, emit, plain_contract};
use crate::report::wrap;
use crate::ui::{out, out_json};
use crate::zoo;

use super::Common;

/// The network that is run on CUDA as a check, with convolutions, normalisations and a matrix product.
const TRIAL: (&str, [usize; 3], usize) = ("resnet8", [3, 32, 32], 10);

#[derive(Debug, clap::Args)]
pub struct Args {}

/// One library.
#[derive(Serialize)]
struct Library {
    name: &'static str,
    /// `null` if the library is missing or does not load.
    version: Option<String>,
    path: Option<String>,
    /// Whether a network has just run on CUDA.
    cuda: bool,
    /// Problem with the library or its use of CUDA.
    problem: Option<String>,
}

#[derive(Serialize)]
struct Findings {
    /// What computes convolutions and normalisations in training on this CPU; `null` without training.
    kernels: Option<String>,
    libraries: Vec<Library>,
    environment: Environment,
}

/// Checks every library and prints the results.
///
/// # Errors
/// [`InputError`] if a library is missing that this program needs or the user named. A program that was built
/// without training does not need ONNX Runtime.
pub fn run(_args: &Args, common: &Common) -> Result<()> {
    let libraries = vec![libtorch(), onnx_runtime(), tract()];
    let missing = libraries.iter().any(|library| library.version.is_none());
    let findings = Findings { kernels: kernels(), libraries, environment: Environment::read() };
    if common.json {
        out_json(&findings)?
    } else {
        out(text(&findings))?
    }
    if missing && cfg!(feature = "train") {
        return Err(InputError::new("a library is missing")
            .hint("run `make setup` in the project's folder")
            .into());
    }
    crate::engine::ort::facts_or_warning(&common.ui())?;
    Ok(())
}

#[cfg(feature = "train")]
fn libtorch() -> Library {
    let facts = crate::torch::facts();
    let without_cuda = facts.without_cuda.or_else(|| problem(trial_of_libtorch()));
    Library {
        name: "libtorch",
        version: Some(facts.version),
        path: facts.library.map(|path| path.display().to_string()),
        cuda: without_cuda.is_none(),
        problem: without_cuda.map(|problem| format!("no CUDA: {problem}")),
    }
}

#[cfg(feature = "train")]
fn trial_of_libtorch() -> Result<()> {
    let model = trial()?;
    let (device, threads) = (crate::config::Device::Cuda(0), crate::bench::usable_threads());
    run_trial(Box::new(crate::engine::torch::TorchEngine::new(&model, device, threads)?))
}

#[cfg(not(feature = "train"))]
fn libtorch() -> Library {
    let version = Some("none: built without".to_string());
    Library { name: "libtorch", version, path: None, cuda: false, problem: None }
}

#[cfg(feature = "train")]
fn kernels() -> Option<String> {
    Some(match crate::torch::kernels() {
        Some(instructions) => format!("the program's own kernels for {instructions}"),
        None => "libtorch's kernels, because this CPU has neither AVX-512 nor AVX2 with FMA".to_owned(),
    })
}

#[cfg(not(feature = "train"))]
fn kernels() -> Option<String> {
    None
}

fn onnx_runtime() -> Library {
    match crate::engine::ort::facts() {
        Ok(facts) => {
            let without_cuda = match facts.cuda {
                false => Some("this build has no CUDA provider".into()),
                true => problem(trial_of_provider()),
            };
            Library {
                name: "ONNX Runtime",
                version: Some(facts.version),
                path: Some(facts.library.display().to_string()),
                cuda: without_cuda.is_none(),
                problem: without_cuda.map(|problem| format!("no CUDA: {problem}")),
            }
        }
        Err(error) => Library {
            name: "ONNX Runtime",
            version: None,
            path: None,
            cuda: false,
            problem: Some(error.to_string()),
        },
    }
}

fn trial_of_provider() -> Result<()> {
    let model = trial()?;
    let bytes = emit(&model, &plain_contract(model.graph()), None)?;
    let file = OnnxFile::from_bytes(bytes, Path::new("a trial network"))?;
    run_trial(open(&file, EngineName::OrtCuda, &EngineOptions::default())?)
}

fn trial() -> Result<Model> {
    let (model, input, classes) = TRIAL;
    let graph = zoo::build(&zoo::find_model(model, Path::new("."))?, input, classes)?;
    Ok(Model::untrained(graph, 0))
}

fn run_trial(mut engine: Box<dyn Engine>) -> Result<()> {
    let [channels, height, width] = TRIAL.1;
    engine.run(ArrayD::zeros(vec![1, channels, height, width]).view())?;
    Ok(())
}

fn problem(tried: Result<()>) -> Option<String> {
    tried.err().map(|error| format!("{error:#}"))
}

fn tract() -> Library {
    let version = Some(env!("COHORT_TRACT_VERSION").to_string());
    Library { name: "tract", version, path: None, cuda: false, problem: None }
}

fn text(findings: &Findings) -> String {
    let mut lines = Vec::new();
    for library in &findings.libraries {
        let version = library.version.as_deref().unwrap_or("MISSING");
        let cuda = if library.cuda { ", CUDA" } else { "" };
        lines.push(format!("{:<14}{version}{cuda}", library.name));
        lines.extend(library.path.as_ref().map(|path| format!("{:14}{path}", "")));
        lines.extend(library.problem.as_ref().map(|problem| wrap(problem, &" ".repeat(14))));
    }
    let environment = &findings.environment;
    if let Some(gpu) = &environment.gpu {
        lines.push(format!("{:<14}{}, driver {} for CUDA {}", "GPU", gpu.name, gpu.driver, gpu.cuda));
    }
    let cpu = format!("{}, {} usable", environment.cpu_model, environment.cpus());
    lines.push(format!("{:<14}{cpu}", "CPU"));
    lines.extend(
        findings.kernels.iter().map(|kernels| wrap(&format!("training with {kernels}"), &" ".repeat(14))),
    );
    lines.push(format!("{:<14}{}", "system", environment.system));
    lines.join("\n")
}
