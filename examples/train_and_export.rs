//! Trains two students together on the built-in digits and exports the smaller one.
//!
//! `cargo run --release --example train_and_export -- digits.onnx`

use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use anyhow::{Context, Result};
use cohort::config::{
    Data, Device, Digits, Keep, LossWeights, Method, Optimizer, Precision, Schedule, Source, Updates,
};
use cohort::contract::{ChannelOrder, PixelRange, Resize};
use cohort::graph::{Model, fold_batch_norm};
use cohort::onnx::{Metadata, emit, plain_contract};
use cohort::train::{Job, Start, train};
use cohort::ui::Ui;
use cohort::{data, zoo};

fn main() -> Result<()> {
    let target = PathBuf::from(std::env::args().nth(1).context("usage: train_and_export FILE.onnx")?);
    let settings = Data {
        source: Source::Digits(Digits {}),
        validation: 0.15,
        images: None,
        augment: Vec::new(),
        workers: 1,
    };
    let here = Path::new(".");
    let images = data::load(&settings, here, 7)?;

    let mut graphs = Vec::new();
    for name in ["resnet14", "resnet8"] {
        let model = zoo::find_model(name, here)?;
        graphs.push((name, zoo::build(&model, images.info.shape, images.info.classes.len())?));
    }
    let students = graphs
        .iter()
        .map(|(name, graph)| Start {
            name,
            model: Model::untrained(graph.clone(), 7),
            frozen: None,
            lr_factor: 1.0,
        })
        .collect();
    let scratch = tempfile::tempdir()?;
    let outcome = train(&Job {
        stage: "mutual",
        key: "example",
        students,
        terms: Method::Dml.terms(&LossWeights::default()),
        updates: Updates::default(),
        teacher: None,
        ramp_epochs: 0,
        precision: Precision::default(),
        data: &images,
        augment: &[],
        workers: 1,
        epochs: 5,
        batch: 64,
        keep: Keep::Best,
        validate_every: 1,
        optimizer: &Optimizer::default(),
        schedule: &Schedule::default(),
        device: Device::Auto,
        seed: 7,
        checkpoint: &scratch.path().join("checkpoint"),
        metrics: &scratch.path().join("metrics.jsonl"),
        progress: &Ui::detect(false),
        stop: &AtomicBool::new(false),
        resume: "the same command",
    })?;

    let (student, (_, graph)) = outcome.students.iter().zip(&graphs).next_back().context("two students")?;
    let model = fold_batch_norm(&Model::new(graph.clone(), student.weights.clone())?)?;
    let metadata = Metadata {
        classes: images.info.classes.clone(),
        input: images.info.shape,
        channel_order: ChannelOrder::decoded(images.info.shape[0]),
        resize: Resize::default(),
        range: PixelRange::default(),
        mean: images.normalization.mean.clone(),
        std: images.normalization.std.clone(),
        normalizes: None,
        accuracy: None,
        student: student.name.clone(),
        run: "example".into(),
    };
    let bytes = emit(&model, &plain_contract(model.graph()), Some(&metadata))?;
    cohort::files::write_atomic(&target, &bytes)?;
    let accuracy = 100.0 * student.validation.accuracy;
    cohort::ui::out(format!("{}: {accuracy:.2} % on validation, {}", student.name, target.display()))
}
