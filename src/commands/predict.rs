//! `cohort predict`: classifies images with an exported model, prepared as its metadata says.

use std::path::PathBuf;

use anyhow::{Context, Result};
use serde::Serialize;

use crate::bench::usable_threads;
use crate::config::Truncated;
use crate::data::prepared_image;
use crate::engine::{EngineOptions, open};
use crate::error::InputError;
use crate::onnx::OnnxFile;
use crate::task::ranked;
use crate::ui::{out, out_json};

use super::Common;
use super::images::image_files;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// An exported ONNX file
    pub model: PathBuf,
    /// Image files, or folders of them at any depth
    #[arg(required = true)]
    pub images: Vec<PathBuf>,
    /// Number of classes shown per image
    #[arg(long, default_value_t = 5)]
    pub top: usize,
    /// Engine: ort-cpu, ort-cuda, tract [default: ort-cpu if available, else tract]
    #[arg(long)]
    pub engine: Option<String>,
    /// Fill what is missing of truncated JPEG files with grey
    #[arg(long)]
    pub allow_truncated: bool,
}

#[derive(Serialize)]
struct Prediction {
    image: String,
    classes: Vec<Class>,
}

#[derive(Serialize)]
struct Class {
    class: String,
    probability: f64,
}

/// Classifies every image and prints the most likely classes.
///
/// # Errors
/// [`InputError`] if the model or an image cannot be read.
pub fn run(args: &Args, common: &Common) -> Result<()> {
    let file = OnnxFile::load(&args.model)?;
    let metadata = file.metadata.clone().ok_or_else(|| {
        InputError::new(format!("{} does not say how its images are prepared", args.model.display()))
            .hint("`predict` takes files that `cohort run` exported")
    })?;
    let engine = common.engines(args.engine.as_slice())?[0];
    let options = EngineOptions { threads: usable_threads(), ..EngineOptions::default() };
    let mut engine = open(&file, engine, &options)?;
    let (answer, kind) = (file.contract.answer, file.contract.answer().kind);
    let preparation = metadata.preparation(file.contract.layout);
    let truncated = if args.allow_truncated { Truncated::Allow } else { Truncated::Refuse };
    let mut predictions = Vec::new();
    for path in image_files(&args.images, &common.ui())? {
        let image = prepared_image(&preparation, &path, metadata.input, truncated)?;
        let outputs = engine.run(image.view())?;
        let row: Vec<f64> =
            outputs.get(answer).context("the model has no output")?.iter().map(|&z| z.into()).collect();
        let classes = likeliest(kind.probabilities(&row), &metadata.classes, args.top);
        predictions.push(Prediction { image: path.display().to_string(), classes });
    }
    if common.json { out_json(&predictions) } else { out(text(&predictions)) }
}

/// Classes, the most likely first.
fn likeliest(probabilities: Vec<f64>, names: &[String], top: usize) -> Vec<Class> {
    let order = ranked(&probabilities);
    let name = |class: usize| names.get(class).cloned().unwrap_or_else(|| class.to_string());
    let class = |class: usize| Class { class: name(class), probability: probabilities[class] };
    order.into_iter().take(top).map(class).collect()
}

fn text(predictions: &[Prediction]) -> String {
    let lines = predictions.iter().map(|prediction| {
        let classes = prediction
            .classes
            .iter()
            .map(|class| format!("{} {:.1} %", class.class, 100.0 * class.probability));
        format!("{}: {}", prediction.image, classes.collect::<Vec<_>>().join(", "))
    });
    lines.collect::<Vec<_>>().join("\n")
}
