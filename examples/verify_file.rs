//! Holds ONNX Runtime and tract against each other on an ONNX file.
//!
//! `cargo run --release --example verify_file -- model.onnx`

use std::cell::RefCell;
use std::path::Path;

use anyhow::{Context, Result};
use cohort::config::EngineName;
use cohort::engine::{EngineOptions, open};
use cohort::onnx::OnnxFile;
use cohort::ui::{Ui, out};
use cohort::verify::{Job, input_sets, verify};

fn main() -> Result<()> {
    let path = std::env::args().nth(1).context("usage: verify_file FILE.onnx")?;
    let file = OnnxFile::load(Path::new(&path))?;
    let image = file.image_shape().context("the image size is not fixed in the file")?;

    let unoptimised = EngineOptions { optimize: false, ..EngineOptions::default() };
    let reference = RefCell::new(open(&file, EngineName::OrtCpu, &unoptimised)?);
    let tract = open(&file, EngineName::Tract, &EngineOptions::default())?;
    let report = verify(&mut Job {
        model: path,
        truth_name: "ONNX Runtime, not optimised".into(),
        truth: &|images| Ok(reference.borrow_mut().run(images)?[0].mapv(f64::from)),
        from_checkpoint: false,
        engines: vec![(EngineName::Tract, tract)],
        inputs: &input_sets(None, image, (0.0, 1.0), 7),
        accuracy: None,
        fixed_batch: file.fixed_batch(),
        ui: Ui::detect(false),
    })?;
    for set in &report.engines[0].sets {
        out(format!("{:<12} largest error {:.2e}, top-1 agreement {:.3}", set.set, set.max_abs, set.top1))?;
    }
    out(report.verdict)
}
