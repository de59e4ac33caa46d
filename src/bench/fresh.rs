//! Measures cold starts and memory, with each start in its own process.
//!
//! The parent starts this program again for every start; the child measures itself and prints one line of
//! JSON.

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};

use crate::config::{EngineName, Mode};
use crate::engine::{EngineOptions, open, ort};
use crate::onnx::OnnxFile;

use super::cell::CellId;
use super::conditions::peak_rss_bytes;
use super::gpu::{bytes_by_one_measure, gpu_memory};
use super::noise::noise;

/// The measurement that a fresh process is asked for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Request {
    pub model: PathBuf,
    pub engine: EngineName,
    pub options: EngineOptions,
    pub batch: usize,
    /// Sizes of one sample's axes.
    pub sample: Vec<usize>,
    pub seed: u64,
}

/// A fresh process's measurements of itself. The files are in the page cache, so disk reads are not measured.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Start {
    /// Time from the process's start to its end, as measured by its parent.
    #[serde(default)]
    pub process_ms: f64,
    /// Time to load the runtime's library; absent where it is linked into the program.
    pub library_ms: Option<f64>,
    /// Time to read the model file.
    pub read_ms: f64,
    /// Time to open the model in the runtime.
    pub session_ms: f64,
    pub first_run_ms: f64,
    /// Resident memory before the model is opened, after it is opened, and after a run.
    pub rss_bytes: [u64; 3],
    pub peak_rss_bytes: u64,
    /// GPU memory at the same times.
    pub device_bytes: Option<[u64; 3]>,
}

/// One cell in fresh processes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Fresh {
    pub cell: CellId,
    pub starts: Vec<Start>,
}

/// Measures this process, which must not have done anything before.
///
/// # Errors
/// If the model or the engine cannot be used.
pub fn measure_start(request: &Request) -> Result<Start> {
    let on_gpu = request.engine == EngineName::OrtCuda;
    let device = || if on_gpu { gpu_memory() } else { None };
    let library_ms = match request.engine {
        EngineName::OrtCpu | EngineName::OrtCuda => {
            let start = Instant::now();
            ort::facts()?;
            Some(milliseconds(start))
        }
        EngineName::Tract | EngineName::Torch => None,
    };
    let start = Instant::now();
    let file = OnnxFile::load(&request.model)?;
    let read_ms = milliseconds(start);
    let input = noise(request.batch, &request.sample, file.contract.input.element, request.seed);
    let mut rss_bytes = [rss_bytes()?, 0, 0];
    let mut device_memory = [device(), None, None];
    let start = Instant::now();
    let mut engine = open(&file, request.engine, &request.options)?;
    let session_ms = milliseconds(start);
    (rss_bytes[1], device_memory[1]) = (self::rss_bytes()?, device());
    let start = Instant::now();
    engine.run(input.view())?;
    let first_run_ms = milliseconds(start);
    (rss_bytes[2], device_memory[2]) = (self::rss_bytes()?, device());
    Ok(Start {
        process_ms: 0.0,
        library_ms,
        read_ms,
        session_ms,
        first_run_ms,
        rss_bytes,
        peak_rss_bytes: peak_rss_bytes().context("the system does not report peak memory")?,
        device_bytes: bytes_by_one_measure(device_memory),
    })
}

/// Runs a program, which must be this one, in a fresh process for one request.
///
/// # Errors
/// If it cannot be started or fails.
pub fn start(program: &PathBuf, request: &Request) -> Result<Start> {
    let mut command = Command::new(program);
    command.args(["fresh-start", &serde_json::to_string(request)?]);
    if let Ok(facts) = ort::facts() {
        command.arg("--ort-lib").arg(facts.library);
    }
    command.stdin(Stdio::null()).stderr(Stdio::piped());
    let began = Instant::now();
    let output = command.output().with_context(|| format!("cannot start {}", program.display()))?;
    let process_ms = milliseconds(began);
    if !output.status.success() {
        bail!("a fresh process failed: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    let seen: Start =
        serde_json::from_slice(&output.stdout).context("cannot read what a fresh process printed")?;
    Ok(Start { process_ms, ..seen })
}

/// Starts the requested number of processes, one after another.
///
/// # Errors
/// The errors of [`start`], or that of `step`, which is called before each process.
pub fn fresh(
    program: &PathBuf,
    request: &Request,
    model: String,
    starts: usize,
    mut step: impl FnMut() -> Result<()>,
) -> Result<Fresh> {
    let Request { engine, batch, options, .. } = request;
    let threads = options.threads;
    let cell = CellId { model, engine: *engine, batch: *batch, threads, mode: Mode::Host };
    let starts = (0..starts).map(|_| {
        step()?;
        start(program, request)
    });
    Ok(Fresh { cell, starts: starts.collect::<Result<_>>()? })
}

/// Resident memory of this process.
fn rss_bytes() -> Result<u64> {
    let statm =
        std::fs::read_to_string("/proc/self/statm").context("the system does not report memory in use")?;
    let pages: u64 = statm.split_whitespace().nth(1).and_then(|pages| pages.parse().ok()).unwrap_or_default();
    // SAFETY: the call has no preconditions.
    let page = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    Ok(pages * page.max(1) as u64)
}

fn milliseconds(since: Instant) -> f64 {
    since.elapsed().as_secs_f64() * 1e3
}
