//! `cohort inspect`: lists layers, shapes, parameters and MACs of a model.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use anyhow::Result;
use serde::Serialize;

use crate::contract::Dim;
use crate::engine::tract::tensor_shapes;
use crate::error::InputError;
use crate::files::write_atomic;
use crate::graph::{Model, fold_batch_norm};
use crate::onnx::{LayerRow, Metadata, OnnxFile, Summary, Totals, emit, graph_rows, import, plain_contract};
use crate::progress::Progress;
use crate::report::{count, node_name, plain_table};
use crate::ui::{out, out_json};
use crate::zoo;

use super::Common;

/// Seed for untrained weights.
const SEED: u64 = 0;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// An ONNX file, a model file, or the name of a ready architecture
    pub model: String,
    /// Number of classes for a model file
    #[arg(long, default_value_t = 10)]
    pub classes: usize,
    /// Image size for a model file, or for an ONNX file with free sizes
    #[arg(long, value_name = "CxHxW", default_value = "3x32x32", value_parser = parse_input)]
    pub input: [usize; 3],
    /// Also write the model file's untrained network as ONNX, to measure its latency before training
    #[arg(long, value_name = "FILE.onnx")]
    pub onnx: Option<PathBuf>,
}

#[derive(Serialize)]
struct Inspected<'a> {
    model: &'a str,
    input: Vec<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    file: Option<Summary>,
    #[serde(skip_serializing_if = "Option::is_none")]
    metadata: Option<Metadata>,
    totals: Totals,
    layers: Vec<LayerRow>,
}

/// Prints the layers of a model.
///
/// # Errors
/// [`InputError`] if there is no such model, if it cannot be read, or if the file cannot be written.
pub fn run(args: &Args, common: &Common) -> Result<()> {
    let inspected = if args.model.ends_with(".onnx") {
        if args.onnx.is_some() {
            return Err(InputError::new(format!("{} is already an ONNX file", args.model))
                .hint("give --onnx with a model file or the name of a ready architecture")
                .into());
        }
        let file = OnnxFile::load(Path::new(&args.model))?;
        let input = sample(&file, args.input, &common.ui());
        let layers = file.rows(&shapes(&file, &input, &common.ui()));
        Inspected {
            model: &args.model,
            input,
            file: Some(file.summary()),
            metadata: file.metadata.clone(),
            totals: Totals::of(&layers),
            layers,
        }
    } else {
        let model = zoo::find_model(&args.model, Path::new("."))?;
        let graph = zoo::build(&model, args.input, args.classes)?;
        if let Some(path) = &args.onnx {
            let model = fold_batch_norm(&Model::untrained(graph.clone(), SEED))?;
            write_atomic(path, &emit(&model, &plain_contract(model.graph()), None)?)?;
        }
        let layers = graph_rows(&graph);
        let totals = Totals::of(&layers);
        Inspected {
            model: &args.model,
            input: args.input.to_vec(),
            file: None,
            metadata: None,
            totals,
            layers,
        }
    };
    if common.json { out_json(&inspected) } else { out(text(&inspected)) }
}

/// Sizes of one sample's axes: the file's own, and those of `--input` where the file leaves them free.
fn sample(file: &OnnxFile, input: [usize; 3], progress: &dyn Progress) -> Vec<usize> {
    let axes = file.contract.input.dims.get(1..).unwrap_or_default();
    let input = file.contract.layout.ordered(input);
    if axes.is_empty() {
        progress.note("the file declares no sizes for its input; shapes are those for --input");
        return input.to_vec();
    }
    let size = |(axis, dim): (usize, &Dim)| match dim {
        Dim::Fixed(size) => *size,
        Dim::Symbolic(_) => input.get(axis).copied().filter(|_| axes.len() == input.len()).unwrap_or(1),
    };
    let sample: Vec<usize> = axes.iter().enumerate().map(size).collect();
    if file.contract.sample_shape().is_none() {
        let sizes = sample.iter().map(usize::to_string).collect::<Vec<_>>().join("x");
        progress
            .note(format!("the file leaves sizes of its input free; shapes are those for --input {sizes}"));
    }
    sample
}

/// Shapes of the file's tensors by name for a batch of one, as far as tract or import can tell them.
fn shapes(file: &OnnxFile, sample: &[usize], progress: &dyn Progress) -> HashMap<String, Vec<usize>> {
    let by_tract = tensor_shapes(file, sample);
    let by_import = file.clone().with_sizes(None, sample).and_then(|sized| import(&sized));
    if let (Err(problem), Err(_)) = (&by_tract, &by_import) {
        progress.warn(format!("not every shape is known: {problem:#}"));
    }
    let mut shapes = by_tract.unwrap_or_default();
    if let Ok(import) = by_import {
        let graph = import.model.graph();
        for (tensor, id) in import.tensors {
            shapes.entry(tensor).or_insert_with(|| [&[1], graph.node(id).shape.as_slice()].concat());
        }
    }
    shapes
}

fn parse_input(text: &str) -> Result<[usize; 3], InputError> {
    let sizes: Option<Vec<usize>> =
        text.split('x').map(|size| size.parse().ok().filter(|&size| size > 0)).collect();
    let sizes = sizes.and_then(|sizes| <[usize; 3]>::try_from(sizes).ok());
    sizes
        .ok_or_else(|| InputError::new(format!("'{text}' is not channels x height x width, such as 3x32x32")))
}

/// Describes how the file's images are prepared, in the terms of its metadata.
fn prepared(metadata: &Metadata) -> String {
    let word = |value: serde_json::Result<serde_json::Value>| {
        value.ok().and_then(|value| value.as_str().map(String::from)).unwrap_or_default()
    };
    let order = word(serde_json::to_value(metadata.channel_order));
    let (resize, range) =
        (word(serde_json::to_value(metadata.resize)), word(serde_json::to_value(metadata.range)));
    let (mean, std) = (&metadata.mean, &metadata.std);
    format!("\nimages {order}, {resize}, {range}, mean {mean:?}, std {std:?}")
}

fn text(inspected: &Inspected<'_>) -> String {
    let rows: Vec<Vec<String>> = inspected
        .layers
        .iter()
        .map(|row| {
            let shape = row.shape.as_ref().map_or("?".into(), |shape| {
                shape.iter().map(ToString::to_string).collect::<Vec<_>>().join("x")
            });
            let macs = row.macs.map_or("?".into(), count);
            vec![node_name(&row.name), row.op.clone(), shape, count(row.params), macs]
        })
        .collect();
    let sizes: Vec<String> = inspected.input.iter().map(ToString::to_string).collect();
    let sample = if sizes.len() == 3 { "image" } else { "sample" };
    let mut text = format!(
        "{}\n\n{}: {sample} {}, {} parameters, {} MACs each",
        plain_table(&["layer", "operation", "shape", "parameters", "MACs"], &rows),
        inspected.model,
        sizes.join("x"),
        count(inspected.totals.params),
        count(inspected.totals.macs)
    );
    if let Some(file) = &inspected.file {
        text += &format!(
            "\nONNX opset {}, IR {}, {} bytes, by {}",
            file.opset,
            file.ir_version,
            count(file.bytes),
            file.producer
        );
    }
    if let Some(metadata) = &inspected.metadata {
        let (run, student, classes) = (&metadata.run, &metadata.student, metadata.classes.len());
        text += &format!("\nstudent '{student}' of run '{run}', {classes} classes");
        text += &prepared(metadata);
        if let Some(scored) = metadata.score {
            let (right, images, split) = (scored.right, scored.images, scored.split.name());
            text +=
                &format!("\n{right} of {images} {split} images correct ({:.2} %)", 100.0 * scored.share());
        }
    }
    text
}
