//! Runs the cells, one after another.

use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use anyhow::{Context, Result};

use crate::config::{CellSpec, LoadedStudy, load_pipeline};
use crate::error::{GateFailed, InputError};
use crate::files::write_atomic;
use crate::folder::{Kept, RunFolder, read_json, write_json};
use crate::plan::{Plan, plan};
use crate::run;
use crate::score::Score;
use crate::ui::Ui;

use super::report::{RunScores, StudyReport, markdown, summarise};

/// Runs what is not done yet and compares what there is.
///
/// # Errors
/// [`InputError`] before anything runs if a cell's settings are wrong; whatever stops a run.
pub fn execute(
    study: &LoadedStudy,
    out: &Path,
    ui: Ui,
    stop: &AtomicBool,
    resume: &str,
) -> Result<StudyReport> {
    let spec = &study.spec;
    let mut runs = Vec::new();
    for cell in &spec.cells {
        for &seed in spec.seeds_of(cell) {
            let overrides = spec.overrides(cell, seed)?;
            let plan = load_pipeline(&study.pipeline, &overrides)
                .map_err(anyhow::Error::from)
                .and_then(|loaded| plan(&loaded))
                .with_context(|| format!("cell '{}'", cell.name))?;
            check(&plan, cell)?;
            runs.push((cell, seed, plan, folder(out, cell, seed)));
        }
    }
    let siblings: Vec<PathBuf> = runs.iter().map(|(.., folder)| folder.clone()).collect();
    let mut scores = Vec::with_capacity(runs.len());
    for (index, (cell, seed, plan, folder)) in runs.iter().enumerate() {
        ui.line(format!("[{}/{}] {}, seed {seed}", index + 1, runs.len(), cell.name));
        let options = run::Options {
            out: folder.clone(),
            ui,
            stop,
            resume: resume.to_string(),
            siblings: siblings.iter().filter(|other| *other != folder).cloned().collect(),
        };
        match run::execute(plan, &options) {
            Ok(_) => {}
            Err(error) if error.is::<GateFailed>() => {
                ui.warn(format!("{}, seed {seed}: {error:#}", cell.name))
            }
            Err(error) => return Err(error.context(format!("cell '{}', seed {seed}", cell.name))),
        }
        scores.push(read(cell, *seed, folder)?);
    }
    let report = summarise(spec, &scores);
    write_json(&out.join("study.json"), &report)?;
    write_atomic(&out.join("study.md"), markdown(&report).as_bytes())?;
    Ok(report)
}

fn folder(out: &Path, cell: &CellSpec, seed: u64) -> PathBuf {
    out.join(&cell.name).join(format!("seed-{seed}"))
}

/// A study compares scores, so its pipeline must come to them.
fn check(plan: &Plan, cell: &CellSpec) -> Result<(), InputError> {
    let selects = plan.pipeline.stages.iter().any(|stage| stage.name() == "select");
    if selects {
        return Ok(());
    }
    Err(InputError::new(format!("cell '{}': the pipeline has no stage 'select'", cell.name))
        .hint("add `- select: {}`: it measures the students, on the test split too"))
}

fn read(cell: &CellSpec, seed: u64, folder: &Path) -> Result<RunScores> {
    let folder = RunFolder::new(folder);
    let trained = ["collaborate", "pretrain"].map(|stage| folder.training_result(stage));
    let trained = trained.iter().find(|path| path.exists()).context("a run leaves its training's result")?;
    let kept: Vec<Kept> = read_json(trained)?;
    let test: std::collections::BTreeMap<String, Score> = match folder.test_scores() {
        path if path.exists() => read_json(&path)?,
        _ => Default::default(),
    };
    let students = kept
        .into_iter()
        .map(|kept| {
            let test = test.get(&kept.name).map(|score| score.accuracy);
            (kept.name, kept.validation.accuracy, test)
        })
        .collect();
    Ok(RunScores { cell: cell.name.clone(), seed, students })
}
