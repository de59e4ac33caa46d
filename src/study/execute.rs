//! Runs a study's cells, one after another.

use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use anyhow::{Context, Result};

use crate::config::{CellSpec, LoadedStudy, load_pipeline};
use crate::error::{GateFailed, InputError};
use crate::files::write_atomic;
use crate::folder::{Kept, RunFolder, read_json, write_json};
use crate::plan::{Plan, plan};
use crate::progress::Progress;
use crate::run;
use crate::stage::StageKind;
use crate::task::Score;

use super::report::{RunScores, StudyReport, markdown, summarise};

/// One run of a study.
struct Planned<'a> {
    cell: &'a CellSpec,
    seed: u64,
    plan: Plan,
    folder: PathBuf,
}

/// Runs the cells and seeds that are not done yet, and compares all results. Several processes may work on
/// one study: each takes runs that no other is working on. `overrides` apply to all cells.
///
/// # Errors
/// [`InputError`] before anything runs if a cell's settings are wrong, and at the end if other processes are
/// still working on some runs; any error that stops a run.
pub fn execute(
    study: &LoadedStudy,
    overrides: &[String],
    out: &Path,
    progress: &dyn Progress,
    stop: &AtomicBool,
    resume: &str,
) -> Result<StudyReport> {
    let spec = &study.spec;
    let runs = planned(study, overrides, out)?;
    let mut elsewhere = Vec::new();
    for (index, run) in runs.iter().enumerate() {
        let Planned { cell, seed, plan, folder } = run;
        let place = format!("[{}/{}] {}, seed {seed}", index + 1, runs.len(), cell.name);
        let Some(lock) = RunFolder::new(folder).try_lock()? else {
            progress.note(format!("{place}: another process is working on it"));
            elsewhere.push(folder.display().to_string());
            continue;
        };
        progress.note(place);
        let siblings = runs.iter().map(|run| run.folder.clone()).filter(|other| other != folder);
        let options = run::Options {
            out: folder.clone(),
            progress,
            stop,
            resume: resume.to_string(),
            siblings: siblings.collect(),
        };
        match run::execute(plan, &options, lock) {
            Ok(_) => {}
            Err(error) if error.is::<GateFailed>() => {
                progress.warn(format!("{}, seed {seed}: {error:#}", cell.name))
            }
            Err(error) => return Err(error.context(format!("cell '{}', seed {seed}", cell.name))),
        }
    }
    if !elsewhere.is_empty() {
        let problem = format!("another process is still working on {}", elsewhere.join(", "));
        return Err(InputError::new(problem)
            .hint(format!("when it is done, compare the results with: {resume}"))
            .into());
    }
    let scores = runs.iter().map(|run| read(run.cell, run.seed, &run.folder)).collect::<Result<Vec<_>>>()?;
    let report = summarise(spec, &scores);
    write_json(&out.join("study.json"), &report)?;
    write_atomic(&out.join("study.md"), markdown(&report).as_bytes())?;
    Ok(report)
}

/// All runs of a study, each with a valid plan.
fn planned<'a>(study: &'a LoadedStudy, overrides: &[String], out: &Path) -> Result<Vec<Planned<'a>>> {
    let spec = &study.spec;
    let mut runs = Vec::new();
    for cell in &spec.cells {
        for &seed in spec.seeds_of(cell) {
            let overrides = spec.overrides(cell, seed, overrides)?;
            let plan = load_pipeline(&study.pipeline, &overrides)
                .map_err(anyhow::Error::from)
                .and_then(|loaded| plan(&loaded))
                .with_context(|| format!("cell '{}'", cell.name))?;
            check(&plan, cell)?;
            runs.push(Planned { cell, seed, plan, folder: folder(out, cell, seed) });
        }
    }
    Ok(runs)
}

fn folder(out: &Path, cell: &CellSpec, seed: u64) -> PathBuf {
    out.join(&cell.name).join(format!("seed-{seed}"))
}

/// A study compares scores, so its pipeline must produce them.
fn check(plan: &Plan, cell: &CellSpec) -> Result<(), InputError> {
    if plan.pipeline.stage(StageKind::Select).is_some() {
        return Ok(());
    }
    Err(InputError::new(format!("cell '{}': the pipeline has no `select` stage", cell.name))
        .hint("add `- select: {}`, which measures the students, also on the test split"))
}

fn read(cell: &CellSpec, seed: u64, folder: &Path) -> Result<RunScores> {
    let folder = RunFolder::new(folder);
    let trained = folder.trained_by().context("the run has no training result")?;
    let kept: Vec<Kept> = read_json(&folder.training_result(trained))?;
    let test: std::collections::BTreeMap<String, Score> = match folder.test_scores() {
        path if path.exists() => read_json(&path)?,
        _ => Default::default(),
    };
    let students = kept
        .into_iter()
        .map(|kept| {
            let test = test.get(&kept.name).map(Score::value);
            (kept.name, kept.validation.value(), test)
        })
        .collect();
    Ok(RunScores { cell: cell.name.clone(), seed, students })
}
