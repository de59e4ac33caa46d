//! `cohort compress`: a trained classifier in an ONNX file in, a smaller one with the same interface out.

mod screen;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::Result;

use crate::compress::{Cost, Given, Settings, Subject, Target, Trial, find, look, score_engines, write};
use crate::config::{Augment, CropSpec, EngineName, FlipSpec, load_pipeline, names_a_file};
use crate::contract::{ChannelOrder, Fit, PixelRange};
use crate::error::InputError;
use crate::files::write_atomic;
use crate::folder::RunFolder;
use crate::plan::plan;
use crate::progress::Progress;
use crate::report::screen as report_screen;
use crate::run::{Options, execute};
use crate::ui::{out, out_json};

use self::screen::{engine_table, planned, seen, table};
use super::Common;
use super::common::{Shape, choice};
use super::run::{STOP, quoted, watch_signals};

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
    /// Seed for splits, batches and augmentation
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    /// Mirror training images, as photos allow and text does not
    #[arg(long)]
    pub flip: bool,
    /// Size of one image in the file's order of axes, such as 3x224x224
    #[arg(long, value_name = "SIZES", value_parser = Shape::parse)]
    pub shape: Option<Shape>,
    /// Mean of each channel, in the file's order and range [default: tried]
    #[arg(long, value_name = "M,…", value_delimiter = ',')]
    pub mean: Option<Vec<f32>>,
    /// Standard deviation of each channel
    #[arg(long, value_name = "S,…", value_delimiter = ',')]
    pub std: Option<Vec<f32>>,
    /// Scale of a pixel before that: 0..1 or 0..255
    #[arg(long, value_parser = range)]
    pub range: Option<PixelRange>,
    /// Channel that comes first: rgb, bgr or gray
    #[arg(long, value_parser = order)]
    pub channel_order: Option<ChannelOrder>,
    /// How images come to the file's size: stretch, crop or letterbox [default: tried]
    #[arg(long, value_parser = fit)]
    pub fit: Option<Fit>,
    /// Names of the file's classes in the order of its scores, one a line
    #[arg(long, value_name = "FILE")]
    pub labels: Option<PathBuf>,
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

fn range(text: &str) -> Result<PixelRange, String> {
    choice(text, &PixelRange::ALL, PixelRange::name)
}

fn order(text: &str) -> Result<ChannelOrder, String> {
    choice(text, &ChannelOrder::ALL, ChannelOrder::name)
}

fn fit(text: &str) -> Result<Fit, String> {
    choice(text, &Fit::ALL, Fit::name)
}

/// Compresses a classifier, or says what could be reached.
///
/// # Errors
/// [`InputError`] if the file, the images or the options cannot be used, and the errors of a run.
pub fn run(args: &Args, common: &Common) -> Result<()> {
    let started = Instant::now();
    let ui = common.ui();
    let progress: &dyn Progress = &ui;
    let given = given(args)?;
    let mut engines: Vec<EngineName> = common.engines(&args.engine)?;
    if let Cost::Latency(engine) = args.target.cost
        && !engines.contains(&engine)
    {
        engines.push(engine);
    }
    let folder = args.out.clone().unwrap_or_else(|| PathBuf::from("runs").join(name(args)));
    let (pipeline, asked) = (folder.join("pipeline.yaml"), folder.join("compress.json"));
    let request = request(args)?;
    watch_signals();
    let lock = RunFolder::new(&folder).lock()?;
    let known = pipeline.exists() && std::fs::read_to_string(&asked).is_ok_and(|text| text == request);
    if known && !args.plan {
        progress.note(format!("the same was asked for before: {} is run", pipeline.display()));
    } else {
        let subject = look(&given, progress)?;
        if !common.json {
            out(seen(&subject, args))?;
        }
        let scores = score_engines(&subject, &engines, args.target, progress)?;
        engines.retain(|engine| scores.iter().any(|score| score.engine == *engine));
        if !common.json {
            out(engine_table(&scores))?;
        }
        let mut candidates = find(&subject, args.target, &engines, progress)?;
        let mut settings = settings(args, &subject, engines.clone());
        let trial =
            Trial { subject: &subject, settings: &settings, scratch: &folder.join("trial"), stop: &STOP };
        trial.compare(&mut candidates.students, progress)?;
        candidates.choose(subject.dataset.validation.largest_share());
        let epoch = trial.epoch_seconds(candidates.trained())?;
        if let Some(budget) = args.budget {
            settings.epochs = epochs_within(budget, started.elapsed(), epoch)?;
        }
        write(&pipeline, &subject, &candidates, &settings)?;
        write_atomic(&asked, request.as_bytes())?;
        match (common.json, args.plan) {
            (true, true) => out_json(&planned(&candidates, &settings, epoch)?)?,
            (true, false) => {}
            (false, _) => {
                out(table(&candidates, &engines))?;
                let whole = duration(epoch * settings.epochs as f64);
                out(format!(
                    "\n{} epochs of about {} are {whole} of training on this machine, as it was just now",
                    settings.epochs,
                    duration(epoch)
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
    let options = Options { out: folder, progress, stop: &STOP, resume, siblings: Vec::new() };
    let report = execute(&plan, &options, lock)?;
    match (common.json, &report) {
        (true, _) => out_json(&report),
        (false, Some(report)) => out(format!("\n{}", report_screen(report))),
        (false, None) => Ok(()),
    }
}

fn settings(args: &Args, subject: &Subject, engines: Vec<EngineName>) -> Settings {
    Settings {
        name: name(args),
        seed: args.seed,
        unlabelled: !subject.data.labels.are_own(),
        epochs: args.epochs.unwrap_or_else(|| epochs(subject.dataset.train.len())),
        batch: args.batch.min(subject.dataset.train.len()),
        lr: args.lr,
        engines,
        augment: augment(args, subject),
    }
}

fn given(args: &Args) -> Result<Given> {
    let classes = match &args.labels {
        Some(path) => {
            let text = std::fs::read_to_string(path).map_err(|error| {
                InputError::new(format!("cannot read --labels {}: {error}", path.display()))
                    .hint("give a text file with the name of one class in each line")
            })?;
            text.lines().map(|line| line.trim().to_string()).filter(|line| !line.is_empty()).collect()
        }
        None => Vec::new(),
    };
    let shape = match &args.shape {
        Some(Shape(sizes)) => Some(<[usize; 3]>::try_from(sizes.as_slice()).map_err(|_| {
            InputError::new(format!("--shape has {} sizes, an image has three", sizes.len()))
                .hint("give them in the file's order of axes, such as 3x224x224")
        })?),
        None => None,
    };
    Ok(Given {
        model: args.model.clone(),
        data: args.data.clone(),
        shape,
        mean: args.mean.clone(),
        std: args.std.clone(),
        range: args.range,
        order: args.channel_order,
        fit: args.fit,
        classes,
        unlabelled: args.unlabelled,
    })
}

/// The name of the run: that of the file, as far as it can name a folder.
fn name(args: &Args) -> String {
    let stem = args.model.file_stem().unwrap_or_default().to_string_lossy();
    let kept: String = stem
        .chars()
        .map(|c| if c == '.' || names_a_file(&c.to_string()) { c } else { '-' })
        .take(80)
        .collect();
    format!("{}-compressed", kept.trim_start_matches(['.', '-']))
}

/// Epochs in which a part of a trained network recovers.
fn epochs(images: usize) -> usize {
    (300_000 / images.max(1)).clamp(5, 60)
}

/// The share of a budget that is left for what comes after the training.
const AFTERWARDS: f64 = 0.15;

/// More epochs than this bring nothing.
const MOST_EPOCHS: f64 = 200.0;

/// Epochs that fit into a budget of time, of which some is spent.
fn epochs_within(budget: Duration, spent: Duration, epoch: f64) -> Result<usize, InputError> {
    let left = budget.as_secs_f64() * (1.0 - AFTERWARDS) - spent.as_secs_f64();
    let epochs = (left / epoch.max(1e-3)).floor().min(MOST_EPOCHS);
    if epochs < 1.0 {
        let least = (spent.as_secs_f64() + epoch) / (1.0 - AFTERWARDS);
        let problem = format!(
            "--budget {} is too short: {} are spent, and one epoch takes about {}",
            humantime::format_duration(budget),
            duration(spent.as_secs_f64()),
            duration(epoch)
        );
        return Err(InputError::new(problem).hint(format!("give at least {}", duration(least))));
    }
    Ok(epochs as usize)
}

/// A time in seconds as a person says it: `48s`, `13m 5s`.
fn duration(seconds: f64) -> String {
    let rounded = if seconds < 10.0 { (seconds * 10.0).ceil() / 10.0 } else { seconds.ceil() };
    if rounded < 10.0 {
        return format!("{rounded:.1}s");
    }
    humantime::format_duration(Duration::from_secs(rounded as u64)).to_string()
}

fn augment(args: &Args, subject: &Subject) -> Vec<Augment> {
    let [_, height, width] = subject.dataset.info.shape;
    let mut augment = vec![Augment::Crop(CropSpec { padding: (height.min(width) / 14).max(1) })];
    if args.flip {
        augment.push(Augment::Flip(FlipSpec::default()));
    }
    augment
}

/// The file's hash and the options. If both are as before, the pipeline that was written is used again, because latencies that are
/// measured anew would lead to other widths.
fn request(args: &Args) -> Result<String> {
    let model = std::fs::read(&args.model).map_err(|error| {
        InputError::new(format!("cannot read {}: {error}", args.model.display()))
            .hint("give the path of an ONNX file")
    })?;
    let model = blake3::hash(&model).to_hex().to_string();
    let options = format!("{:?}", Args { plan: false, out: None, ..args.clone() });
    Ok(serde_json::to_string_pretty(&serde_json::json!({"model": model, "options": options}))?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_budget_becomes_epochs() {
        let minutes = |minutes: u64| Duration::from_secs(60 * minutes);
        assert_eq!(budget("1h30m"), Ok(minutes(90)));
        assert!(budget("20 parsecs").unwrap_err().contains("looks like 20m"));
        // 17 of 20 minutes are for training, one of them is spent.
        assert_eq!(epochs_within(minutes(20), minutes(1), 60.0).unwrap(), 16);
        assert_eq!(epochs_within(minutes(20), minutes(1), 0.0).unwrap(), 200);
        let short = epochs_within(minutes(2), minutes(1), 60.0).unwrap_err().to_string();
        assert!(short.contains("too short") && short.contains("1m are spent"), "{short}");
    }
}
