//! `cohort compress`: a trained classifier in an ONNX file in, a smaller one with the same interface out.

mod screen;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Result;

use crate::compress::{Found, Given, Job, Length, Settings, Target, told};
use crate::config::load_pipeline;
use crate::folder::RunFolder;
use crate::plan::plan;
use crate::progress::Progress;
use crate::report::quoted;
use crate::run::{Options, execute};
use crate::ui::{out, out_json};

use self::screen::{engine_table, planned, seen, table};
use super::Common;
use super::preparing::Preparing;
use super::run::{STOP, show, watch_signals};

#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// ONNX file of a trained image classifier
    pub model: PathBuf,
    /// Folder with a folder of images for each class, or a pipeline file
    #[arg(long, value_name = "DIR")]
    pub data: PathBuf,
    /// Limit for the smaller network: params<=25%, macs<=25%, bytes<=500k, ort-cpu:p50<=0.5x
    #[arg(long, value_name = "LIMIT")]
    pub target: Target,
    /// Measure what can be reached, and train nothing
    #[arg(long)]
    pub plan: bool,
    /// Run folder [default: runs/NAME-compressed]
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// Epochs of training [default: about 300,000 images, at least 5 epochs]
    #[arg(long, value_name = "N")]
    pub epochs: Option<usize>,
    /// Time for everything, such as 20m or 1h30m, from which the epochs follow
    #[arg(long, value_name = "TIME", value_parser = budget, conflicts_with = "epochs")]
    pub budget: Option<Duration>,
    /// Images per step
    #[arg(long, value_name = "N", default_value_t = 64)]
    pub batch: usize,
    /// Learning rate at the schedule's peak
    #[arg(long, default_value_t = 0.02)]
    pub lr: f64,
    /// Seed for splits, batches and augmentation [default: the pipeline file's, or 0]
    #[arg(long)]
    pub seed: Option<u64>,
    /// Mirror training images, as photos allow and text does not
    #[arg(long)]
    pub flip: bool,
    #[command(flatten)]
    pub preparing: Preparing,
    /// Use no labels: the original's decisions take their place, and images may lie at any depth
    #[arg(long)]
    pub unlabelled: bool,
    /// Engine to measure; repeatable [default: those found]
    #[arg(long, value_name = "NAME")]
    pub engine: Vec<String>,
}

fn budget(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text).map_err(|error| format!("{error}; a time looks like 20m or 1h30m"))
}

/// Compresses a classifier, or says what could be reached.
///
/// # Errors
/// [`crate::error::InputError`] if the file, the images or the options cannot be used, and the errors of a run.
pub fn run(args: &Args, common: &Common) -> Result<()> {
    let ui = common.ui();
    let progress: &dyn Progress = &ui;
    let job = job(args, common)?;
    let folder = args.out.clone().unwrap_or_else(|| PathBuf::from("runs").join(job.name()));
    let pipeline = Job::pipeline(&folder);
    watch_signals();
    let lock = RunFolder::new(&folder).lock()?;
    if job.is_prepared(&folder)? && !args.plan {
        progress.note(format!("the same was asked for before: {} is run", pipeline.display()));
    } else {
        let mut tell = |found: Found<'_>| match (common.json, found) {
            (true, _) => Ok(()),
            (false, Found::Subject(subject)) => out(seen(subject, args)),
            (false, Found::Engines(scores)) => out(engine_table(scores)),
        };
        let prepared = job.prepare(&folder, &mut tell, progress, &STOP)?;
        match (common.json, args.plan) {
            (true, true) => out_json(&planned(&prepared)?)?,
            (true, false) => {}
            (false, _) => {
                let Settings { epochs, engines, .. } = &prepared.settings;
                out(table(&prepared.candidates, engines))?;
                out(format!(
                    "\n{epochs} epochs of about {} are {} of training on this machine, as it was just now",
                    told(prepared.epoch_seconds),
                    told(prepared.epoch_seconds * *epochs as f64),
                ))?;
            }
        }
    }
    let resume = format!(
        "cohort run {} --out {}",
        quoted(&pipeline.display().to_string()),
        quoted(&folder.display().to_string())
    );
    if args.plan {
        return if common.json {
            Ok(())
        } else {
            out(format!("\nnothing is trained yet; this trains it: {resume}"))
        };
    }
    let plan = plan(&load_pipeline(&pipeline, &[])?)?;
    let options = Options { out: folder.clone(), progress, stop: &STOP, resume, siblings: Vec::new() };
    show(&plan, execute(&plan, &options, lock), &folder, common.json)
}

fn job(args: &Args, common: &Common) -> Result<Job> {
    Ok(Job {
        engines: common.engines(&args.engine)?,
        length: match (args.epochs, args.budget) {
            (Some(epochs), _) => Length::Epochs(epochs),
            (None, Some(budget)) => Length::Within(budget),
            (None, None) => Length::Usual,
        },
        batch: args.batch,
        lr: args.lr,
        flip: args.flip,
        ..Job::of(given(args)?, args.target)
    })
}

fn given(args: &Args) -> Result<Given> {
    let preparing = &args.preparing;
    Ok(Given {
        model: args.model.clone(),
        data: args.data.clone(),
        shape: preparing.sizes(&args.model)?,
        mean: preparing.mean.clone(),
        std: preparing.std.clone(),
        range: preparing.range,
        order: preparing.channel_order,
        fit: preparing.fit,
        classes: preparing.classes()?,
        unlabelled: args.unlabelled,
        seed: args.seed,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_budget_is_a_time() {
        assert_eq!(budget("1h30m"), Ok(Duration::from_secs(5400)));
        assert!(budget("20 parsecs").unwrap_err().contains("looks like 20m"));
    }
}
