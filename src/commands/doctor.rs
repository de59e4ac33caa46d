//! `cohort doctor`: which libraries there are, where, and whether they load.

use anyhow::Result;
use serde::Serialize;

use crate::bench::Environment;
use crate::error::InputError;
use crate::ui::{out, out_json};

use super::Common;
use super::common::runtime;

#[derive(Debug, clap::Args)]
pub struct Args {}

/// One library.
#[derive(Serialize)]
struct Library {
    name: &'static str,
    /// `null` if it is not there or does not load.
    version: Option<String>,
    path: Option<String>,
    /// Whether it can use CUDA here.
    cuda: bool,
    /// What is missing.
    problem: Option<String>,
}

#[derive(Serialize)]
struct Findings {
    libraries: Vec<Library>,
    environment: Environment,
}

/// Looks at every library and prints what it finds.
///
/// # Errors
/// [`InputError`] if a library that this program needs, or that the user named, is missing. A program that does not
/// train does without ONNX Runtime.
pub fn run(_args: &Args, common: &Common) -> Result<()> {
    let libraries = vec![libtorch(), onnx_runtime(), tract()];
    let missing = libraries.iter().any(|library| library.version.is_none());
    let findings = Findings { libraries, environment: Environment::read() };
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
    runtime(common.ui())?;
    Ok(())
}

#[cfg(feature = "train")]
fn libtorch() -> Library {
    let facts = crate::torch::facts();
    Library {
        name: "libtorch",
        version: Some(facts.version),
        path: facts.library.map(|path| path.display().to_string()),
        cuda: facts.devices > 0,
        problem: facts.without_cuda.map(|problem| format!("no CUDA: {problem}")),
    }
}

#[cfg(not(feature = "train"))]
fn libtorch() -> Library {
    let version = Some("none: built without".to_string());
    Library { name: "libtorch", version, path: None, cuda: false, problem: None }
}

fn onnx_runtime() -> Library {
    match crate::engine::ort::facts() {
        Ok(facts) => Library {
            name: "ONNX Runtime",
            version: Some(facts.version),
            path: Some(facts.library.display().to_string()),
            cuda: facts.cuda,
            problem: (!facts.cuda).then(|| "no CUDA: this build has no CUDA provider".to_string()),
        },
        Err(error) => Library {
            name: "ONNX Runtime",
            version: None,
            path: None,
            cuda: false,
            problem: Some(error.to_string()),
        },
    }
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
        lines.extend(library.problem.as_ref().map(|problem| format!("{:14}{problem}", "")));
    }
    let environment = &findings.environment;
    let (usable, all) = (environment.available_threads, environment.processors);
    lines.push(format!("{:<14}{}, {usable} of {all} processors usable", "CPU", environment.cpu_model));
    lines.push(format!("{:<14}{}", "system", environment.system));
    lines.join("\n")
}
