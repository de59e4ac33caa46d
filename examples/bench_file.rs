//! Measures an ONNX file under ONNX Runtime and tract.
//!
//! `cargo run --release --example bench_file -- model.onnx`

use std::path::Path;
use std::sync::atomic::AtomicBool;

use anyhow::{Context, Result};
use cohort::bench::{Job, ModelFacts, Subject, bench};
use cohort::config::{Bench, EngineName};
use cohort::engine::open;
use cohort::onnx::OnnxFile;
use cohort::report::bench_screen;
use cohort::ui::{Ui, out};

fn main() -> Result<()> {
    let path = std::env::args().nth(1).context("usage: bench_file FILE.onnx")?;
    let file = OnnxFile::load(Path::new(&path))?;
    let sample = file.contract.sample_shape().context("the sizes of its input are not fixed in the file")?;
    let subject = Subject {
        file: &file,
        model: ModelFacts::of(&file, "model".into(), sample),
        pictures: None,
        open: Box::new(|engine, options| open(&file, engine, options)),
    };
    let settings = Bench {
        engines: vec![EngineName::OrtCpu, EngineName::Tract],
        batch: vec![1],
        min_samples: 300,
        min_seconds: 1.0,
        ..Bench::default()
    };
    let stop = AtomicBool::new(false);
    let job =
        Job { baseline: "model".into(), seed: 7, progress: &Ui::detect(false), stop: &stop, program: None };
    out(bench_screen(&bench(&[subject], &settings, &job)?))
}
