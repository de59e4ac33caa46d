//! Imports every ONNX file of a folder and holds it, in float64, against ONNX Runtime:
//! `cargo run --release --example import_folder -- FOLDER [IMAGES]`
//!
//! Files are named MODEL.EXPORTER.BATCH.onnx, as `scripts/foreign-models.py` does.

use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result};
use cohort::config::EngineName;
use cohort::engine::torch::Truth;
use cohort::engine::{EngineOptions, open};
use cohort::graph::cost;
use cohort::onnx::{OnnxFile, import};
use cohort::ui::out;
use ndarray::{ArrayD, Axis, Slice};

/// The largest relative error that is taken for rounding.
const LIMIT: f64 = 1e-4;

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let folder = PathBuf::from(arguments.next().context("usage: import_folder FOLDER [IMAGES]")?);
    let images = arguments.next().map_or(Ok(2), |count| count.parse())?;
    let mut paths = std::fs::read_dir(&folder)?.map(|entry| Ok(entry?.path())).collect::<Result<Vec<_>>>()?;
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "onnx"));
    paths.sort();
    out("| model | exporter | batch | nodes | parameters | imported in ms | largest relative error |")?;
    out("| --- | --- | --- | ---: | ---: | ---: | ---: |")?;
    let mut failed = 0;
    for path in &paths {
        let row = compared(path, images);
        let (cells, good) = match row {
            Ok((cells, error)) => (cells, error <= LIMIT),
            Err(error) => (format!("– | – | – | {error:#}"), false),
        };
        failed += usize::from(!good);
        let stem = path.file_stem().unwrap_or_default().to_string_lossy();
        let name = stem.split('.').chain(["", ""]).take(3).collect::<Vec<_>>().join(" | ");
        out(format!("| {name} | {cells} |"))?;
    }
    out(format!("\n{} of {} files within {LIMIT:.0e}", paths.len() - failed, paths.len()))?;
    anyhow::ensure!(failed == 0 && !paths.is_empty(), "{failed} files failed");
    Ok(())
}

fn compared(path: &Path, images: usize) -> Result<(String, f64)> {
    let file = OnnxFile::load(path)?;
    let start = Instant::now();
    let imported = import(&file)?;
    let import_ms = start.elapsed().as_secs_f64() * 1e3;
    let [channels, height, width] = file.image_shape().context("the image size is not fixed")?;
    // A plain sequence of numbers that fills all images.
    let images = ArrayD::from_shape_fn(vec![images, channels, height, width], |at| {
        let index = ((at[0] * channels + at[1]) * height + at[2]) * width + at[3];
        ((index as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40) as f32 / (1 << 23) as f32 - 1.0
    });
    let mut engine = open(&file, EngineName::OrtCpu, &EngineOptions::default())?;
    let truth = Truth::new(&imported.graph, &imported.weights)?;
    let mut error = 0f64;
    let size = file.fixed_batch().unwrap_or(images.shape()[0]);
    for start in (0..images.shape()[0]).step_by(size) {
        let batch = images.slice_axis(Axis(0), Slice::from(start..start + size));
        let found = engine.run(batch.view())?.into_iter().next().context("the engine gives no output")?;
        let truth = imported.ending.apply(truth.logits(batch.view())?);
        let largest = truth.iter().fold(0f64, |largest, value| largest.max(value.abs()));
        let differences = truth.iter().zip(&found).map(|(truth, &found)| (truth - f64::from(found)).abs());
        error = differences.fold(error, |worst, next| worst.max(next / largest));
    }
    let (nodes, params) = (imported.graph.nodes().len(), cost(&imported.graph).params);
    Ok((format!("{nodes} | {params} | {import_ms:.0} | {error:.1e}"), error))
}
