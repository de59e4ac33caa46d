//! `cohort compress`: a trained classifier in an ONNX file in, a smaller one with the same interface out.

use std::path::PathBuf;

use anyhow::Result;

use crate::compress::{Candidates, Cost, Given, Settings, Subject, Target, find, look, write};
use crate::config::{Augment, CropSpec, EngineName, FlipSpec, load_pipeline, names_a_file};
use crate::contract::{ChannelOrder, PixelRange};
use crate::error::InputError;
use crate::files::write_atomic;
use crate::folder::RunFolder;
use crate::plan::plan;
use crate::progress::Progress;
use crate::report::{bytes, count, percent, plain_table, screen, short};
use crate::run::{Options, execute};
use crate::ui::{out, out_json};

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
    /// Names of the file's classes in the order of its scores, one a line
    #[arg(long, value_name = "FILE")]
    pub labels: Option<PathBuf>,
    /// Engine to measure; repeatable [default: those found]
    #[arg(long, value_name = "NAME")]
    pub engine: Vec<String>,
}

fn range(text: &str) -> Result<PixelRange, String> {
    choice(text, &PixelRange::ALL, PixelRange::name)
}

fn order(text: &str) -> Result<ChannelOrder, String> {
    choice(text, &ChannelOrder::ALL, ChannelOrder::name)
}

/// Compresses a classifier, or says what could be reached.
///
/// # Errors
/// [`InputError`] if the file, the images or the options cannot be used, and the errors of a run.
pub fn run(args: &Args, common: &Common) -> Result<()> {
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
        let candidates = find(&subject, args.target, &engines, progress)?;
        write(&pipeline, &subject, &candidates, &settings(args, &subject, engines.clone()))?;
        write_atomic(&asked, request.as_bytes())?;
        match (common.json, args.plan) {
            (true, true) => out_json(&candidates)?,
            (true, false) => {}
            (false, _) => out(table(&candidates, &engines))?,
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
        (false, Some(report)) => out(format!("\n{}", screen(report))),
        (false, None) => Ok(()),
    }
}

fn settings(args: &Args, subject: &Subject, engines: Vec<EngineName>) -> Settings {
    Settings {
        name: name(args),
        seed: args.seed,
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
        classes,
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

fn augment(args: &Args, subject: &Subject) -> Vec<Augment> {
    let [_, height, width] = subject.dataset.info.shape;
    let mut augment = vec![Augment::Crop(CropSpec { padding: (height.min(width) / 14).max(1) })];
    if args.flip {
        augment.push(Augment::Flip(FlipSpec::default()));
    }
    augment
}

/// The classifier's facts, its score, and the preparations that were tried, for the terminal.
fn seen(subject: &Subject, args: &Args) -> String {
    let graph = subject.network.graph();
    let cost = crate::graph::cost(graph);
    let mut text = format!(
        "{}: {} classes, images of {:?}, {} parameters, {} MACs\n{} on {} validation images",
        args.model.display(),
        graph.classes(),
        graph.input_shape(),
        count(cost.params),
        count(cost.macs),
        subject.validation,
        subject.dataset.validation.len(),
    );
    if let Some(best) = subject.guesses.first() {
        let rows: Vec<Vec<String>> = subject
            .guesses
            .iter()
            .map(|guess| vec![guess.name.clone(), percent(guess.score.value())])
            .collect();
        text += &format!(
            "\n\nThe file does not say how its images are prepared; the usual ways were tried:\n{}\n\
             taken: {}; another one is given with --mean, --std, --range and --channel-order",
            plain_table(&["preparation", "accuracy"], &rows),
            best.name
        );
    }
    text
}

/// The original and the parts that would be trained.
fn table(candidates: &Candidates, engines: &[EngineName]) -> String {
    let original = &candidates.original;
    let mut header = vec!["", "parameters", "", "MACs", "ONNX"];
    let mut rows = vec![vec![
        "original".to_string(),
        count(original.params),
        String::new(),
        short(original.macs),
        bytes(original.bytes),
    ]];
    for part in &candidates.students {
        let share = 100.0 * part.params as f64 / original.params as f64;
        rows.push(vec![
            part.student.name.clone(),
            count(part.params),
            format!("{share:.1} %"),
            short(part.macs),
            bytes(part.bytes),
        ]);
    }
    for engine in engines.iter().map(|engine| engine.key()) {
        header.extend([engine, ""]);
        let ms = |ms: Option<f64>| ms.map_or(String::new(), |ms| format!("{ms:.3} ms"));
        rows[0].extend([ms(original.latency_ms.get(engine).copied()), String::new()]);
        for (row, part) in rows[1..].iter_mut().zip(&candidates.students) {
            let found = part.latency_ms.get(engine);
            let factor = found.map_or(String::new(), |[part, whole]| format!("{:.2}x", part / whole));
            row.extend([ms(found.map(|[part, _]| *part)), factor]);
        }
    }
    let mut text = format!("\n{}", plain_table(&header, &rows));
    if !candidates.whole.is_empty() {
        let names: Vec<String> = candidates
            .whole
            .iter()
            .take(3)
            .map(|whole| format!("{} ({})", whole.name, whole.reason))
            .collect();
        let more = candidates.whole.len().saturating_sub(names.len());
        let rest = if more > 0 { format!(" and {more} more") } else { String::new() };
        text += &format!("\n\nlayers that keep channels: {}{rest}", names.join(", "));
    }
    text
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
