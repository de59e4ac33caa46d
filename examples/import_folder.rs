//! Imports every ONNX file of a folder and compares all engines with its own nodes in float64, as `cohort verify FILE`
//! does: `cargo run --release --example import_folder -- FOLDER [IMAGES]`
//!
//! Files are named MODEL.EXPORTER.BATCH.onnx, as `scripts/foreign-models.py` does. It fails unless all files of the
//! older exporter pass, and with the newer one nine models of ten.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use cohort::bench::usable_threads;
use cohort::config::EngineName;
use cohort::contract::Element;
use cohort::engine::torch::Truth;
use cohort::engine::{EngineOptions, open};
use cohort::onnx::{OnnxFile, findings, import};
use cohort::ui::{Ui, out};
use cohort::verify::{
    Amount, ConfiguredEngine, InputSet, ReferenceKind, Truths, Verification, VerifyReport, evaluations,
    verify,
};
use ndarray::ArrayD;

/// The largest relative error that counts as rounding where the fixed limits were enough.
const LIMIT: f64 = 1e-4;

const ENGINES: [EngineName; 2] = [EngineName::OrtCpu, EngineName::Tract];

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let folder = PathBuf::from(arguments.next().context("usage: import_folder FOLDER [IMAGES]")?);
    let images = arguments.next().map_or(Ok(2), |count| count.parse())?;
    let mut paths = std::fs::read_dir(&folder)?.map(|entry| Ok(entry?.path())).collect::<Result<Vec<_>>>()?;
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "onnx"));
    paths.sort();
    out("| model | exporter | batch | imported in ms | within tolerance | largest relative error | s |")?;
    out("| --- | --- | --- | ---: | --- | ---: | ---: |")?;
    // For each exporter and model, whether all its files pass.
    let mut models: BTreeMap<String, BTreeMap<String, bool>> = BTreeMap::new();
    let mut refusals = Vec::new();
    for path in &paths {
        let stem = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let [model, exporter, batch] = stem.split('.').collect::<Vec<_>>()[..] else {
            anyhow::bail!("{stem} is not named MODEL.EXPORTER.BATCH")
        };
        let (cells, passed) = match verified(path, images) {
            Ok(found) => (found.cells(), found.passed()),
            Err(error) => {
                refusals.push(format!("{error:#}"));
                ("refused | – | – | –".into(), false)
            }
        };
        *models.entry(exporter.into()).or_default().entry(model.into()).or_insert(true) &= passed;
        out(format!("| {model} | {exporter} | {batch} | {cells} |"))?;
    }
    refusals.iter().try_for_each(|refusal| out(format!("\n{refusal}")))?;
    ensure!(!models.is_empty(), "{} holds not an ONNX files", folder.display());
    let mut enough = true;
    for (exporter, models) in &models {
        let passed = models.values().filter(|passed| **passed).count();
        out(format!("\n{exporter}: {passed} of {} models pass", models.len()))?;
        let spared = if exporter == "dynamo" { models.len() / 10 } else { 0 };
        enough &= passed + spared >= models.len();
    }
    ensure!(enough, "too few models pass");
    Ok(())
}

/// The result for one file.
struct Found {
    import_ms: f64,
    report: VerifyReport,
    /// The largest error of an engine divided by the largest logit.
    error: f64,
    seconds: f64,
}

impl Found {
    fn passed(&self) -> bool {
        let mut sets = self.report.engines.iter().flat_map(|engine| &engine.sets);
        self.report.passed && (self.error <= LIMIT || sets.any(|set| set.rounding.is_some()))
    }

    fn cells(&self) -> String {
        let ways = |engine: EngineName| {
            let ways = self.report.engines.iter().filter(|report| report.engine == engine);
            let passed = ways.clone().filter(|report| report.passed).count();
            format!("{} {passed} of {}", engine.key(), ways.count())
        };
        let engines = ENGINES.map(ways).join(", ");
        let problems = self.report.problems().replace('\n', " ");
        format!("{:.0} | {engines}{problems} | {:.1e} | {:.1}", self.import_ms, self.error, self.seconds)
    }
}

fn verified(path: &Path, images: usize) -> Result<Found> {
    let whole = Instant::now();
    let file = OnnxFile::load(path)?;
    let start = Instant::now();
    let imported = import(&file)?;
    let import_ms = start.elapsed().as_secs_f64() * 1e3;
    let [channels, height, width] = file.contract.image_shape().context("the image size is not fixed")?;
    // The images are filled with a multiplicative hash of the index.
    let images = ArrayD::from_shape_fn(vec![images, channels, height, width], |at| {
        let index = ((at[0] * channels + at[1]) * height + at[2]) * width + at[3];
        let number = (index as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        match file.contract.input.element {
            Element::Integer { .. } => (number >> 57) as f32,
            Element::Float32 | Element::Float16 | Element::BFloat16 | Element::Float64 => {
                (number >> 40) as f32 / (1 << 23) as f32 - 1.0
            }
        }
    });
    let inputs = [InputSet { name: "noise", images, gates: true }];
    let truth = Truth::new(&imported.model)?;
    let truths = Truths::of(
        "file's own nodes, libtorch float64",
        ReferenceKind::File,
        &inputs,
        file.contract.batch(),
        &mut |images| Ok(imported.contract.answer().kind.of_logits(truth.logits(images)?)),
    )?;
    let mut engines = Vec::new();
    for engine in ENGINES {
        for options in EngineOptions::ways(engine, usable_threads()) {
            let loaded = open(&file, engine, &options);
            engines.push(ConfiguredEngine::new(engine, options, loaded, &file.contract));
        }
    }
    let evaluations = evaluations(&imported.model);
    let report = verify(&mut Verification {
        model: path.display().to_string(),
        findings: findings(&file),
        truths: &truths,
        engines: &mut engines,
        inputs: &inputs,
        scoring: None,
        fixed_batch: file.contract.batch(),
        precision: file.contract.precision,
        rounding: Some(&evaluations),
        amount: Amount::default(),
        progress: &Ui::detect(true),
    });
    let largest = truths.logits[0].iter().fold(0f64, |largest, value| largest.max(value.abs()));
    let sets = report.engines.iter().flat_map(|engine| &engine.sets);
    let error = sets.fold(0f64, |worst, set| worst.max(set.max_abs / largest));
    Ok(Found { import_ms, report, error, seconds: whole.elapsed().as_secs_f64() })
}
