//! Shows where the time of an ONNX file goes under ONNX Runtime and tract, node by node, on one thread.
//!
//! `cargo run --release --example profile_file -- model.onnx [BATCH]`

use std::path::Path;

use anyhow::{Context, Result};
use cohort::bench::profile;
use cohort::config::EngineName;
use cohort::engine::EngineOptions;
use cohort::onnx::OnnxFile;
use cohort::report::profile_screen;
use cohort::ui::out;

/// Runs of each engine.
const RUNS: usize = 50;

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let path = arguments.next().context("usage: profile_file FILE.onnx [BATCH]")?;
    let batch = arguments.next().map_or(Ok(1), |batch| batch.parse())?;
    let file = OnnxFile::load(Path::new(&path))?;
    let sample = file.contract.sample_shape().context("the sizes of its input are not fixed in the file")?;
    for engine in [EngineName::OrtCpu, EngineName::Tract] {
        let profile = profile(&file, engine, &EngineOptions::default(), batch, &sample, RUNS)?;
        out(format!("{}\n", profile_screen(&profile)))?;
    }
    Ok(())
}
