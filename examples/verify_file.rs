//! Holds ONNX Runtime and tract against each other on an ONNX file.
//!
//! `cargo run --release --example verify_file -- model.onnx`

use std::path::Path;

use anyhow::{Context, Result};
use cohort::config::EngineName;
use cohort::engine::{EngineOptions, open};
use cohort::onnx::{OnnxFile, findings};
use cohort::ui::{Ui, out};
use cohort::verify::{Candidate, ReferenceKind, Truths, Verification, input_sets, verify};

fn main() -> Result<()> {
    let path = std::env::args().nth(1).context("usage: verify_file FILE.onnx")?;
    let file = OnnxFile::load(Path::new(&path))?;
    let image = file.contract.image_input(None).context("the image size is not fixed in the file")?;

    let unoptimised = EngineOptions { optimize: false, ..EngineOptions::default() };
    let mut reference = open(&file, EngineName::OrtCpu, &unoptimised)?;
    let options = EngineOptions::default();
    let tract =
        Candidate { engine: EngineName::Tract, loaded: open(&file, EngineName::Tract, &options), options };
    let inputs = input_sets(None, &image, 7);
    let truths = Truths::of(
        "ONNX Runtime, not optimised",
        ReferenceKind::Engine,
        &inputs,
        file.contract.batch(),
        &mut |images| Ok(reference.run(images)?[0].mapv(f64::from)),
    )?;
    let report = verify(&mut Verification {
        model: path,
        findings: findings(&file),
        truths: &truths,
        engines: vec![tract],
        inputs: &inputs,
        accuracy: None,
        fixed_batch: file.contract.batch(),
        precision: file.contract.precision,
        progress: &Ui::detect(false),
    });
    for set in &report.engines[0].sets {
        out(format!("{:<12} largest error {:.2e}, top-1 agreement {:.3}", set.set, set.max_abs, set.top1))?;
    }
    out(report.verdict)
}
