//! `cohort run`: runs a pipeline from start to report.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::Result;

use crate::config::{Stage, load_pipeline, quickstart};
use crate::error::{GateFailed, exit_code};
use crate::folder::{Manifest, RunFolder, Status};
use crate::plan::{Plan, plan};
use crate::report::{Report, collect, quoted, screen};
use crate::run::{Options, execute};
use crate::stage::StageKind;
use crate::ui::{out, out_json};

use super::Common;
use super::common::from_here;

/// Set by the first Ctrl-C or SIGTERM.
pub(super) static STOP: AtomicBool = AtomicBool::new(false);

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Pipeline file [default: the quick start, 8×8 digits]
    pub pipeline: Option<PathBuf>,
    /// Override a key, such as stages.collaborate.epochs=5
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub overrides: Vec<String>,
    /// Run folder [default: runs/NAME]
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
}

/// Runs a pipeline and prints its report.
///
/// # Errors
/// The error that stopped the run; everything that was finished before it is kept.
pub fn run(args: &Args, common: &Common) -> Result<()> {
    watch_signals();
    let loaded = match &args.pipeline {
        Some(path) => load_pipeline(path, &from_here(&args.overrides))?,
        None => quickstart(&from_here(&args.overrides))?,
    };
    let plan = plan(&loaded)?;
    let folder = args.out.clone().unwrap_or_else(|| PathBuf::from("runs").join(&plan.pipeline.name));
    let options = Options {
        out: folder,
        progress: &common.ui(),
        stop: &STOP,
        resume: resume_command(args),
        siblings: Vec::new(),
    };
    let lock = match RunFolder::new(&options.out).lock() {
        Ok(lock) => lock,
        Err(error) => match finished(&plan, &options.out) {
            Some(report) => {
                options
                    .progress
                    .warn(format!("{error:#}; the pipeline was run there before, and this is its report"));
                return show(&plan, Ok(Some(report)), &options.out, common.json);
            }
            None => return Err(error),
        },
    };
    let ended = execute(&plan, &options, lock);
    if let Ok(None) = &ended
        && !common.json
    {
        let folder = options.out.display();
        return out(format!(
            "\ntrained; no student was chosen, because the pipeline has no `select` stage: {folder}"
        ));
    }
    show(&plan, ended, &options.out, common.json)
}

/// The report of a folder that cannot be written, if this very pipeline was run there to its end.
fn finished(plan: &Plan, folder: &Path) -> Option<Report> {
    let folder = RunFolder::new(folder);
    let same = std::fs::read_to_string(folder.resolved_pipeline()).ok()? == plan.resolved_yaml().ok()?;
    let manifest = Manifest::load(folder.root()).ok()??;
    let done = |stage: &Stage| manifest.stage(stage.name()).is_some_and(|entry| entry.status == Status::Done);
    let whole = same && plan.pipeline.stages.iter().all(done);
    // Whoever holds the lock may be about to change what is there.
    let locked = matches!(folder.try_lock(), Ok(None));
    (whole && !locked && folder.choice().exists()).then(|| collect(&folder).ok())?
}

/// Prints the report of a run. A run that failed a gate after it had chosen a student has a report too.
///
/// # Errors
/// The error with which the run ended.
pub(super) fn show(plan: &Plan, ended: Result<Option<Report>>, folder: &Path, json: bool) -> Result<()> {
    let folder = RunFolder::new(folder);
    let reports = plan.pipeline.stages.iter().any(|stage| stage.kind() == StageKind::Report);
    let written = Some(folder.report_markdown()).filter(|file| reports && file.exists());
    let print = |report: &Option<Report>| match (json, report) {
        (true, _) => out_json(report),
        (false, Some(report)) => out(format!("\n{}", screen(report, written.as_deref()))),
        (false, None) => Ok(()),
    };
    match ended {
        Ok(report) => print(&report),
        Err(error) => {
            if error.is::<GateFailed>() && folder.choice().exists() {
                print(&Some(collect(&folder)?))?;
            }
            Err(error)
        }
    }
}

/// Signals this soon after the first one are the same request: `timeout` sends one to the program and one to its group, and
/// people press Ctrl-C twice.
const SAME_REQUEST: Duration = Duration::from_secs(2);

/// The first signal asks to stop at the next step. A later one ends the process at once, and leaves the last whole
/// checkpoint: nothing is run at exit, because libtorch's threads are still at work.
pub(super) fn watch_signals() {
    let first = OnceLock::new();
    let handler = move || {
        STOP.store(true, Ordering::SeqCst);
        if first.get_or_init(Instant::now).elapsed() > SAME_REQUEST {
            end_now(i32::from(exit_code::INTERRUPTED));
        }
    };
    if let Err(error) = ctrlc::set_handler(handler) {
        tracing::warn!("cannot watch for signals: {error}");
    }
}

/// Ends the process without running what is registered for its exit.
fn end_now(code: i32) -> ! {
    // SAFETY: `_exit` ends the process and touches no memory of it.
    unsafe { libc::_exit(code) }
}

/// The command that resumes this run.
fn resume_command(args: &Args) -> String {
    let mut words = vec!["cohort".to_string(), "run".to_string()];
    words.extend(args.pipeline.as_ref().map(|path| quoted(&path.display().to_string())));
    for text in &args.overrides {
        words.extend(["--set".to_string(), quoted(text)]);
    }
    if let Some(out) = &args.out {
        words.extend(["--out".to_string(), quoted(&out.display().to_string())]);
    }
    words.join(" ")
}
