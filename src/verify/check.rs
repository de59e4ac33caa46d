//! Runs the truth and every engine on all inputs and holds one against the other.

use anyhow::{Context, Result};
use ndarray::{Array2, ArrayD, ArrayViewD, Axis, Slice};

use crate::config::EngineName;
use crate::data::{Normalization, Split, ordered_batches};
use crate::engine::Engine;
use crate::graph::Graph;
use crate::ui::Ui;

use super::compare::compare;
use super::inputs::InputSet;
use super::report::{AccuracyReport, EngineReport, VerifyReport};
use super::tolerance::Tolerance;

/// Batch sizes each set begins with; the rest of it comes in batches of the last.
const BATCHES: [usize; 6] = [1, 2, 3, 8, 7, 8];

/// What is held to be true: logits of a normalised batch.
type Truth<'a> = &'a dyn Fn(ArrayViewD<'_, f32>) -> Result<ArrayD<f64>>;

/// A verification: a file in some engines, against a truth, on inputs.
pub struct Job<'a> {
    /// Names the file in the report.
    pub model: String,
    pub truth_name: String,
    pub truth: Truth<'a>,
    /// Whether the truth is the checkpoint; otherwise agreement is all that can be shown.
    pub from_checkpoint: bool,
    pub engines: Vec<(EngineName, Box<dyn Engine>)>,
    pub inputs: &'a [InputSet],
    pub accuracy: Option<Accuracy<'a>>,
    /// The only batch size the file takes, if it takes but one.
    pub fixed_batch: Option<usize>,
    pub ui: Ui,
}

/// A labelled split, and what the checkpoint scored on it.
pub struct Accuracy<'a> {
    pub name: &'a str,
    pub split: &'a Split,
    pub normalization: &'a Normalization,
    /// Share of right answers.
    pub reference: f64,
}

/// Compares every engine with the truth.
///
/// # Errors
/// If the truth cannot be computed. An engine that fails is a finding, not an error.
pub fn verify(job: &mut Job<'_>) -> Result<VerifyReport> {
    let batches = batch_sizes(job.fixed_batch);
    let mut bar = job.ui.bar("verify", (job.engines.len() + 1) as u64, "engines");
    let truths = job.inputs.iter().map(|set| truth_of(job, set)).collect::<Result<Vec<_>>>()?;
    bar.inc(1);
    let mut engines = Vec::new();
    for (engine, loaded) in &mut job.engines {
        let check =
            Check { inputs: job.inputs, truths: &truths, accuracy: job.accuracy.as_ref(), batches: &batches };
        engines.push(check.engine(*engine, loaded.as_mut()));
        bar.inc(1);
    }
    let passed = engines.iter().all(|engine| engine.passed);
    let verdict = match (passed, job.from_checkpoint) {
        (true, true) => "export correct",
        (true, false) => "engines agree",
        (false, _) => "failed",
    };
    Ok(VerifyReport {
        model: job.model.clone(),
        truth: job.truth_name.clone(),
        verdict: verdict.into(),
        passed,
        closest: closest(&engines),
        engines,
        batches,
    })
}

fn batch_sizes(fixed: Option<usize>) -> Vec<usize> {
    match fixed {
        Some(size) => vec![size],
        None => BATCHES.to_vec(),
    }
}

fn truth_of(job: &Job<'_>, set: &InputSet) -> Result<Array2<f64>> {
    const TRUTH_BATCH: usize = 32;
    let mut rows = Vec::new();
    for images in set.images.axis_chunks_iter(Axis(0), job.fixed_batch.unwrap_or(TRUTH_BATCH)) {
        let logits = match job.fixed_batch {
            Some(size) => {
                let keep = images.shape()[0];
                (job.truth)(padded(images, size).view())?.slice_axis(Axis(0), Slice::from(..keep)).to_owned()
            }
            None => (job.truth)(images)?,
        };
        rows.push(logits);
    }
    let views: Vec<ArrayViewD<'_, f64>> = rows.iter().map(|rows| rows.view()).collect();
    let all = ndarray::concatenate(Axis(0), &views)?;
    all.into_dimensionality().with_context(|| format!("the truth's logits on '{}' are no table", set.name))
}

fn closest(engines: &[EngineReport]) -> Option<String> {
    let error = |engine: &EngineReport| {
        let gating = engine.sets.iter().filter(|set| set.gates && set.finite);
        gating
            .map(|set| set.relative_l2)
            .fold(None, |worst: Option<f64>, error| Some(worst.map_or(error, |w| w.max(error))))
    };
    let scored = engines.iter().filter_map(|engine| Some((error(engine)?, &engine.name)));
    scored.min_by(|a, b| a.0.total_cmp(&b.0)).map(|(_, name)| name.clone())
}

/// What all engines are held against.
struct Check<'a> {
    inputs: &'a [InputSet],
    truths: &'a [Array2<f64>],
    accuracy: Option<&'a Accuracy<'a>>,
    batches: &'a [usize],
}

impl Check<'_> {
    fn engine(&self, engine: EngineName, loaded: &mut dyn Engine) -> EngineReport {
        let tolerance = Tolerance::of(engine);
        let mut report = EngineReport {
            engine,
            name: loaded.name(),
            tolerance,
            sets: Vec::new(),
            accuracy: None,
            problems: Vec::new(),
            passed: false,
        };
        for (set, truth) in self.inputs.iter().zip(self.truths) {
            match self.logits(loaded, set) {
                Ok(found) if found.dim() == truth.dim() => {
                    let set = compare(set.name, set.gates, truth.view(), found.view(), &tolerance);
                    report.problems.extend(problem(&set));
                    report.sets.push(set);
                }
                Ok(found) => {
                    let (found, truth) = (found.dim(), truth.dim());
                    report
                        .problems
                        .push(format!("{}: logits of {found:?}, the truth has {truth:?}", set.name));
                }
                Err(error) => report.problems.push(format!("{}: {error:#}", set.name)),
            }
        }
        if let Some(accuracy) = self.accuracy {
            match self.score(loaded, accuracy, &tolerance) {
                Ok(score) => {
                    if !score.passed {
                        report.problems.push(format!(
                            "accuracy on {}: {:.4}, the checkpoint has {:.4}",
                            score.split, score.accuracy, score.reference
                        ));
                    }
                    report.accuracy = Some(score);
                }
                Err(error) => report.problems.push(format!("accuracy: {error:#}")),
            }
        }
        report.passed = report.problems.is_empty();
        report
    }

    /// Logits of a whole set, run in all batch sizes.
    fn logits(&self, engine: &mut dyn Engine, set: &InputSet) -> Result<Array2<f32>> {
        let (mut start, mut turn, mut rows) = (0, 0, Vec::new());
        let samples = set.images.shape()[0];
        while start < samples {
            let size = self.batches[turn.min(self.batches.len() - 1)];
            let end = (start + size).min(samples);
            let images = set.images.slice_axis(Axis(0), Slice::from(start..end));
            rows.push(self.run(engine, images)?);
            (start, turn) = (end, turn + 1);
        }
        let views: Vec<ArrayViewD<'_, f32>> = rows.iter().map(|rows| rows.view()).collect();
        Ok(ndarray::concatenate(Axis(0), &views)?.into_dimensionality()?)
    }

    fn run(&self, engine: &mut dyn Engine, images: ArrayViewD<'_, f32>) -> Result<ArrayD<f32>> {
        let keep = images.shape()[0];
        let place = engine.outputs().iter().position(|name| name == Graph::LOGITS).unwrap_or(0);
        let outputs = match self.batches {
            [fixed] => engine.run(padded(images, *fixed).view())?,
            _ => engine.run(images)?,
        };
        let logits = outputs.into_iter().nth(place).context("the engine gives no output")?;
        Ok(logits.slice_axis(Axis(0), Slice::from(..keep)).to_owned())
    }

    fn score(
        &self,
        engine: &mut dyn Engine,
        accuracy: &Accuracy<'_>,
        tolerance: &Tolerance,
    ) -> Result<AccuracyReport> {
        let batch = self.batches.iter().copied().max().unwrap_or(1);
        let mut right = 0;
        for batch in ordered_batches(accuracy.split, accuracy.normalization, batch) {
            let batch = batch?;
            let logits = self.run(engine, batch.images.view())?;
            for (row, &label) in logits.outer_iter().zip(&batch.labels) {
                let best =
                    row.iter().enumerate().reduce(|best, next| if next.1 > best.1 { next } else { best });
                right += usize::from(best.is_some_and(|(class, _)| class as i64 == label));
            }
        }
        let images = accuracy.split.len();
        let difference = (right as f64 - accuracy.reference * images as f64).abs();
        let allowed = tolerance.accuracy_samples.max(tolerance.accuracy_share * images as f64);
        Ok(AccuracyReport {
            split: accuracy.name.to_string(),
            images,
            accuracy: right as f64 / images.max(1) as f64,
            reference: accuracy.reference,
            // Shares are rounded; half a sample is no difference.
            passed: difference <= allowed + 0.5,
        })
    }
}

/// The images and, after them, black ones up to the batch size a file takes.
fn padded(images: ArrayViewD<'_, f32>, size: usize) -> ArrayD<f32> {
    let mut shape = images.shape().to_vec();
    let filled = shape[0];
    shape[0] = size;
    let mut all = ArrayD::zeros(shape);
    all.slice_axis_mut(Axis(0), Slice::from(..filled)).assign(&images);
    all
}

fn problem(set: &super::report::SetReport) -> Option<String> {
    if set.passed {
        return None;
    }
    if !set.finite {
        return Some(format!("{}: NaN or infinity", set.set));
    }
    let flips = set.flips.iter().filter(|flip| !flip.tie).count();
    let worst = set.worst.map_or(String::new(), |worst| {
        format!(
            "; worst at sample {}, class {}: {} instead of {}",
            worst.sample, worst.class, worst.found, worst.truth
        )
    });
    let used = set.tolerance_used;
    Some(format!("{}: error {used:.1} times the tolerance, {flips} decisions changed{worst}", set.set))
}
