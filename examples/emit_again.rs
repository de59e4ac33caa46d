//! Emits every ONNX file of a folder again and compares how fast both run, on one thread.
//!
//! `cargo run --release --example emit_again -- FOLDER [MODEL ...]`
//!
//! Each file is imported, BatchNorm is folded, and the emitted file takes turns with the original in ONNX Runtime and
//! tract, at batch 1 and 8. A ratio below 1 means that the emitted file is faster. Files with a fixed batch, and those that
//! cannot be imported, are left out.

use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use cohort::bench::{Ratio, median, paired_ratio};
use cohort::config::EngineName;
use cohort::engine::{Engine, EngineOptions, open};
use cohort::graph::fold_batch_norm;
use cohort::onnx::{OnnxFile, emit, import, plain_contract};
use cohort::ui::out;
use ndarray::ArrayD;

/// Rounds per cell; both files have a turn in each.
const ROUNDS: usize = 25;

/// Minimum seconds per turn; a turn has at least one run.
const TURN_SECONDS: f64 = 0.05;

/// Confidence level of the intervals.
const SEED: u64 = 7;

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let folder = PathBuf::from(arguments.next().context("usage: emit_again FOLDER [MODEL ...]")?);
    let wanted: Vec<String> = arguments.collect();
    let mut paths = std::fs::read_dir(&folder)?.map(|entry| Ok(entry?.path())).collect::<Result<Vec<_>>>()?;
    paths.retain(|path| {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let chosen = wanted.is_empty() || wanted.iter().any(|model| name.starts_with(&format!("{model}.")));
        name.ends_with(".onnx") && chosen
    });
    paths.sort();
    ensure!(!paths.is_empty(), "{} holds no such ONNX files", folder.display());
    out("| file | engine | batch | original, ms | emitted, ms | emitted / original (95 % interval) | |")?;
    out("| --- | --- | ---: | ---: | ---: | ---: | --- |")?;
    for path in &paths {
        let original = OnnxFile::load(path)?;
        if original.contract.batch().is_some() {
            continue;
        }
        let emitted = match emitted_again(&original) {
            Ok(emitted) => emitted,
            Err(error) => {
                out(format!("| {} | not imported: {error:#} | | | | | |", name(path)))?;
                continue;
            }
        };
        for engine in [EngineName::OrtCpu, EngineName::Tract] {
            for batch in [1, 8] {
                out(format!(
                    "| {} | {} | {batch} | {} |",
                    name(path),
                    engine.key(),
                    cell(&original, &emitted, engine, batch)?
                ))?;
            }
        }
    }
    Ok(())
}

fn name(path: &Path) -> String {
    path.file_stem().unwrap_or_default().to_string_lossy().into_owned()
}

fn emitted_again(original: &OnnxFile) -> Result<OnnxFile> {
    let imported = import(original)?;
    let folded = fold_batch_norm(&imported.model)?;
    OnnxFile::from_bytes(emit(&folded, &plain_contract(folded.graph()), None)?, Path::new("emitted.onnx"))
}

/// Medians of both files, and the median ratio of the rounds with its interval and a verdict.
fn cell(original: &OnnxFile, emitted: &OnnxFile, engine: EngineName, batch: usize) -> Result<String> {
    let [channels, height, width] = original.contract.image_shape().context("the image size is not fixed")?;
    let images = ArrayD::from_shape_fn(vec![batch, channels, height, width], |at| {
        ((at[0] * 31 + at[1] * 17 + at[2] * 7 + at[3] * 3) % 101) as f32 / 50.0 - 1.0
    });
    let mut engines = Vec::new();
    for file in [original, emitted] {
        let mut loaded = open(file, engine, &EngineOptions::default())?;
        loaded.bind(images.view())?;
        turn(loaded.as_mut())?;
        engines.push(loaded);
    }
    let mut times = [Vec::new(), Vec::new()];
    for round in 0..ROUNDS {
        // The second one finds caches filled by the first, so the order changes with every round.
        for place in [round % 2, 1 - round % 2] {
            times[place].push(turn(engines[place].as_mut())?);
        }
    }
    let ratio = paired_ratio(&times[1], &times[0], SEED).context("there are rounds enough")?;
    let Ratio { value, low, high } = ratio;
    let says = match (ratio.is_distinguishable(), value < 1.0) {
        (true, true) => "faster",
        (true, false) => "SLOWER",
        (false, _) => "same",
    };
    let ms = |times: &[f64]| 1e3 * median(times);
    Ok(format!("{:.3} | {:.3} | {value:.3} ({low:.3} to {high:.3}) | {says}", ms(&times[0]), ms(&times[1])))
}

/// Median time of a run in one turn, in seconds.
fn turn(engine: &mut dyn Engine) -> Result<f64> {
    let whole = Instant::now();
    let mut times = Vec::new();
    while times.is_empty() || whole.elapsed().as_secs_f64() < TURN_SECONDS {
        let start = Instant::now();
        engine.run_bound()?;
        times.push(start.elapsed().as_secs_f64());
    }
    Ok(median(&times))
}
