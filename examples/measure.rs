//! Measures the latency of ONNX files under ONNX Runtime and tract.
//!
//! `cargo run --release --example measure -- model.onnx other.onnx`

use std::path::PathBuf;
use std::sync::atomic::AtomicBool;

use anyhow::Result;
use cohort::config::{Bench, EngineName};
use cohort::jobs::measure;
use cohort::ui::{Ui, out};

fn main() -> Result<()> {
    let models: Vec<PathBuf> = std::env::args().skip(1).map(PathBuf::from).collect();
    let engines = vec![EngineName::OrtCpu, EngineName::Tract];
    let settings = Bench { engines, batch: vec![1], min_seconds: 1.0, ..Bench::default() };
    let report = measure(&models, &settings, &Ui::detect(false), &AtomicBool::new(false))?;
    for cell in &report.cells {
        out(format!("{}, {}: mean {:.3} ms", cell.cell.model, cell.engine_name, cell.mean_ms))?;
    }
    Ok(())
}
