//! The first look at a file and its images: which classes, which preparation, how good it is.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result};

use crate::config::{Data, Device, FolderSource, Labels, LoadedPipeline, Source, TeacherSpec, load_pipeline};
use crate::contract::{ChannelOrder, Fit, Normalization};
use crate::data::{Adaptation, Dataset, Split, load};
use crate::error::InputError;
use crate::graph::{Model, Op};
use crate::plan::{Classifier, Known};
use crate::progress::Progress;
use crate::task::Score;
use crate::train::{evaluate_model, labelled_by};

use super::classes::{Classes, classes, shown_order, warn_of};
use super::conventions::{self, Guess, fits, preparation, prepares};
use super::given::Given;

/// Images on which a preparation is tried.
const TRIED: usize = 512;

/// Share of a folder's images that is held out where it has no split for tests.
const TEST: f64 = 0.15;

/// A network that gives one class to this share of all images has nothing to teach.
const ALL_ALIKE: f64 = 0.99;

/// A classifier with its images, as a pipeline has them.
pub struct Subject {
    pub classifier: Classifier,
    /// The network for images as they are decoded.
    pub network: Known,
    /// The same, if parts of it can be trained; otherwise, why not.
    pub parts: Result<Arc<Model>, String>,
    pub data: Data,
    /// Seed for splits, batches and augmentation.
    pub seed: u64,
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
    let classifier = Classifier::open(&given.model, given.shape)?;
    let shape = classifier.network.shape()?;
    let recorded = classifier.contract.preparation.as_ref().map(|preparation| preparation.fit);
    let (mut data, seed) = data_of(given, given.fit.or(recorded), shape)?;
    let own_labels = data.labels.are_own();
    progress.note(format!("reading the images of {}", given.data.display()));
    let read = load(&data, Path::new("/"), seed)?;
    read.notes.iter().for_each(|note| progress.warn(note.clone()));
    if read.info.shape != shape {
        let (path, found) = (given.model.display(), read.info.shape);
        let problem = format!("{path} takes images of {shape:?} and the pipeline's are {found:?}");
        return Err(InputError::new(problem).hint("give the pipeline's data that size").into());
    }
    let names = if given.classes.is_empty() { &classifier.contract.classes } else { &given.classes };
    let mut classes = classes(names, &read, classifier.network.classes(), own_labels)?;
    let own_names = read.info.classes.clone();
    let mut dataset = read.adapted(&adaptation(&classes, shape));

    let prepares = prepares(given, &classifier, shape[0])?;
    let mut guesses = Vec::new();
    if own_labels {
        let fits = fits(given, recorded, &dataset.validation)?;
        let settled = prepares.len() == 1 && fits.is_empty();
        let tried =
            |data: &Dataset| if settled { data.validation.clone() } else { data.validation.spread(TRIED) };
        guesses = conventions::guesses(prepares.clone(), fits, &classifier, &tried(&dataset))?;
        let chance = dataset.validation.largest_share();
        if !classes.known
            && guesses.first().is_none_or(|best| best.score.is_at_chance(chance))
            && let Some(shown) = shown_order(&classes, &prepares, &classifier, &tried(&dataset))?
        {
            // The labels were the data's in their order, so that they are mapped once.
            dataset = dataset.adapted(&adaptation(&shown, shape));
            guesses = conventions::guesses(prepares.clone(), fits, &classifier, &tried(&dataset))?;
            classes = shown;
        }
        if !classes.known {
            warn_of(&classes, &own_names, progress);
        }
    } else if prepares.len() > 1 {
        let problem = format!("{} does not say how its images are prepared", given.model.display());
        return Err(InputError::new(problem)
            .hint("without labels the usual ways cannot be tried: give --mean, --std, --range and --channel-order")
            .into());
    }
    let best = match guesses.first() {
        Some(best) => {
            if let Source::Folder(source) = &mut data.source
                && source.fit != best.fit
            {
                source.fit = best.fit;
                progress.note(format!("reading the images again, with the fit '{}'", best.fit.name()));
                dataset = load(&data, Path::new("/"), seed)?.adapted(&adaptation(&classes, shape));
            }
            best.prepare.clone()
        }
        None => prepares.first().context("there is a way to prepare images")?.1.clone(),
    };
    let prepared = preparation(&best, ChannelOrder::decoded(shape[0]));
    let network = classifier.network.in_other_order(&prepared)?;
    let mut dataset = Dataset { normalization: prepared.decoded(), ..dataset };
    if !own_labels {
        dataset = labelled_by(&network, Device::Auto, dataset)?;
    }
    let validation = evaluate_model(&network, Device::Auto, &dataset.validation, &dataset.normalization)?;
    at_chance(given, own_labels, &validation, &dataset.validation)?;
    let teacher = TeacherSpec {
        onnx: Some(absolute(&given.model)),
        shape: given.shape,
        prepare: Some(best),
        classes: classes.names,
        ..TeacherSpec::default()
    };
    let guesses = if guesses.len() > 1 { guesses } else { Vec::new() };
    let parts = parts(&network);
    if let Err(reason) = &parts {
        progress.warn(format!(
            "no parts of this network can be trained, so that students of the zoo start anew and learn from it: {reason}"
        ));
    }
    Ok(Subject { classifier, network, parts, data, seed, teacher, dataset, guesses, validation })
}

fn adaptation(classes: &Classes, [channels, ..]: [usize; 3]) -> Adaptation {
    let normalization = Normalization::none(channels);
    Adaptation { classes: classes.names.clone(), labels: classes.labels.clone(), normalization }
}

/// Refuses a classifier that knows nothing of these images.
fn at_chance(given: &Given, own_labels: bool, score: &Score, split: &Split) -> Result<(), InputError> {
    if own_labels && score.is_at_chance(split.largest_share()) {
        let problem = format!("{} is at chance level on these images: {score}", given.model.display());
        return Err(InputError::new(problem).hint(
            "are these images of its classes, in the order of its scores (--labels FILE), and prepared as in its \
             training (--mean, --std, --range, --channel-order, --fit)?",
        ));
    }
    if !own_labels && split.largest_share() > ALL_ALIKE {
        let problem = format!("{} decides nearly all of these images alike", given.model.display());
        return Err(InputError::new(problem)
            .hint("are they images of its classes, prepared as in its training (--mean, --std, --range, --channel-order, --fit)?"));
    }
    Ok(())
}

/// The network, if parts of it can be trained; otherwise, why not.
fn parts(network: &Known) -> Result<Arc<Model>, String> {
    let quantised = |op: &Op| matches!(op, Op::QuantizeDequantize(_));
    match network {
        Known::File(opaque) => Err(opaque.reason.clone()),
        Known::Network(model) if model.graph().nodes().iter().any(|node| quantised(&node.op)) => {
            Err("it is quantised, and rounding cannot be trained through; give the file from before its quantisation for better students".into())
        }
        Known::Network(model) => Ok(Arc::clone(model)),
    }
}

fn absolute(path: &Path) -> PathBuf {
    std::fs::canonicalize(path).unwrap_or_else(|_| path.to_path_buf())
}

/// The data as a pipeline has it, with absolute paths, and the seed of its splits; a folder has the fit that is known, a
/// pipeline keeps its own, and its seed, unless others are given.
fn data_of(given: &Given, known: Option<Fit>, [channels, height, width]: [usize; 3]) -> Result<(Data, u64)> {
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
        if given.unlabelled {
            pipeline.data.labels = Labels::Teacher;
        }
        return Ok((pipeline.data, given.seed.unwrap_or(pipeline.seed)));
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
    let labels = if given.unlabelled { Labels::Teacher } else { Labels::Own };
    let source = FolderSource::new(root, [height, width]);
    let source =
        Source::Folder(FolderSource { fit: known.unwrap_or_default(), channels, test: TEST, ..source });
    let data = Data { source, labels, validation: 0.1, images: None, augment: Vec::new(), workers: 0 };
    Ok((data, given.seed.unwrap_or(0)))
}
