//! Compares what every engine computes from an ONNX file with a reference in float64.
//!
//! `cargo run --release --example validate -- model.onnx`

use std::path::PathBuf;

use anyhow::{Context, Result};
use cohort::jobs::validate;
use cohort::ui::{Ui, out};

fn main() -> Result<()> {
    let model = std::env::args().nth(1).map(PathBuf::from).context("usage: validate MODEL.onnx")?;
    let report = validate(&model, &Ui::detect(false))?;
    for engine in &report.engines {
        let error = engine.tightest().map_or(f64::NAN, |set| set.max_abs);
        out(format!("{:<20} largest error {error:.2e}, passed: {}", engine.name, engine.passed))?;
    }
    out(report.verdict)
}
