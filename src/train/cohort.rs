//! The loop: epochs of steps, an evaluation and a checkpoint after each.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use anyhow::{Context, Result};
use tch::Kind;

use crate::config::{Augment, Device, Keep, Recipe, TrainingPrecision};
use crate::data::{Dataset, TrainingOrder, batches_per_epoch};
use crate::epoch::EpochRecord;
use crate::error::Interrupted;
use crate::files::write_atomic;
use crate::graph::{Model, Weights};
use crate::progress::{Event, Progress, Task};
use crate::task::Score;
use crate::torch::{Network, batch_tensor, resolve_device, set_convolutions, set_threads, threads, to_f32};

use super::answers::{Answerer, Answering};
use super::checkpoint::{self, StudentState};
use super::evaluate::{evaluate, evaluate_model};
use super::feed::{Fed, Feed};
use super::metrics::{COLUMNS, Sums, record};
use super::optimizer::OptimizerState;
use super::schedule::{Iteration, learning_rate};
use super::step::{Learner, Teaching, step};

/// One student at the start of a training.
pub struct Start<'a> {
    pub name: &'a str,
    pub model: Model,
    /// Frozen copy for the self-distillation.
    pub frozen: Option<Model>,
    /// Parameters that keep their values.
    pub fixed: &'a [String],
    /// Factor on the schedule's learning rate.
    pub lr_factor: f64,
}

/// A training: everything that decides its result, and where it keeps its state.
pub struct Training<'a> {
    /// Name for progress: `pretrain`, `collaborate`.
    pub stage: &'a str,
    /// Identifies the configuration; a checkpoint with another key is ignored.
    pub key: &'a str,
    pub recipe: &'a Recipe,
    pub students: Vec<Start<'a>>,
    /// A frozen network that teaches all students.
    pub teacher: Option<Answering<'a>>,
    pub data: &'a Dataset,
    pub augment: &'a [Augment],
    /// Threads that load and augment images.
    pub workers: usize,
    pub precision: TrainingPrecision,
    pub device: Device,
    /// Seed of the batch order and the augmentation.
    pub seed: u64,
    pub checkpoint: &'a Path,
    pub metrics: &'a Path,
    pub progress: &'a dyn Progress,
    /// Set when the user asks to stop.
    pub stop: &'a AtomicBool,
    /// The command that resumes after an interruption.
    pub resume: &'a str,
}

/// A student after a training.
#[derive(Debug, Clone, PartialEq)]
pub struct Trained {
    pub name: String,
    pub weights: Weights,
    /// Epoch (from 1) after which the weights were kept.
    pub epoch: usize,
    pub validation: Score,
    /// BLAKE3 hash of the optimiser's averages after the last epoch.
    pub optimizer: String,
}

/// The result of a training.
#[derive(Debug, Clone, PartialEq)]
pub struct Outcome {
    pub students: Vec<Trained>,
    pub history: Vec<EpochRecord>,
}

/// Sets how libtorch computes convolutions at a precision, and returns the type in which it computes. cuDNN's own choice
/// among its algorithms is good in TF32 and bfloat16, but up to 1.3 times slower than the fastest in float32.
///
/// # Errors
/// [`crate::error::InputError`] if the precision needs a GPU.
pub fn prepare_precision(precision: TrainingPrecision, device: tch::Device) -> Result<Kind> {
    let on_gpu = matches!(device, tch::Device::Cuda(_));
    if precision != TrainingPrecision::Float32 && !on_gpu {
        let problem = format!("precision {} is for a GPU, and this run is on the CPU", precision.key());
        return Err(crate::error::InputError::new(problem).hint("leave `precision` out").into());
    }
    set_convolutions(precision == TrainingPrecision::Tf32, precision == TrainingPrecision::Float32)?;
    Ok(match precision {
        TrainingPrecision::Float32 | TrainingPrecision::Tf32 => Kind::Float,
        TrainingPrecision::Bfloat16 => Kind::BFloat16,
    })
}

/// BLAKE3 hash of an optimiser's averages, in hex.
fn hash(optimizer: &OptimizerState) -> Result<String> {
    let mut hasher = blake3::Hasher::new();
    for (name, values) in optimizer.averages() {
        hasher.update(name.as_bytes());
        for value in to_f32(values)?.iter() {
            hasher.update(&value.to_le_bytes());
        }
    }
    Ok(hasher.finalize().to_hex().to_string())
}

/// A training while it runs.
struct Cohort<'a> {
    training: &'a Training<'a>,
    students: Vec<Learner<'a>>,
    teacher: Option<Answerer<'a>>,
    kept: Vec<Option<Weights>>,
    progress: checkpoint::Progress,
}

/// Trains the cohort to the end of its last epoch, starting from the newest checkpoint if there is one.
///
/// # Errors
/// [`Interrupted`] when `stop` was set, with a checkpoint written;
/// [`crate::error::InputError`] when a loss is not finite, an image cannot be read, or the disk is
/// full.
pub fn train(training: &Training<'_>) -> Result<Outcome> {
    let recipe = training.recipe;
    // With a fixed count MKL does not choose its own, which would change sums.
    set_threads(threads());
    let device = resolve_device(training.device)?;
    let feed = Feed::new(
        &training.data.train,
        &training.data.normalization,
        training.augment,
        training.workers,
        device,
    )?;
    let mut cohort = Cohort::start(training, device)?;
    cohort.restore()?;
    let steps = batches_per_epoch(training.data.train.len(), recipe.batch);
    anyhow::ensure!(steps > 0, "the training split is smaller than one batch");
    let task = training.progress.begin(training.stage, (recipe.epochs * steps) as u64, "steps");
    task.resume((cohort.progress.epoch * steps + cohort.progress.batch) as u64);
    while cohort.progress.epoch < recipe.epochs {
        cohort.epoch(&feed, steps, &task)?;
    }
    cohort.finish()
}

impl<'a> Cohort<'a> {
    fn start(training: &'a Training<'a>, device: tch::Device) -> Result<Self> {
        let kind = prepare_precision(training.precision, device)?;
        let mut students = Vec::with_capacity(training.students.len());
        for start in &training.students {
            let network = Network::new(&start.model, device, Kind::Float)
                .and_then(|network| network.fixing(start.fixed))
                .with_context(|| format!("student '{}'", start.name))?
                .computing_in(kind);
            let past = start.frozen.as_ref().map(|past| Answerer::frozen(past, device, kind)).transpose()?;
            let optimizer = OptimizerState::new(&network, &training.recipe.optimizer)?;
            let (name, lr_factor) = (start.name.to_string(), start.lr_factor);
            students.push(Learner { name, network, frozen: past, optimizer, lr_factor });
        }
        let teacher = training.teacher.map(|teacher| Answerer::frozen(teacher, device, kind)).transpose()?;
        let count = students.len();
        let progress = checkpoint::Progress {
            key: training.key.to_string(),
            epoch: 0,
            batch: 0,
            sums: vec![[0.0; COLUMNS]; count],
            history: Vec::new(),
            kept: vec![None; count],
        };
        Ok(Self { training, students, teacher, kept: vec![None; count], progress })
    }

    fn restore(&mut self) -> Result<()> {
        let found = checkpoint::load(self.training.checkpoint, self.training.key, self.students.len())?;
        let Some((progress, states)) = found else { return Ok(()) };
        for ((student, kept), state) in self.students.iter_mut().zip(&mut self.kept).zip(states) {
            student.network.load(&state.weights)?;
            for (name, values) in &state.optimizer {
                let values = batch_tensor(values.view(), student.network.device())?;
                student.optimizer.restore(name, &values)?;
            }
            *kept = state.kept;
        }
        self.training.progress.note(format!(
            "{}: going on at epoch {} of {}, batch {}",
            self.training.stage,
            (progress.epoch + 1).min(self.training.recipe.epochs),
            self.training.recipe.epochs,
            progress.batch + 1
        ));
        self.progress = progress;
        self.write_metrics()
    }

    fn epoch(&mut self, feed: &Feed<'_>, steps: usize, task: &Task<'_>) -> Result<()> {
        let training = self.training;
        let recipe = training.recipe;
        let (epoch, first_batch) = (self.progress.epoch, self.progress.batch);
        let names: Vec<&str> = training.students.iter().map(|start| start.name).collect();
        let mut sums = Sums::new(self.progress.sums.clone(), first_batch, epoch);
        let order = TrainingOrder { batch: recipe.batch, seed: training.seed, epoch, first_batch };
        let ramp = (epoch + 1) as f64 / (recipe.ramp_epochs + 1) as f64;
        let terms = recipe.terms.ramped(ramp);
        let teaching = Teaching { terms: &terms, updates: recipe.updates, teacher: self.teacher.as_ref() };
        let started = Instant::now();
        let mut lr = 0.0;
        for (index, batch) in (first_batch..).zip(feed.epoch(order)) {
            if training.stop.load(Ordering::Relaxed) {
                return self.interrupt(&mut sums, &names);
            }
            let Fed { images, targets } = batch?;
            let done = epoch * steps + index;
            lr = learning_rate(&recipe.schedule, recipe.optimizer.lr(), done, steps, recipe.epochs);
            let iteration = Iteration { step: done + 1, lr };
            sums.add(step(&mut self.students, &teaching, &images, &targets, iteration)?, &names)?;
            task.advance(1);
        }
        // Waits for the device, so that the time below covers the steps.
        let totals = sums.finish(&names)?.to_vec();
        let rate = ((steps - first_batch) * recipe.batch) as f64 / started.elapsed().as_secs_f64();
        self.close_epoch(&totals, sums.steps(), lr)?;
        self.tell_epoch(rate);
        Ok(())
    }

    /// Scores the students, keeps the weights that the recipe asks for, and writes the checkpoint.
    fn close_epoch(&mut self, totals: &[[f64; COLUMNS]], steps: usize, lr: f64) -> Result<()> {
        let training = self.training;
        let recipe = training.recipe;
        let epoch = self.progress.epoch + 1;
        let scores = match epoch.is_multiple_of(recipe.validate_every) || epoch == recipe.epochs {
            true => self.validate()?.into_iter().map(Some).collect(),
            false => vec![None; self.students.len()],
        };
        let mut records = Vec::with_capacity(self.students.len());
        for (index, score) in scores.into_iter().enumerate() {
            let student = &self.students[index];
            records.push(record(&student.name, &totals[index], &recipe.terms, steps, recipe.batch, score));
            let Some(score) = score else { continue };
            let better = match (recipe.keep, self.progress.kept[index]) {
                (Keep::Last, _) | (Keep::Best, None) => true,
                (Keep::Best, Some((_, best))) => score.compare(&best).is_ge(),
            };
            if better {
                self.kept[index] = Some(student.network.weights()?);
                self.progress.kept[index] = Some((epoch, score));
            }
        }
        self.progress.history.push(EpochRecord { epoch, lr, students: records });
        self.progress.epoch = epoch;
        self.progress.batch = 0;
        self.progress.sums = vec![[0.0; COLUMNS]; self.students.len()];
        self.save()?;
        self.write_metrics()
    }

    fn validate(&self) -> Result<Vec<Score>> {
        let networks: Vec<&Network> = self.students.iter().map(|student| &student.network).collect();
        let Training { data, .. } = self.training;
        let found = evaluate(&networks, &data.validation, &data.normalization)?;
        Ok(found.into_iter().map(|evaluation| evaluation.score).collect())
    }

    fn interrupt(&mut self, sums: &mut Sums, names: &[&str]) -> Result<()> {
        self.progress.sums = sums.finish(names)?.to_vec();
        self.progress.batch = sums.steps();
        self.save()?;
        Err(Interrupted { resume: self.training.resume.to_string() }.into())
    }

    fn save(&self) -> Result<()> {
        let mut states = Vec::with_capacity(self.students.len());
        for (student, kept) in self.students.iter().zip(&self.kept) {
            let weights = student.network.weights()?;
            let averages = student.optimizer.averages().iter();
            let optimizer = averages.map(|(name, values)| Ok(((*name).to_string(), to_f32(values)?)));
            let optimizer = optimizer.collect::<Result<_>>()?;
            states.push(StudentState { weights, optimizer, kept: kept.clone() });
        }
        checkpoint::save(self.training.checkpoint, &self.progress, &states)
    }

    /// Writes all records again, so that no line can be lost or doubled.
    fn write_metrics(&self) -> Result<()> {
        let lines = self.progress.history.iter().map(|record| Ok(serde_json::to_string(record)? + "\n"));
        write_atomic(self.training.metrics, lines.collect::<Result<String>>()?.as_bytes())
    }

    fn tell_epoch(&self, images_per_second: f64) {
        let Some(record) = self.progress.history.last().cloned() else { return };
        let (stage, epochs) = (self.training.stage.to_string(), self.training.recipe.epochs);
        self.training.progress.hear(Event::Epoch { stage, epochs, record, images_per_second });
    }

    /// The score that an exported file will be compared with: files compute in float32 whatever the training did.
    fn score_in_float32(&self, network: &Network, weights: &Weights) -> Result<Score> {
        let Training { device, data, .. } = self.training;
        let model = Model::new(network.graph().clone(), weights.clone())?;
        evaluate_model(&model, *device, &data.validation, &data.normalization)
    }

    fn finish(self) -> Result<Outcome> {
        let mut trained = Vec::with_capacity(self.students.len());
        for ((student, kept), score) in self.students.iter().zip(&self.kept).zip(&self.progress.kept) {
            let weights = kept.clone().context("no epoch was finished")?;
            let (epoch, mut validation) = score.context("no epoch was finished")?;
            if self.training.precision != TrainingPrecision::Float32 {
                validation = self.score_in_float32(&student.network, &weights)?;
            }
            let optimizer = hash(&student.optimizer)?;
            trained.push(Trained { name: student.name.clone(), weights, epoch, validation, optimizer });
        }
        Ok(Outcome { students: trained, history: self.progress.history })
    }
}
