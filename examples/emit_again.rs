//! Emits every ONNX file of a folder again and compares how fast both run, on one thread.
//!
//! `cargo run --release --example emit_again -- FOLDER [MODEL ...]`
//!
//! Each file is imported, BatchNorm is folded, and what is emitted takes turns with the original in ONNX Runtime and in
//! tract, at batch 1 and 8. A ratio below 1 says that the emitted file is faster. Files that fix their batch, or that are
//! not imported, are left out.

use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use cohort::bench::median;
use cohort::config::EngineName;
use cohort::engine::{Engine, EngineOptions, open};
use cohort::graph::fold_batch_norm;
use cohort::onnx::{EmitOptions, OnnxFile, emit, import};
use cohort::ui::out;
use ndarray::ArrayD;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

/// Rounds of a cell; in each, both files have a turn.
const ROUNDS: usize = 25;

/// Seconds of a turn, at least; it has at least one run.
const TURN_SECONDS: f64 = 0.02;

/// Resamples behind an interval.
const RESAMPLES: usize = 2_000;

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
        if original.fixed_batch().is_some() {
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
    let (graph, weights) = fold_batch_norm(&imported.graph, &imported.weights)?;
    OnnxFile::from_bytes(emit(&graph, &weights, None, &EmitOptions::default())?, Path::new("emitted.onnx"))
}

/// Medians of both files, the median of the rounds' ratios with its interval, and what that says.
fn cell(original: &OnnxFile, emitted: &OnnxFile, engine: EngineName, batch: usize) -> Result<String> {
    let [channels, height, width] = original.image_shape().context("the image size is not fixed")?;
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
        // Whoever comes second finds the caches filled by the other: each does so in half of the rounds.
        for place in [round % 2, 1 - round % 2] {
            times[place].push(turn(engines[place].as_mut())?);
        }
    }
    let ratios: Vec<f64> =
        times[1].iter().zip(&times[0]).map(|(emitted, original)| emitted / original).collect();
    let [low, high] = interval(&ratios);
    let says = if high < 1.0 {
        "faster"
    } else if low > 1.0 {
        "SLOWER"
    } else {
        "same"
    };
    let ms = |times: &[f64]| 1e3 * median(times);
    Ok(format!(
        "{:.3} | {:.3} | {:.3} ({low:.3} to {high:.3}) | {says}",
        ms(&times[0]),
        ms(&times[1]),
        median(&ratios)
    ))
}

/// The fastest of the runs of a turn, in seconds: what disturbs a run makes it slower, never faster.
fn turn(engine: &mut dyn Engine) -> Result<f64> {
    let (whole, mut fastest) = (Instant::now(), f64::INFINITY);
    while fastest.is_infinite() || whole.elapsed().as_secs_f64() < TURN_SECONDS {
        let start = Instant::now();
        engine.run_bound()?;
        fastest = fastest.min(start.elapsed().as_secs_f64());
    }
    Ok(fastest)
}

/// Bootstrap interval of the median.
fn interval(ratios: &[f64]) -> [f64; 2] {
    let mut rng = ChaCha8Rng::seed_from_u64(7);
    let mut draw = || ratios[((u64::from(rng.next_u32()) * ratios.len() as u64) >> 32) as usize];
    let mut medians: Vec<f64> =
        (0..RESAMPLES).map(|_| median(&ratios.iter().map(|_| draw()).collect::<Vec<_>>())).collect();
    medians.sort_by(f64::total_cmp);
    [medians[RESAMPLES / 40], medians[RESAMPLES - 1 - RESAMPLES / 40]]
}
