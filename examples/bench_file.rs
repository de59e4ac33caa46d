//! Measures an ONNX file under ONNX Runtime and tract.
//!
//! `cargo run --release --example bench_file -- model.onnx`

use std::path::Path;
use std::sync::atomic::AtomicBool;

use anyhow::{Context, Result};
use cohort::bench::{Subject, bench};
use cohort::config::{Bench, EngineName};
use cohort::engine::open;
use cohort::onnx::OnnxFile;
use cohort::ui::{Ui, out};

fn main() -> Result<()> {
    let path = std::env::args().nth(1).context("usage: bench_file FILE.onnx")?;
    let file = OnnxFile::load(Path::new(&path))?;
    let image = file.image_shape().context("the image size is not fixed in the file")?;
    let subject = Subject {
        name: path,
        image,
        fixed_batch: file.fixed_batch(),
        open: Box::new(|engine, options| open(&file, engine, options)),
    };
    let settings = Bench {
        engines: vec![EngineName::OrtCpu, EngineName::Tract],
        batch: vec![1],
        min_samples: 300,
        min_seconds: 1.0,
        ..Bench::default()
    };
    for cell in bench(&[subject], &settings, 7, Ui::detect(false), &AtomicBool::new(false))?.cells {
        let (p50, p95) = (cell.p50_ms().context("300 samples")?, cell.p95_ms().context("300 samples")?);
        out(format!("{}: p50 {p50:.3} ms, p95 {p95:.3} ms of {} runs", cell.engine_name, cell.samples))?;
    }
    Ok(())
}
