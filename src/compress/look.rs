//! The first look at a file and its images: which classes, which preparation, how good it is.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::config::{
    Data, Device, FolderSource, LoadedPipeline, Prepare, Source, TeacherSpec, load_pipeline,
};
use crate::contract::{ChannelOrder, Fit, Layout, Normalization, PixelRange, Preparation};
use crate::data::{Adaptation, Dataset, Split, load, places_of};
use crate::error::InputError;
use crate::graph::{Model, Op};
use crate::plan::{Classifier, import_classifier, in_other_order};
use crate::progress::Progress;
use crate::task::Score;
use crate::train::evaluate_model;

/// Images on which a preparation is tried.
const TRIED: usize = 512;

/// Share of a folder's images that is held out where it has no split for tests.
const TEST: f64 = 0.15;

/// Mean and deviation of ImageNet's training images on the scale from 0 to 1, red first; nearly every classifier that was
/// trained on photos has them.
const IMAGENET: ([f32; 3], [f32; 3]) = ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]);

/// What the user says about a classifier; the rest is found out.
#[derive(Debug, Clone, Default)]
pub struct Given {
    pub model: PathBuf,
    /// A folder of classes, or a pipeline file.
    pub data: PathBuf,
    /// The size of one image in the file's order of axes.
    pub shape: Option<[usize; 3]>,
    pub mean: Option<Vec<f32>>,
    pub std: Option<Vec<f32>>,
    pub range: Option<PixelRange>,
    pub order: Option<ChannelOrder>,
    pub fit: Option<Fit>,
    /// Names of the file's classes in the order of its scores.
    pub classes: Vec<String>,
}

/// One way to prepare images, and how the classifier does with it.
#[derive(Debug, Clone)]
pub struct Guess {
    pub name: String,
    pub prepare: Prepare,
    pub fit: Fit,
    pub score: Score,
}

/// A classifier with its images, as a pipeline has them.
pub struct Subject {
    pub classifier: Classifier,
    /// The network for images as they are decoded.
    pub network: Model,
    pub data: Data,
    pub teacher: TeacherSpec,
    /// The images with the classifier's classes and preparation.
    pub dataset: Dataset,
    /// The preparations that were tried, the best first; empty if one was given or recorded.
    pub guesses: Vec<Guess>,
    /// The original's score on the validation split.
    pub validation: Score,
}

/// Looks at a file and images: imports the network, reads the images, finds classes and preparation, and scores it.
///
/// # Errors
/// [`InputError`] if one of them cannot be used, or if the classifier does no better than chance.
pub fn look(given: &Given, progress: &dyn Progress) -> Result<Subject> {
    let classifier = classifier(given)?;
    let shape: [usize; 3] =
        classifier.network.graph().input_shape().as_slice().try_into().context("images have three axes")?;
    let recorded = classifier.contract.preparation.as_ref().map(|preparation| preparation.fit);
    let mut data = data_of(given, given.fit.or(recorded), shape)?;
    progress.note(format!("reading the images of {}", given.data.display()));
    let dataset = load(&data, Path::new("/"), 0)?;
    if dataset.info.shape != shape {
        let (path, found) = (given.model.display(), dataset.info.shape);
        let problem = format!("{path} takes images of {shape:?} and the pipeline's are {found:?}");
        return Err(InputError::new(problem).hint("give the pipeline's data that size").into());
    }
    let names = if given.classes.is_empty() { &classifier.contract.classes } else { &given.classes };
    let (classes, labels) = classes(names, &dataset, classifier.network.graph().classes(), progress)?;
    let normalization = Normalization::none(shape[0]);
    let adaptation = Adaptation { classes: classes.clone(), labels, normalization };
    let mut dataset = dataset.adapted(&adaptation);

    let prepares = prepares(given, &classifier, shape[0])?;
    let fits = fits(given, recorded, &dataset.validation)?;
    let known = prepares.len() == 1 && fits.is_empty();
    let tried = if known { dataset.validation.clone() } else { dataset.validation.spread(TRIED) };
    let guesses = guesses(prepares, fits, &classifier, &tried)?;
    let Guess { prepare: best, fit, .. } =
        guesses.first().context("there is a way to prepare images")?.clone();
    if let Source::Folder(source) = &mut data.source
        && source.fit != fit
    {
        source.fit = fit;
        progress.note(format!("reading the images again, with the fit '{}'", fit.name()));
        dataset = load(&data, Path::new("/"), 0)?.adapted(&adaptation);
    }
    let prepared = preparation(&best, ChannelOrder::decoded(shape[0]));
    let network = in_other_order(classifier.network.clone(), &prepared)?;
    let dataset = Dataset { normalization: prepared.decoded(), ..dataset };
    let validation = evaluate_model(&network, Device::Auto, &dataset.validation, &dataset.normalization)?;
    if validation.is_at_chance(dataset.validation.largest_share()) {
        let problem = format!("{} is at chance level on these images: {validation}", given.model.display());
        return Err(InputError::new(problem)
            .hint(
                "are these images of its classes, in the order of its scores (--labels FILE), and prepared as in its \
                 training (--mean, --std, --range, --channel-order, --fit)?",
            )
            .into());
    }
    let teacher = TeacherSpec {
        onnx: Some(absolute(&given.model)),
        shape: given.shape,
        prepare: Some(best),
        classes,
        ..TeacherSpec::default()
    };
    let guesses = if known { Vec::new() } else { guesses };
    Ok(Subject { classifier, network, data, teacher, dataset, guesses, validation })
}

/// The classifier of the file.
fn classifier(given: &Given) -> Result<Classifier> {
    let classifier = import_classifier(&given.model, given.shape)?;
    let quantised = |op: &Op| matches!(op, Op::QuantizeDequantize(_));
    if classifier.network.graph().nodes().iter().any(|node| quantised(&node.op)) {
        let problem =
            format!("{} is quantised, and rounding cannot be trained through", given.model.display());
        return Err(InputError::new(problem)
            .hint("give the file from before its quantisation, and quantise the smaller one")
            .into());
    }
    Ok(classifier)
}

/// The ways to prepare images that come into question: the one that is given or recorded, or the usual ones.
fn prepares(given: &Given, classifier: &Classifier, channels: usize) -> Result<Vec<(String, Prepare)>> {
    if let Some(prepare) = prepare_of(given, channels)? {
        return Ok(vec![("given".into(), prepare)]);
    }
    let Some(recorded) = &classifier.contract.preparation else { return Ok(conventions(channels, given)) };
    let prepare = Prepare {
        mean: recorded.normalization.mean.clone(),
        std: recorded.normalization.std.clone(),
        range: recorded.range,
        order: Some(recorded.order),
    };
    Ok(vec![("recorded in the file".into(), prepare)])
}

/// The fits that are tried besides the data's own: none where one is given or recorded, where a pipeline says how its
/// images are read, and where all of them have the network's size.
fn fits(given: &Given, recorded: Option<Fit>, images: &Split) -> Result<&'static [Fit]> {
    let known = given.fit.or(recorded).is_some() || given.data.is_file();
    Ok(if known || images.has_its_size()? { &[] } else { &[Fit::Crop, Fit::Letterbox] })
}

/// How the classifier does with each way and the fit of the images, and with the best of them and each other fit; the best
/// first, and of equal ones, the more common.
fn guesses(
    ways: Vec<(String, Prepare)>,
    fits: &[Fit],
    classifier: &Classifier,
    tried: &Split,
) -> Result<Vec<Guess>> {
    let guess = |name: String, prepare: Prepare, images: &Split| -> Result<Guess> {
        let prepared = preparation(&prepare, ChannelOrder::decoded(prepare.mean.len()));
        let network = in_other_order(classifier.network.clone(), &prepared)?;
        let score = evaluate_model(&network, Device::Auto, images, &prepared.decoded())?;
        Ok(Guess { name, prepare, fit: images.fit().unwrap_or_default(), score })
    };
    let better = |a: &Guess, b: &Guess| b.score.compare(&a.score);
    let mut guesses = Vec::new();
    for (name, prepare) in ways {
        guesses.push(guess(name, prepare, tried)?);
    }
    guesses.sort_by(better);
    for &fit in fits {
        let Guess { name, prepare, .. } = guesses.first().context("there is a way to prepare images")?;
        let fitted = guess(format!("{name}, {}", fit.name()), prepare.clone(), &tried.fitted(fit))?;
        guesses.push(fitted);
    }
    guesses.sort_by(better);
    Ok(guesses)
}

fn absolute(path: &Path) -> PathBuf {
    std::fs::canonicalize(path).unwrap_or_else(|_| path.to_path_buf())
}

/// The data as a pipeline has it, with absolute paths; a folder has the fit that is known, a pipeline keeps its own unless
/// another one is given.
fn data_of(given: &Given, known: Option<Fit>, [channels, height, width]: [usize; 3]) -> Result<Data> {
    if given.data.is_file() {
        let LoadedPipeline { mut pipeline, base, .. } = load_pipeline(&given.data, &[])?;
        if let Some(root) = pipeline.data.source.root_mut() {
            *root = absolute(&base.join(&*root));
        }
        match (&mut pipeline.data.source, given.fit) {
            (_, None) => {}
            (Source::Folder(source), Some(fit)) => source.fit = fit,
            (Source::Digits(_) | Source::Idx(_) | Source::Cifar10(_) | Source::Cifar100(_), Some(_)) => {
                let problem =
                    format!("--fit does not apply to {}, whose images have one size", given.data.display());
                return Err(InputError::new(problem).hint("leave it out").into());
            }
        }
        return Ok(pipeline.data);
    }
    if !given.data.is_dir() {
        return Err(InputError::new(format!(
            "--data {}: there is no such folder or file",
            given.data.display()
        ))
        .hint("give a folder that has a folder of images for each class, or a pipeline file")
        .into());
    }
    let root = absolute(&given.data);
    let test = if root.join("test").is_dir() { 0.0 } else { TEST };
    let source = Source::Folder(FolderSource {
        root,
        size: [height, width],
        fit: known.unwrap_or_default(),
        channels,
        test,
    });
    Ok(Data { source, validation: 0.1, images: None, augment: Vec::new(), workers: 0 })
}

/// The classifier's classes, and which of them each class of the data is.
fn classes(
    names: &[String],
    dataset: &Dataset,
    scores: usize,
    progress: &dyn Progress,
) -> Result<(Vec<String>, Vec<u32>)> {
    let own = &dataset.info.classes;
    if !names.is_empty() {
        if names.len() != scores {
            let problem =
                format!("there are {} names of classes, and the file gives {scores} scores", names.len());
            return Err(InputError::new(problem).hint("give one name for each score, in their order").into());
        }
        return Ok((names.to_vec(), places_of(own, names)?));
    }
    if own.len() != scores {
        let problem =
            format!("the file gives {scores} scores without names, and the data has {} classes", own.len());
        return Err(InputError::new(problem)
            .hint("list the names in the order of the scores, one a line: --labels FILE")
            .into());
    }
    progress.warn(format!(
        "the file does not name its classes; they are taken to be the data's in their order: {}",
        shortened(own)
    ));
    Ok((own.clone(), (0..own.len() as u32).collect()))
}

fn shortened(names: &[String]) -> String {
    let shown: Vec<&str> = names.iter().take(6).map(String::as_str).collect();
    if names.len() > shown.len() { format!("{}, …", shown.join(", ")) } else { shown.join(", ") }
}

/// The preparation that the options give; mean and deviation belong together.
fn prepare_of(given: &Given, channels: usize) -> Result<Option<Prepare>, InputError> {
    let (Some(mean), Some(std)) = (&given.mean, &given.std) else {
        return match (&given.mean, &given.std) {
            (None, None) => Ok(None),
            _ => Err(InputError::new("--mean and --std belong together")
                .hint("give both, one number for each channel")),
        };
    };
    let spread = |values: &[f32]| if values.len() == 1 { vec![values[0]; channels] } else { values.to_vec() };
    let (mean, std) = (spread(mean), spread(std));
    if mean.len() != channels || std.len() != channels || !std.iter().all(|std| *std > 0.0) {
        return Err(InputError::new(format!("--mean and --std do not fit images of {channels} channels"))
            .hint("give one number for each channel, deviations above 0"));
    }
    let order = given.order.or(Some(ChannelOrder::decoded(channels)));
    Ok(Some(Prepare { mean, std, range: given.range.unwrap_or_default(), order }))
}

/// The usual preparations, the most common first.
fn conventions(channels: usize, given: &Given) -> Vec<(String, Prepare)> {
    let (mean, std) = match channels {
        3 => (IMAGENET.0.to_vec(), IMAGENET.1.to_vec()),
        // The grey of ImageNet's means and deviations.
        _ => (vec![0.449; channels], vec![0.226; channels]),
    };
    let byte = |values: &[f32]| values.iter().map(|value| 255.0 * value).collect::<Vec<f32>>();
    let plain = |name: &str, mean: f32, std: f32, range| {
        (name.to_string(), vec![mean; channels], vec![std; channels], range)
    };
    let ranges = [
        ("ImageNet's mean and deviation".to_string(), mean.clone(), std.clone(), PixelRange::Unit),
        plain("0..1", 0.0, 1.0, PixelRange::Unit),
        plain("-1..1", 0.5, 0.5, PixelRange::Unit),
        plain("0..255", 0.0, 1.0, PixelRange::Byte),
        ("0..255 less ImageNet's mean".to_string(), byte(&mean), vec![1.0; channels], PixelRange::Byte),
    ];
    let orders: &[ChannelOrder] =
        if channels == 3 { &[ChannelOrder::Rgb, ChannelOrder::Bgr] } else { &[ChannelOrder::Gray] };
    let mut ways = Vec::new();
    for &order in orders.iter().filter(|order| given.order.is_none_or(|given| given == **order)) {
        for (name, mean, std, range) in
            ranges.iter().filter(|(.., range)| given.range.is_none_or(|given| given == *range))
        {
            let (mut mean, mut std) = (mean.clone(), std.clone());
            let mut name = name.clone();
            if order == ChannelOrder::Bgr {
                mean.reverse();
                std.reverse();
                name += ", blue first";
            }
            ways.push((name, Prepare { mean, std, range: *range, order: Some(order) }));
        }
    }
    ways
}

fn preparation(prepare: &Prepare, decoded: ChannelOrder) -> Preparation {
    let normalization = Normalization { mean: prepare.mean.clone(), std: prepare.std.clone() };
    let (order, range) = (prepare.order.unwrap_or(decoded), prepare.range);
    Preparation { order, range, ..Preparation::of(&normalization, Layout::ChannelsFirst) }
}
