//! `cohort predict`: classifies images with an exported model, prepared as its metadata says.

use std::path::PathBuf;

use anyhow::{Context, Result};
use serde::Serialize;

use crate::bench::usable_threads;
use crate::config::{Prepare, Truncated};
use crate::contract::{Dim, Element, PixelRange, Preparation};
use crate::data::{prepared_image, unreadable};
use crate::engine::{EngineOptions, open};
use crate::error::{InputError, hint_of};
use crate::onnx::OnnxFile;
use crate::plan::preparation;
use crate::task::ranked;
use crate::ui::{out, out_json};

use super::Common;
use super::images::image_files;
use super::preparing::Preparing;

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
    #[command(flatten)]
    pub preparing: Preparing,
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
    let mut file = OnnxFile::load(&args.model)?;
    if let Some(sizes) = args.preparing.sizes(&args.model)? {
        file = file.with_sizes(None, &sizes)?;
    }
    let Images { preparation, shape, classes } = images(&file, &args.preparing)?;
    let engine = common.engines(args.engine.as_slice())?[0];
    let options = EngineOptions { threads: usable_threads(), ..EngineOptions::default() };
    let mut engine = open(&file, engine, &options)?;
    let (answer, kind) = (file.contract.answer, file.contract.answer().kind);
    let truncated = if args.allow_truncated { Truncated::Allow } else { Truncated::Refuse };
    let mut predictions = Vec::new();
    let mut problems = Vec::new();
    for path in image_files(&args.images, &common.ui())? {
        let image = match prepared_image(&preparation, &path, shape, truncated) {
            Ok(image) => image,
            Err(error) => {
                problems.push(error);
                continue;
            }
        };
        let outputs = engine.run(image.view())?;
        let row: Vec<f64> =
            outputs.get(answer).context("the model has no output")?.iter().map(|&z| z.into()).collect();
        let classes = likeliest(kind.probabilities(&row), &classes, args.top);
        predictions.push(Prediction { image: path.display().to_string(), classes });
    }
    match (predictions.is_empty(), common.json) {
        (true, _) => {}
        (false, true) => out_json(&predictions)?,
        (false, false) => out(text(&predictions))?,
    }
    told(problems)
}

/// The images that could not be read, in one error.
fn told(mut problems: Vec<anyhow::Error>) -> Result<()> {
    if problems.len() < 2 {
        return problems.pop().map_or(Ok(()), Err);
    }
    let lines: Vec<String> = problems.iter().map(|problem| format!("{problem:#}")).collect();
    let hint = problems.iter().find_map(hint_of).unwrap_or("replace the files or remove them");
    Err(unreadable(&lines).hint(hint).into())
}

/// What a file does with images.
struct Images {
    preparation: Preparation,
    /// `[channels, height, width]`.
    shape: [usize; 3],
    /// Names in the order of the scores; numbers take the place of those that are missing.
    classes: Vec<String>,
}

/// What the file says of its images; what the user says takes precedence.
fn images(file: &OnnxFile, given: &Preparing) -> Result<Images> {
    let contract = &file.contract;
    let name = file.path.display();
    let shape = match (contract.image_shape(), &file.metadata) {
        (Some(shape), _) => contract.layout.planar(shape),
        (None, Some(metadata)) => metadata.input,
        (None, None) => {
            return Err(InputError::new(format!("{name} leaves sizes of its input free"))
                .hint("give the size of one image: --size 224, or --shape 3x224x224")
                .into());
        }
    };
    let known = match &file.metadata {
        Some(metadata) => Some(metadata.preparation(contract.layout)),
        None => contract.preparation.clone(),
    };
    let like = known.clone().unwrap_or_else(|| Preparation::bytes(shape[0], contract.layout));
    let said = given.mean.is_some() && given.std.is_some();
    let bytes = matches!(contract.input.element, Element::Integer { .. });
    if known.is_none() && !said && !bytes {
        return Err(InputError::new(format!("{name} does not say how its images are prepared"))
            .hint(
                "give --mean and --std, such as --mean 0.485,0.456,0.406 --std 0.229,0.224,0.225, and where they differ --range, \
                 --channel-order and --fit; --labels names the classes",
            )
            .into());
    }
    let range = if known.is_some() || bytes { like.range } else { PixelRange::default() };
    let prepare = Prepare {
        mean: given.mean.clone().unwrap_or_else(|| like.normalization.mean.clone()),
        std: given.std.clone().unwrap_or_else(|| like.normalization.std.clone()),
        range: given.range.unwrap_or(range),
        order: given.channel_order.or(known.as_ref().map(|known| known.order)),
    };
    let classes = match given.classes()? {
        names if !names.is_empty() => names,
        _ => file
            .metadata
            .as_ref()
            .map_or_else(|| contract.classes.clone(), |metadata| metadata.classes.clone()),
    };
    let scores = contract.answer().tensor.dims.last();
    if let Some(Dim::Fixed(scores)) = scores
        && given.labels.is_some()
        && *scores != classes.len()
    {
        let problem = format!("{name} gives {scores} scores, and --labels has {} names", classes.len());
        return Err(InputError::new(problem).hint("give one name for each score, in their order").into());
    }
    let preparation = preparation(&prepare, contract, shape[0])?;
    Ok(Images {
        preparation: Preparation { fit: given.fit.unwrap_or(like.fit), ..preparation },
        shape,
        classes,
    })
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
