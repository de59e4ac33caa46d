//! Reads a run folder into a report.

use std::collections::BTreeMap;

use anyhow::{Context, Result};

use crate::bench::{BenchReport, Percentile};
use crate::folder::{Candidate, Choice, Kept, Manifest, Original, RunFolder, read_json};
use crate::stage::StageKind;
use crate::task::Score;
use crate::verify::{EngineReport, SetReport, VerifyReport};

use super::front::front;
use super::model::{
    BenchRow, Compression, EngineRow, OriginalRow, Report, SplitAccuracy, StudentRow, VerifyRow,
};

/// Collects the results of all stages.
///
/// # Errors
/// If the folder has no choice yet, or one of its files is damaged.
pub fn collect(folder: &RunFolder) -> Result<Report> {
    let manifest = Manifest::load(folder.root())?.context("the run folder has no manifest")?;
    let choice: Choice = read_json(&folder.choice())?;
    let tests: BTreeMap<String, Score> = read_if_there(&folder.test_scores())?.unwrap_or_default();
    let verified: Option<VerifyReport> = read_if_there(&folder.verify_report())?;
    // Measurements by older versions are ignored.
    let measured = std::fs::read(folder.bench_report()).ok();
    let measured = measured.and_then(|bytes| BenchReport::from_json(&bytes).ok());

    let find = |name: &str| choice.candidates.iter().find(|candidate| candidate.name == name);
    let chosen = find(&choice.student).context("the chosen student is not a candidate")?;
    let largest = find(&choice.largest).context("the largest student is not a candidate")?;
    let accuracy = |candidate: &Candidate| SplitAccuracy {
        validation: candidate.validation.value(),
        test: tests.get(&candidate.name).map(Score::value),
    };
    let original: Option<Original> = read_if_there(&folder.original())?;
    let gives_labels = original.as_ref().is_some_and(|original| original.gives_labels);
    let against = original.as_ref().map(|original| &original.students);
    let together = folder.training_result(StageKind::Collaborate).exists();
    let pretrained: Option<Vec<Kept>> = read_if_there(&folder.training_result(StageKind::Pretrain))?;
    let pretrained = pretrained.filter(|_| together).unwrap_or_default();
    let alone = |name: &str| pretrained.iter().find(|kept| kept.name == name);
    let students = choice.candidates.iter().map(|candidate| StudentRow {
        name: candidate.name.clone(),
        alone: alone(&candidate.name).map(|kept| kept.validation.value()),
        accuracy: accuracy(candidate),
        params: candidate.params,
        macs: candidate.macs,
        onnx_bytes: onnx_bytes(folder, candidate),
        chosen: candidate.name == choice.student,
        against_original: against.and_then(|students| students.get(&candidate.name)).copied(),
    });
    let students: Vec<StudentRow> = students.collect();
    let original = original.map(|original| OriginalRow {
        accuracy: SplitAccuracy {
            validation: original.validation.value(),
            test: original.test.as_ref().map(Score::value),
        },
        params: original.params,
        macs: original.macs,
        onnx_bytes: original.onnx_bytes,
    });
    let bench = measured.as_ref().map(bench_rows).unwrap_or_default();
    let stages = manifest.stages.iter();
    let warned = stages.flat_map(|entry| entry.warnings.iter().map(|text| format!("{}: {text}", entry.name)));
    let warned: Vec<String> = warned.collect();
    Ok(Report {
        name: manifest.name.clone(),
        run_dir: folder.root().display().to_string(),
        onnx: folder.chosen_onnx().exists().then(|| folder.chosen_onnx().display().to_string()),
        sample: manifest.sample.map(|path| path.display().to_string()),
        student: choice.student.clone(),
        largest: choice.largest.clone(),
        reason: choice.reason.clone(),
        accuracy: accuracy(chosen),
        params: chosen.params,
        macs: chosen.macs,
        onnx_bytes: onnx_bytes(folder, chosen),
        compression: compression(folder, chosen, largest),
        front: original.as_ref().map(|original| front(original, &students, &bench)).unwrap_or_default(),
        students,
        original,
        notes: notes(&tests, chosen, measured.as_ref(), gives_labels),
        verify: verified.map(verify_row),
        bench,
        budgets: measured.as_ref().map(|report| report.budgets.clone()).unwrap_or_default(),
        environment: measured.map(|report| report.environment),
        device: manifest.device,
        warnings: manifest.notes.into_iter().chain(warned).collect(),
    })
}

fn read_if_there<T: serde::de::DeserializeOwned>(path: &std::path::Path) -> Result<Option<T>> {
    if path.exists() { read_json(path).map(Some) } else { Ok(None) }
}

/// Size of a student's file, or the size predicted for the choice if the file was not written.
fn onnx_bytes(folder: &RunFolder, candidate: &Candidate) -> u64 {
    std::fs::metadata(folder.onnx(&candidate.name)).map_or(candidate.onnx_bytes, |file| file.len())
}

fn compression(folder: &RunFolder, chosen: &Candidate, largest: &Candidate) -> Compression {
    let ratio = |large: u64, small: u64| large as f64 / small.max(1) as f64;
    Compression {
        params: ratio(largest.params, chosen.params),
        macs: ratio(largest.macs, chosen.macs),
        onnx_bytes: ratio(onnx_bytes(folder, largest), onnx_bytes(folder, chosen)),
    }
}

fn notes(
    tests: &BTreeMap<String, Score>,
    chosen: &Candidate,
    measured: Option<&BenchReport>,
    gives_labels: bool,
) -> Vec<String> {
    let mut notes = Vec::new();
    if gives_labels {
        notes.push("there are no labels: accuracy is agreement with the original's decisions".to_string());
    }
    match tests.get(&chosen.name) {
        Some(score) => notes.push(format!(
            "accuracy on {} validation and {} test images; the test split was opened once, after the choice",
            chosen.validation.images, score.images
        )),
        None => notes.push(format!(
            "no test split: accuracy is on the {} validation images used for the choice, so it is optimistic",
            chosen.validation.images
        )),
    }
    let unstable =
        measured.map_or(0, |report| report.cells.iter().filter(|cell| !cell.stability.stable).count());
    if unstable > 0 {
        notes.push(format!(
            "{unstable} latencies drifted by more than 5 % while they were measured (marked ~)"
        ));
    }
    notes
}

fn gating(engine: &EngineReport) -> impl Iterator<Item = &SetReport> {
    engine.sets.iter().filter(|set| set.gates)
}

/// Summary of a verification.
pub fn verify_row(report: VerifyReport) -> VerifyRow {
    let engines = report.engines.into_iter().map(|engine| {
        let tightest = engine.tightest().map(|set| (set.max_abs, set.tolerance_used));
        let images = engine.sets.iter().find(|set| set.set == "images").or_else(|| engine.tightest());
        EngineRow {
            engine: engine.engine,
            passed: engine.passed,
            max_abs_error: tightest.map(|(error, _)| error),
            tolerance_used: tightest.map(|(_, used)| used),
            top1_agreement: images.map(|set| set.top1),
            samples: gating(&engine).map(|set| set.samples).sum(),
            certified: gating(&engine).map(|set| set.certified).sum(),
            flips: gating(&engine).flat_map(|set| &set.flips).filter(|flip| !flip.tie).count(),
            accuracy: engine.accuracy.as_ref().map(|score| score.accuracy),
            name: engine.name.clone(),
            placement: engine.placement.clone(),
            problems: engine.problems.clone(),
        }
    });
    let engines = engines.collect();
    VerifyRow {
        passed: report.passed,
        verdict: report.verdict,
        truth: report.truth,
        closest: report.closest,
        engines,
        findings: report.findings,
        sizes: report.sizes,
        distances: report.distances,
        blame: report.blame,
    }
}

/// Summary of a measurement's cells.
fn bench_rows(report: &BenchReport) -> Vec<BenchRow> {
    let value = |percentile: Option<Percentile>| percentile.map(|percentile| percentile.value);
    let rows = report.cells.iter().map(|cell| BenchRow {
        model: cell.cell.model.clone(),
        engine: cell.cell.engine,
        name: cell.engine_name.clone(),
        batch: cell.cell.batch,
        threads: cell.cell.threads,
        mode: cell.cell.mode,
        samples: cell.samples,
        p50_ms: value(cell.p50),
        p90_ms: value(cell.p90),
        p95_ms: value(cell.p95),
        p99_ms: value(cell.p99),
        images_per_second: cell.images_per_second,
        stable: cell.stability.stable,
        speed_up: report
            .speed_ups
            .iter()
            .find(|speed_up| speed_up.cell == cell.cell)
            .map(|found| found.ratio),
    });
    rows.collect()
}
