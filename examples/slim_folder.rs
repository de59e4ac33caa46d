//! Slims every ONNX file of a folder to half of its channels, writes it again and compares all engines with the slim network
//! in float64: `cargo run --release --example slim_folder -- FOLDER [WIDTH]`
//!
//! Channels with the smallest weights go. Latency is the median of a few runs of one image, the whole and the slim file in
//! turns. It fails if a slim file is wrong in an engine.

use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use cohort::bench::usable_threads;
use cohort::config::EngineName;
use cohort::engine::torch::Truth;
use cohort::engine::{Engine, EngineOptions, open};
use cohort::graph::{Coupling, Model, Weights, cost};
use cohort::onnx::{OnnxFile, emit, findings, import, plain_contract};
use cohort::ui::{Ui, out};
use cohort::verify::{
    Amount, ConfiguredEngine, InputSet, ReferenceKind, Truths, Verification, evaluations, verify,
};
use ndarray::ArrayD;

const ENGINES: [EngineName; 2] = [EngineName::OrtCpu, EngineName::Tract];

/// Timed runs of each file.
const RUNS: usize = 9;

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let folder = PathBuf::from(arguments.next().context("usage: slim_folder FOLDER [WIDTH]")?);
    let width = arguments.next().map_or(Ok(0.5), |width| width.parse())?;
    let mut paths = std::fs::read_dir(&folder)?.map(|entry| Ok(entry?.path())).collect::<Result<Vec<_>>>()?;
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "onnx"));
    paths.sort();
    out(
        "| file | groups | layers that stay | M parameters | GMACs | engines | error | ort-cpu ms | tract ms |",
    )?;
    out("| --- | ---: | --- | --- | --- | --- | ---: | --- | --- |")?;
    let mut wrong = Vec::new();
    for path in &paths {
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        match slimmed(path, width) {
            Ok((cells, passed)) => {
                out(format!("| {name} | {cells} |"))?;
                wrong.extend((!passed).then_some(name));
            }
            Err(error) => {
                out(format!("| {name} | {error:#} |"))?;
                wrong.push(name);
            }
        }
    }
    ensure!(wrong.is_empty(), "wrong: {}", wrong.join(", "));
    Ok(())
}

/// The squares of all weights.
fn squares(model: &Model) -> Weights {
    let mut squares = Weights::new();
    for (name, array) in model.weights().iter() {
        squares.insert(name, array.mapv(|value| value * value));
    }
    squares
}

fn slimmed(path: &Path, width: f64) -> Result<(String, bool)> {
    let file = OnnxFile::load(path)?;
    let whole = import(&file)?.model;
    let coupling = Coupling::of(whole.graph());
    let importance = coupling.importance(whole.graph(), &squares(&whole));
    let slim = coupling.keep(&whole, &coupling.best(&importance, &coupling.uniform(width)))?;
    let slim_file =
        OnnxFile::from_bytes(emit(&slim, &plain_contract(slim.graph()), None)?, Path::new("slim.onnx"))?;
    let (right, ways, error) = compared(&slim, &slim_file)?;
    let mut cells = vec![coupling.groups().len().to_string(), stays(&coupling)];
    let [before, after] = [&whole, &slim].map(|model| cost(model.graph()));
    cells.push(format!("{:.2} → {:.2}", before.params as f64 / 1e6, after.params as f64 / 1e6));
    cells.push(format!("{:.3} → {:.3}", before.macs as f64 / 1e9, after.macs as f64 / 1e9));
    cells.push(format!("{right} of {ways}"));
    cells.push(format!("{error:.1e}"));
    let image = images(&slim, 1);
    for engine in ENGINES {
        let open = |file| {
            open(file, engine, &EngineOptions { threads: usable_threads(), ..EngineOptions::default() })
        };
        let [before, after] = in_turns([open(&file)?, open(&slim_file)?], &image)?;
        cells.push(format!("{before:.1} → {after:.1}"));
    }
    Ok((cells.join(" | "), right == ways))
}

/// The layers that keep channels, by reason.
fn stays(coupling: &Coupling) -> String {
    let mut kinds: Vec<(String, usize)> = Vec::new();
    for whole in coupling.whole() {
        let kind =
            whole.reason.split_once('(').map_or(whole.reason.as_str(), |(_, kind)| kind).replace(')', "");
        match kinds.iter_mut().find(|(known, _)| *known == kind) {
            Some((_, count)) => *count += 1,
            None => kinds.push((kind, 1)),
        }
    }
    let kinds: Vec<String> = kinds.into_iter().map(|(kind, count)| format!("{count}: {kind}")).collect();
    if kinds.is_empty() { "none".into() } else { kinds.join("; ") }
}

/// Images filled with a multiplicative hash of the index.
fn images(model: &Model, count: usize) -> ArrayD<f32> {
    let mut index = 0u64;
    ArrayD::from_shape_simple_fn([&[count][..], model.graph().input_shape()].concat(), || {
        index += 1;
        (index.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40) as f32 / (1 << 23) as f32 - 1.0
    })
}

/// How many configurations of the engines are within their tolerance of the network in float64, how many there are, and the
/// largest error divided by the largest logit.
fn compared(model: &Model, file: &OnnxFile) -> Result<(usize, usize, f64)> {
    let inputs = [InputSet { name: "noise", images: images(model, 2), gates: true }];
    let truth = Truth::new(model)?;
    let name = "slim network, libtorch float64";
    let truths = Truths::of(name, ReferenceKind::File, &inputs, None, &mut |images| truth.logits(images))?;
    let mut engines = Vec::new();
    for engine in ENGINES {
        for options in EngineOptions::ways(engine, usable_threads()) {
            let loaded = open(file, engine, &options);
            engines.push(ConfiguredEngine::new(engine, options, loaded, &file.contract));
        }
    }
    let evaluations = evaluations(model);
    let report = verify(&mut Verification {
        model: file.path.display().to_string(),
        findings: findings(file),
        truths: &truths,
        engines: &mut engines,
        inputs: &inputs,
        scoring: None,
        fixed_batch: None,
        precision: file.contract.precision,
        rounding: Some(&evaluations),
        amount: Amount::default(),
        progress: &Ui::detect(true),
    });
    let largest = truths.logits[0].iter().fold(0f64, |largest, value| largest.max(value.abs()));
    let sets = report.engines.iter().flat_map(|engine| &engine.sets);
    let error = sets.fold(0f64, |worst, set| worst.max(set.max_abs / largest));
    let right = report.engines.iter().filter(|engine| engine.passed).count();
    Ok((right, report.engines.len(), error))
}

/// The median milliseconds of a run of each engine.
fn in_turns(mut engines: [Box<dyn Engine>; 2], image: &ArrayD<f32>) -> Result<[f64; 2]> {
    let mut times = [Vec::new(), Vec::new()];
    for run in 0..RUNS + 2 {
        for (engine, times) in engines.iter_mut().zip(&mut times) {
            let start = Instant::now();
            engine.run(image.view())?;
            if run > 1 {
                times.push(start.elapsed().as_secs_f64() * 1e3);
            }
        }
    }
    Ok(times.map(|mut times| {
        times.sort_by(f64::total_cmp);
        times[times.len() / 2]
    }))
}
