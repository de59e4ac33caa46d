//! The pipeline that compresses a classifier, as a file.

use std::path::Path;

use anyhow::Result;

use crate::config::{
    Augment, Bench, Collaborate, Data, Device, EngineName, Export, LossWeights, Method, Optimizer, Pipeline,
    Report, Select, Sgd, Slimming, Stage, StudentModel, TrainingPrecision, Verify, pipeline_yaml,
};
use crate::files::write_atomic;

use super::candidates::Candidates;
use super::look::Subject;
use super::target::Target;

/// What a compression is asked for besides its target.
#[derive(Debug, Clone)]
pub struct Settings {
    pub name: String,
    pub seed: u64,
    /// Whether the labels are the original's decisions, which its whole answers say better.
    pub unlabelled: bool,
    pub epochs: usize,
    pub batch: usize,
    /// Learning rate at the schedule's peak.
    pub lr: f64,
    pub engines: Vec<EngineName>,
    /// Applied to training images.
    pub augment: Vec<Augment>,
}

/// The training: the students learn from labels, from one another, and from the original.
pub(super) fn collaborate(settings: &Settings) -> Collaborate {
    Collaborate {
        method: Method::CtslMktPaperNoSelf,
        epochs: settings.epochs,
        batch: settings.batch,
        // The students have no frozen copies of their own; the original takes their place.
        loss: LossWeights {
            alpha: settings.unlabelled.then_some(0.0),
            teacher: Some(1.0),
            ..LossWeights::default()
        },
        optimizer: Optimizer::Sgd(Sgd { lr: settings.lr, ..Sgd::default() }),
        ..Collaborate::default()
    }
}

/// Writes the pipeline: parts of the original, or models of the zoo, as students. What the target limits is a budget of the
/// choice, a latency one of the measurement after it.
///
/// # Errors
/// If the file cannot be written.
pub fn write(
    path: &Path,
    subject: &Subject,
    candidates: &Candidates,
    settings: &Settings,
    target: Target,
) -> Result<()> {
    let budgets = target.budgets(candidates.original.cost(target));
    let latency = match target {
        Target::Latency(budget) => vec![budget],
        Target::Params(_) | Target::Macs(_) | Target::Bytes(_) => Vec::new(),
    };
    let mut engines = vec![EngineName::Torch];
    engines.extend(&settings.engines);
    let has_parts =
        candidates.trained().any(|candidate| matches!(candidate.student.model, StudentModel::Slim(_)));
    let mut stages: Vec<Stage> = has_parts.then(|| Stage::Slim(Slimming::default())).into_iter().collect();
    stages.extend([
        Stage::Collaborate(collaborate(settings)),
        Stage::Select(Select { budgets, ..Select::default() }),
        Stage::Export(Export::default()),
        Stage::Verify(Verify { engines, ..Verify::default() }),
        Stage::Bench(Bench {
            engines: settings.engines.clone(),
            batch: vec![1],
            budgets: latency,
            ..Bench::default()
        }),
        Stage::Report(Report::default()),
    ]);
    let data = Data { augment: settings.augment.clone(), ..subject.data.clone() };
    let pipeline = Pipeline {
        version: 1,
        name: settings.name.clone(),
        seed: settings.seed,
        device: Device::Auto,
        precision: TrainingPrecision::default(),
        data,
        cohort: candidates.trained().map(|candidate| candidate.student.clone()).collect(),
        teacher: Some(subject.teacher.clone()),
        stages,
    };
    write_atomic(path, pipeline_yaml(&pipeline)?.as_bytes())
}
