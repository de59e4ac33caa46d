//! Runs every engine on all inputs and compares it with the reference.

use std::collections::BTreeMap;

use anyhow::Result;
use ndarray::{Array2, ArrayView2, ArrayViewD, Axis, Slice};

use crate::contract::{OutputKind, Precision};
use crate::engine::Placement;
use crate::onnx::{Finding, Severity};
use crate::progress::Progress;
use crate::task::SCORE;

use super::compare::{FACTOR, Limits, compare, compare_decisions, compare_rounded};
use super::configured::ConfiguredEngine;
use super::distances::{Reading, distances};
use super::effort::Amount;
use super::inputs::InputSet;
use super::report::{EngineReport, PreprocessingReport, Restored, Rounded, SetReport, VerifyReport};
use super::rounding::{Evaluations, spreads};
use super::scoring::{Scoring, right_decisions, score};
use super::tolerance::Tolerance;
use super::truth::{ReferenceKind, Truths};

/// Sizes of the first batches of each set; the rest of the set comes in batches of the last size.
const BATCHES: [usize; 6] = [1, 2, 3, 8, 7, 8];

/// Share of images on which a quantised file must decide as the one in floats.
const EQUAL_DECISIONS: f64 = 0.9;

/// A verification: a file in some engines, compared with a reference on given inputs.
pub struct Verification<'a> {
    /// The file's name in the report.
    pub model: String,
    /// Problems in the file's own structure.
    pub findings: Vec<Finding>,
    pub truths: &'a Truths,
    pub engines: &'a mut [ConfiguredEngine],
    pub inputs: &'a [InputSet],
    pub scoring: Option<Scoring<'a>>,
    /// The only batch size the file accepts, if its batch is fixed.
    pub fixed_batch: Option<usize>,
    /// The precision in which the file computes.
    pub precision: Precision,
    /// Evaluates the reference network in float32, where there is one. Only used where the file computes in float32, too.
    pub rounding: Option<&'a Evaluations<'a>>,
    pub amount: Amount,
    pub progress: &'a dyn Progress,
}

/// Compares every engine with the reference. An engine that fails is a finding, not an error.
pub fn verify(job: &mut Verification<'_>) -> VerifyReport {
    verified(job).finish()
}

/// Engines compared so far, before the verdict.
pub(super) struct Verified {
    model: String,
    /// Name and kind of the reference.
    truth: (String, ReferenceKind),
    precision: Precision,
    findings: Vec<Finding>,
    engines: Vec<EngineReport>,
    /// The truth first, then the engines.
    readings: Vec<Reading>,
    preprocessing: Option<PreprocessingReport>,
    batches: Vec<usize>,
}

/// Compares every engine with the reference on the given inputs, without a verdict.
pub(super) fn verified(job: &mut Verification<'_>) -> Verified {
    let batches = batch_sizes(job.fixed_batch);
    let task = job.progress.begin("verify", job.engines.len() as u64, "engines");
    let truth = Reading {
        name: "truth".into(),
        sets: job.inputs.iter().zip(&job.truths.logits).map(gating).collect(),
    };
    let (mut readings, mut engines, mut first) = (vec![truth], Vec::new(), None);
    let check = Check {
        inputs: job.inputs,
        truths: job.truths,
        scoring: job.scoring.as_ref(),
        batches: &batches,
        precision: job.precision,
        rounding: job.rounding,
        amount: job.amount,
    };
    for candidate in job.engines.iter_mut() {
        let (report, reading, right) = check.engine(candidate, first.as_ref());
        if let (None, Some(right)) = (&first, right) {
            first = Some((report.name.clone(), right));
        }
        engines.push(report);
        readings.push(reading);
        candidate.let_go();
        task.advance(1);
    }
    let preprocessing = check.preprocessing(job.engines, &engines);
    let mut findings = job.findings.clone();
    findings.extend(preprocessing.as_ref().and_then(unheeded));
    let truth = (job.truths.name.clone(), job.truths.kind);
    let (model, precision) = (job.model.clone(), job.precision);
    Verified { model, truth, precision, findings, engines, readings, preprocessing, batches }
}

impl Verified {
    /// Whether everything has passed so far.
    pub fn passed(&self) -> bool {
        let whole = self.findings.iter().all(|finding| finding.severity < Severity::Error);
        whole && self.engines.iter().all(|engine| engine.passed)
    }

    /// Number of samples that decide.
    pub fn samples(&self) -> usize {
        let sets = self.engines.first().map_or(&[][..], |engine| &engine.sets);
        sets.iter().filter(|set| set.gates).map(|set| set.samples).sum()
    }

    /// Adds the same engines on further inputs.
    pub fn extend(&mut self, more: Self) {
        for (engine, more) in self.engines.iter_mut().zip(more.engines) {
            engine.sets.extend(more.sets);
            let new = more.problems.into_iter().filter(|problem| !engine.problems.contains(problem));
            let new: Vec<String> = new.collect();
            engine.problems.extend(new);
            engine.passed &= more.passed;
        }
        for (reading, more) in self.readings.iter_mut().zip(more.readings) {
            reading.sets.extend(more.sets);
        }
    }

    /// The report, with its verdict.
    pub fn finish(self) -> VerifyReport {
        let passed = self.passed();
        let (truth, reference_kind) = self.truth;
        let mut findings = self.findings;
        findings.extend(rounded(&self.engines));
        VerifyReport {
            precision: self.precision,
            model: self.model,
            truth,
            reference_kind,
            verdict: if passed { reference_kind.verdict() } else { "failed" }.into(),
            passed,
            closest: closest(&self.engines),
            findings,
            distances: distances(&self.readings),
            preprocessing: self.preprocessing,
            engines: self.engines,
            batches: self.batches,
            sizes: Vec::new(),
            blame: Vec::new(),
        }
    }
}

/// A set's part in the distances between engines: empty if the set does not decide.
fn gating((set, logits): (&InputSet, &Array2<f64>)) -> Option<Array2<f64>> {
    Some(if set.gates { logits.clone() } else { Array2::zeros((0, logits.ncols())) })
}

fn batch_sizes(fixed: Option<usize>) -> Vec<usize> {
    match fixed {
        Some(size) => vec![size],
        None => BATCHES.to_vec(),
    }
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

/// Messages of an engine that failed, each with the inputs on which it failed.
#[derive(Default)]
struct Failures(Vec<(String, Vec<String>)>);

impl Failures {
    fn add(&mut self, said: String, on: &str) {
        match self.0.iter_mut().find(|(before, _)| *before == said) {
            Some((_, all)) => all.push(on.into()),
            None => self.0.push((said, vec![on.into()])),
        }
    }

    /// One line per message; a message that came on all sets does not list them.
    fn told(self, sets: usize) -> impl Iterator<Item = String> {
        self.0
            .into_iter()
            .map(move |(said, on)| if on.len() < sets { format!("{}: {said}", on.join(", ")) } else { said })
    }
}

/// What all engines are compared with.
struct Check<'a> {
    inputs: &'a [InputSet],
    truths: &'a Truths,
    scoring: Option<&'a Scoring<'a>>,
    batches: &'a [usize],
    precision: Precision,
    rounding: Option<&'a Evaluations<'a>>,
    amount: Amount,
}

impl Check<'_> {
    /// Checks one engine; `first` is an earlier engine's name and right decisions.
    fn engine(
        &self,
        candidate: &mut ConfiguredEngine,
        first: Option<&(String, Vec<bool>)>,
    ) -> (EngineReport, Reading, Option<Vec<bool>>) {
        let tolerance = match self.truths.kind {
            ReferenceKind::Unquantized => Tolerance::decisions(self.share_of_decisions()),
            ReferenceKind::Checkpoint
            | ReferenceKind::File
            | ReferenceKind::Reference
            | ReferenceKind::Recorded
            | ReferenceKind::Engine => Tolerance::of(candidate.engine, &candidate.options, self.precision),
        };
        let name = candidate.name();
        let (mut sets, mut problems, mut reading) = (Vec::new(), Vec::new(), Vec::new());
        let mut failures = Failures::default();
        let mut placement = Placement::new();
        match candidate.loaded().as_ref().map(|engine| engine.placement()) {
            Ok(Ok(known)) => placement = known,
            Ok(Err(problem)) => problems.push(format!("{problem:#}")),
            Err(refusal) => problems.push(format!("{refusal:#}")),
        }
        let outputs = self.outputs(candidate);
        for ((set, truth), found) in self.inputs.iter().zip(&self.truths.logits).zip(outputs) {
            let (kind, samples) = (candidate.kind, candidate.samples(truth.nrows(), self.amount.slow));
            let truth = truth.slice_axis(Axis(0), Slice::from(..samples));
            let compared =
                found.and_then(|found| Ok((self.set(kind, set, truth, &found, &tolerance)?, found)));
            match compared {
                Ok((report, found)) => {
                    problems.extend(problem(&report, kind));
                    sets.push(report);
                    reading.push(gating((set, &found.mapv(f64::from))));
                }
                Err(error) => {
                    if candidate.loaded().is_ok() {
                        failures.add(format!("{error:#}"), set.name);
                    }
                    reading.push(None);
                }
            }
        }
        let runs = candidate.loaded().is_ok() && reading.iter().any(Option::is_some);
        let (mut scored, mut answers) = (None, None);
        if let Some(asked) = self.scoring.filter(|_| candidate.usual() && runs) {
            match right_decisions(asked.split, asked.preparation, self.batch(), |images| {
                self.run(candidate, images)
            }) {
                Ok(right) => {
                    let other = first.map(|(name, right)| (name.as_str(), right.as_slice()));
                    let found = score(asked, &right, other, &tolerance);
                    if !found.passed {
                        let (split, here) = (&found.split, found.accuracy);
                        let there = found.reference.unwrap_or(0.0);
                        problems.push(format!("{SCORE} on {split}: {here:.4}, expected {there:.4}"));
                    }
                    (scored, answers) = (Some(found), Some(right));
                }
                Err(error) => failures.add(format!("{error:#}"), SCORE),
            }
        }
        problems.extend(failures.told(self.inputs.len()));
        let passed = problems.is_empty();
        let report = EngineReport {
            engine: candidate.engine,
            optimized: candidate.options.optimize,
            tf32: candidate.options.cuda.tf32,
            name: name.clone(),
            tolerance,
            placement,
            sets,
            accuracy: scored,
            problems,
            passed,
        };
        (report, Reading { name, sets: reading }, answers)
    }

    /// The share of decisions that a quantised file must have in common with the one in floats: most of those on images;
    /// noise has small margins, so that its share is only told.
    fn share_of_decisions(&self) -> f64 {
        let images = self.inputs.iter().any(|set| set.name == "images");
        if images { EQUAL_DECISIONS } else { 0.0 }
    }

    /// How the file's own preprocessing affects the score, and whether the data set's own restores it.
    fn preprocessing(
        &self,
        candidates: &mut [ConfiguredEngine],
        engines: &[EngineReport],
    ) -> Option<PreprocessingReport> {
        let asked = self.scoring?;
        let (own, reference) = (asked.own?, asked.reference?);
        let scored = || {
            engines.iter().enumerate().filter_map(|(place, engine)| Some((place, engine.accuracy.as_ref()?)))
        };
        let off =
            scored().next().filter(|_| scored().all(|(_, found)| !found.passed)).map(|(place, _)| place);
        let differences = asked.preparation.differences(own);
        let restored = off.filter(|_| !differences.is_empty()).and_then(|place| {
            let (candidate, engine) = (&mut candidates[place], &engines[place]);
            let right = right_decisions(asked.split, own, self.batch(), |images| self.run(candidate, images));
            let asked = Scoring { reference: Some(reference), preparation: own, ..*asked };
            let found = score(&asked, &right.ok()?, None, &engine.tolerance);
            Some(Restored { engine: engine.name.clone(), accuracy: found.accuracy, passed: found.passed })
        });
        Some(PreprocessingReport { differences, passed: off.is_none(), restored })
    }

    /// Batch size for a labelled split.
    fn batch(&self) -> usize {
        self.batches.iter().copied().max().unwrap_or(1)
    }

    /// Runs one engine on all sets of inputs, in all batch sizes. Batches of one size follow one another, because ONNX
    /// Runtime on CUDA plans its convolutions anew whenever the size changes
    /// (<https://github.com/microsoft/onnxruntime/issues/23006>).
    fn outputs(&self, candidate: &mut ConfiguredEngine) -> Vec<Result<Array2<f32>>> {
        let mut pieces = Vec::new();
        for (place, truth) in self.truths.logits.iter().enumerate() {
            let samples = candidate.samples(truth.nrows(), self.amount.slow);
            let sizes = self.batches.iter().chain(std::iter::repeat(&self.batches[self.batches.len() - 1]));
            let mut start = 0;
            for size in sizes {
                if start == samples {
                    break;
                }
                let end = (start + size).min(samples);
                pieces.push((place, start..end));
                start = end;
            }
        }
        pieces.sort_by_key(|(_, samples)| samples.len());
        let mut found: Vec<Result<BTreeMap<usize, Array2<f32>>>> =
            self.truths.logits.iter().map(|_| Ok(BTreeMap::new())).collect();
        for (place, samples) in pieces {
            let Ok(rows) = &mut found[place] else { continue };
            let images = self.inputs[place].images.slice_axis(Axis(0), Slice::from(samples.clone()));
            match self.run(candidate, images) {
                Ok(scores) => {
                    rows.insert(samples.start, scores);
                }
                Err(error) => found[place] = Err(error),
            }
        }
        let joined = |rows: BTreeMap<usize, Array2<f32>>| {
            let views: Vec<ArrayView2<'_, f32>> = rows.values().map(|rows| rows.view()).collect();
            Ok(ndarray::concatenate(Axis(0), &views)?)
        };
        found.into_iter().map(|rows| rows.and_then(joined)).collect()
    }

    /// Compares an engine's output on a set of inputs with the truth.
    fn set(
        &self,
        kind: OutputKind,
        set: &InputSet,
        truth: ArrayView2<'_, f64>,
        found: &Array2<f32>,
        tolerance: &Tolerance,
    ) -> Result<SetReport> {
        anyhow::ensure!(
            found.dim() == truth.dim(),
            "logits of shape {:?}, the truth has shape {:?}",
            found.dim(),
            truth.dim()
        );
        match kind {
            OutputKind::Decision => Ok(compare_decisions(set.name, set.gates, truth, found.view())),
            OutputKind::Logits
            | OutputKind::Probabilities
            | OutputKind::LogProbabilities
            | OutputKind::Embedding => self.compared(set, truth, found.view(), tolerance),
        }
    }

    /// Compares logits with the fixed limits and, if that fails, with those that rounding needs.
    fn compared(
        &self,
        set: &InputSet,
        truth: ArrayView2<'_, f64>,
        found: ArrayView2<'_, f32>,
        tolerance: &Tolerance,
    ) -> Result<SetReport> {
        let report = compare(set.name, set.gates, truth, found, tolerance);
        let exact = self.precision == Precision::Float32;
        let Some(evaluations) = self.rounding.filter(|_| exact && !report.passed && report.finite) else {
            return Ok(report);
        };
        let Some(spreads) = spreads(set.images.view(), truth, found, tolerance, evaluations)? else {
            return Ok(report);
        };
        let limits = Limits { tolerance, spreads: &spreads };
        let rounding = Rounded {
            samples: spreads.iter().filter(|spread| **spread > 0.0).count(),
            spread: spreads.iter().copied().fold(0.0, f64::max),
            fixed_limit_used: report.tolerance_used,
        };
        let wider = compare_rounded(set.name, set.gates, truth, found, &limits);
        Ok(SetReport { rounding: Some(rounding), ..wider })
    }

    fn run(&self, candidate: &mut ConfiguredEngine, images: ArrayViewD<'_, f32>) -> Result<Array2<f32>> {
        let fixed = if let [fixed] = self.batches { Some(*fixed) } else { None };
        candidate.logits(images, fixed)
    }
}

/// A finding if the preprocessing is not the data set's own, though the score does not show it.
fn unheeded(preprocessing: &PreprocessingReport) -> Option<Finding> {
    let differences = preprocessing.differences.join(", ");
    let problem = format!("the file's preprocessing is not the data set's own: {differences}");
    let remedy = format!("the {SCORE} is not affected; export the file again from its run");
    (preprocessing.passed && !differences.is_empty())
        .then(|| Finding::new(Severity::Warning, problem, remedy))
}

/// A note about the samples on which rounding alone exceeds the fixed limits.
fn rounded(engines: &[EngineReport]) -> Option<Finding> {
    let sets = engines.iter().flat_map(|engine| engine.sets.iter().map(move |set| (engine, set)));
    let wider = sets.filter_map(|(engine, set)| Some((engine, set, set.rounding?)));
    let (engine, set, Rounded { samples, spread, fixed_limit_used }) =
        wider.max_by(|a, b| a.2.fixed_limit_used.total_cmp(&b.2.fixed_limit_used))?;
    Some(Finding::new(
        Severity::Note,
        format!(
            "rounding: on {samples} samples of '{}' float32 evaluations of the network itself are up to {spread:.1e} apart, \
             so {} may be {:.1e} away there; it uses {fixed_limit_used:.1} times the fixed limit",
            set.set,
            engine.name,
            FACTOR * spread
        ),
        "the network is ill-conditioned on these inputs; nothing is wrong with the file",
    ))
}

fn problem(set: &SetReport, kind: OutputKind) -> Option<String> {
    if set.passed {
        return None;
    }
    if !set.finite {
        return Some(format!("{}: NaN or infinity", set.set));
    }
    if let (OutputKind::Decision, [first, ..]) = (kind, &set.flips[..]) {
        return Some(format!(
            "{}: {} of {} decisions changed; first at sample {}: class {} instead of {}",
            set.set,
            set.flips.len(),
            set.samples,
            first.sample,
            first.found,
            first.truth
        ));
    }
    let flips = set.flips.iter().filter(|flip| !flip.tie).count();
    let worst = set.worst.map_or(String::new(), |worst| {
        format!(
            "; worst at sample {}, class {}: {} instead of {}",
            worst.sample, worst.class, worst.found as f32, worst.truth as f32
        )
    });
    let used = set.tolerance_used;
    Some(format!("{}: error {used:.1} times the tolerance, {flips} decisions changed{worst}", set.set))
}
