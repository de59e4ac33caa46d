//! Finds the node at which the error of a failed verification begins.

use std::collections::HashMap;

use anyhow::{Context, Result, anyhow, ensure};
use ndarray::{Array2, ArrayD, Axis, IxDyn, Slice};

use crate::config::{CudaSettings, EngineName};
use crate::contract::{Precision, rows};
use crate::engine::torch::Truth;
use crate::engine::{Engine, EngineOptions, padded};
use crate::graph::{Graph, Model, Node, Op, fold_batch_norm};
use crate::onnx::{Import, OnnxFile, import};
use crate::progress::Progress;

use super::super::adversarial::all_logits;
use super::super::case::{Case, case};
use super::super::compare::compare;
use super::super::configured::ConfiguredEngine;
use super::super::inputs::InputSet;
use super::super::report::{Blame, EngineReport, NodeError, VerifyReport};
use super::super::tolerance::Tolerance;
use super::super::truth::{ReferenceKind, Truths};
use super::align::{align, score};
use super::cause::{cause, folded_norm};
use super::guess::guess;
use super::passes::{NodeErrors, Values, distance, errors, values};

/// Maximum number of tensor values held at once: 128 MiB in float64.
const MAX_VALUES: usize = 1 << 24;

/// A node of a file counts as correct if its relative error is below this, which is the error left by rounded
/// weights.
const FILE_ROUNDING: f64 = 2e-6;

/// The same limit for float16 weights: half a unit in the last of eleven binary digits, part of which
/// accumulates.
const HALF_ROUNDING: f64 = 2e-3;

/// An engine's node counts as correct if its relative error is below this share of the tolerance.
const ENGINE_SHARE: f64 = 0.1;

/// The cause of errors in a quantised file that exact products do away with.
const SATURATES: &str = "ONNX Runtime's int8 products saturate on this processor, which has no VNNI instructions: with its \
                         option session.x64quantprecision=1 the error is gone; quantise weights to 7 bits \
                         (reduce_range=True) for such processors";

/// Number of nodes reported before and after the one that is blamed.
const AROUND: usize = 2;

/// Loads a file into an engine.
pub type Open<'a> = dyn Fn(&OnnxFile, EngineName, &EngineOptions) -> Result<Box<dyn Engine>> + 'a;

/// Everything needed to investigate a failed verification.
pub struct Evidence<'a> {
    pub file: &'a OnnxFile,
    /// The network the file should compute, if it is not given by the file's own nodes.
    pub reference: Option<&'a Model>,
    pub inputs: &'a [InputSet],
    pub truths: &'a Truths,
    /// Loads the file, or one like it, into an engine.
    pub open: &'a Open<'a>,
    pub threads: usize,
}

/// Adds the nodes where a failure begins to its report. If none can be found, that is a warning and the
/// failure stands.
pub fn blame(report: &mut VerifyReport, evidence: &Evidence<'_>, progress: &dyn Progress) {
    let decisions_only = report.reference_kind == ReferenceKind::Unquantized;
    if report.passed || decisions_only || !cfg!(feature = "train") {
        return;
    }
    match find(report, evidence) {
        Ok(blame) => {
            let rounding = |blame: &Blame| {
                blame.engine.is_some() && blame.compared > 0 && blame.node.is_none() && blame.cause.is_none()
            };
            if !blame.is_empty() && blame.iter().all(rounding) {
                report.verdict = "rounding beyond the limit".into();
            }
            report.blame = blame;
        }
        Err(error) => progress.warn(format!("no node can be blamed: {error:#}")),
    }
}

/// Finds the node where each failure begins: in the file if it differs from its reference, otherwise in the
/// engines that failed.
///
/// # Errors
/// [`crate::error::InputError`] if the file cannot be imported; other errors if libtorch or an engine fails.
fn find(report: &VerifyReport, evidence: &Evidence<'_>) -> Result<Vec<Blame>> {
    let runs_files = report.engines.iter().filter(|engine| engine.engine != EngineName::Torch);
    let failed = runs_files.filter_map(|engine| Some((engine, case(engine, evidence.inputs)?)));
    let mut failed: Vec<(&EngineReport, Case<'_>)> = failed.collect();
    if failed.is_empty() {
        return Ok(Vec::new());
    }
    let imported = import(evidence.file)?;
    let under_test = FileUnderTest { network: Truth::new(&imported.model)?, imported, evidence };
    let most = under_test.most_samples();
    failed.iter_mut().for_each(|(_, case)| case.samples.truncate(most));
    let (engine, first) = &failed[0];
    if let Some(blame) = under_test.file(first, &engine.tolerance)? {
        return Ok(vec![blame]);
    }
    failed.iter().map(|(engine, case)| under_test.engine(engine, case)).collect()
}

/// The file, evaluated in float64.
struct FileUnderTest<'a> {
    imported: Import,
    network: Truth,
    evidence: &'a Evidence<'a>,
}

impl FileUnderTest<'_> {
    /// The file's own fault, if its nodes deviate from the truth by more than an engine's tolerance.
    fn file(&self, case: &Case<'_>, tolerance: &Tolerance) -> Result<Option<Blame>> {
        let Truths { logits, kind, .. } = self.evidence.truths;
        if let ReferenceKind::File | ReferenceKind::Engine = kind {
            return Ok(None);
        }
        let expected = logits[case.place].select(Axis(0), &case.samples);
        let found = self.given(self.network.logits(case.images().view())?);
        if agree(&expected, &found, tolerance)? {
            return Ok(None);
        }
        let Some(reference) = self.evidence.reference else {
            let cause = "the file's own nodes in float64 do not give that either: different weights, different inputs \
                         (preprocessing, channel order), or a bug in the exporter";
            let nowhere = Blame::nowhere(case.set.name, &case.samples);
            return Ok(Some(Blame { cause: Some(cause.into()), ..nowhere }));
        };
        self.against(reference, case).map(Some)
    }

    /// Finds where the file's nodes deviate from those of the network it was made from.
    fn against(&self, reference: &Model, case: &Case<'_>) -> Result<Blame> {
        let graph = self.imported.model.graph();
        let plain = align(graph, reference.graph());
        let with_folds = fold_batch_norm(reference)?;
        let folded = align(graph, with_folds.graph());
        let as_folded = score(graph, with_folds.graph(), &folded) > score(graph, reference.graph(), &plain);
        let (expected, pairs) = if as_folded { (&with_folds, folded) } else { (reference, plain) };
        let images = case.images();
        let mut others = Values::new();
        let partners: HashMap<usize, usize> =
            pairs.iter().enumerate().filter_map(|(place, pair)| Some(((*pair)?, place))).collect();
        Truth::new(expected)?.logits_through(images.view(), &mut |place, value| {
            if let Some(&ours) = partners.get(&place) {
                others.insert(ours, value);
            }
            Ok(None)
        })?;
        let found = errors(&self.network, images.view(), &others)?;
        let limit = if self.evidence.file.contract.precision == Precision::Float16 {
            HALF_ROUNDING
        } else {
            FILE_ROUNDING
        };
        let mut blame = self.told(None, case, &found, limit, |place| {
            pairs[place].map(|partner| expected.graph().nodes()[partner].name.clone())
        });
        if culprit(&found, limit).is_none() {
            blame.cause = self.unmatched(&pairs);
        }
        if let Some(place) = culprit(&found, limit) {
            let norm = as_folded.then(|| self.folded_cause(place, &pairs, expected, reference)).flatten();
            blame.cause = norm.or_else(|| cause(&self.imported.model, expected, place, &pairs));
        }
        Ok(blame)
    }

    /// The file's nodes that the reference has no counterpart for, where all that both have computes the same.
    fn unmatched(&self, pairs: &[Option<usize>]) -> Option<String> {
        let nodes = self.imported.model.graph().nodes();
        let alone = |place: &usize| {
            let computes = !matches!(nodes[*place].op, Op::Input { .. } | Op::Constant { .. });
            computes && pairs.get(*place).is_none_or(Option::is_none)
        };
        let told = |place: usize| format!("'{}' ({})", self.imported.origins[place], nodes[place].op.kind());
        let alone: Vec<String> = (0..nodes.len()).filter(alone).map(told).collect();
        let first = alone.first()?;
        let more = alone.len() - 1;
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        Some(format!(
            "what it shares with the reference is right; it differs in what only it has: {first}{more}"
        ))
    }

    /// What differs in the BatchNorm that was folded into the node at `place`.
    fn folded_cause(
        &self,
        place: usize,
        pairs: &[Option<usize>],
        folded: &Model,
        unfolded: &Model,
    ) -> Option<String> {
        let name = &folded.graph().nodes()[pairs[place]?].name;
        let all = unfolded.graph().nodes();
        let at = all.iter().position(|node| node.name == *name)?;
        let reads = |node: &&Node| matches!(node.op, Op::BatchNorm { .. }) && node.inputs[0].index() == at;
        let norm = all.iter().find(reads)?;
        let ours = &self.imported.model.graph().nodes()[place].name;
        let weight = |suffix: &str| self.imported.model.weights().get(&format!("{ours}.{suffix}"));
        folded_norm(weight("weight")?, weight("bias")?, unfolded, &all[at], norm)
    }

    /// Finds where an engine's values deviate from those of the file's nodes.
    fn engine(&self, report: &EngineReport, case: &Case<'_>) -> Result<Blame> {
        let file = self.evidence.file;
        let graph = self.imported.model.graph();
        let images = case.images();
        let mut tensors: Vec<(&str, usize)> = Vec::new();
        for (name, id) in &self.imported.tensors {
            let differs = tensors.last().is_none_or(|&(_, last)| last != id.index());
            let computed = !matches!(graph.node(*id).op, Op::Input { .. } | Op::Constant { .. });
            if differs && computed {
                tensors.push((name, id.index()));
            }
        }
        let names: Vec<&str> = tensors.iter().map(|(name, _)| *name).collect();
        let samples = images.shape()[0];
        let given = self.exposed(report, &images, &names)?.split_off(file.contract.outputs.len());
        let mut others = Values::new();
        for ((_, place), value) in tensors.iter().zip(given) {
            let mut shape = vec![samples];
            shape.extend(&graph.nodes()[*place].shape);
            if let Ok(value) = value.as_standard_layout().into_owned().into_shape_with_order(IxDyn(&shape)) {
                others.insert(*place, value.mapv(f64::from));
            }
        }
        let found = errors(&self.network, images.view(), &others)?;
        let limit = ENGINE_SHARE * report.tolerance.rtol;
        let mut blame = self.told(Some(report.name.clone()), case, &found, limit, |place| {
            Some(graph.nodes()[place].name.clone())
        });
        if self.saturates(report, &images)? {
            blame.cause = Some(SATURATES.into());
            return Ok(blame);
        }
        let last = graph.output(Graph::LOGITS).context("an import has logits")?.index();
        match culprit(&found, limit) {
            Some(place) => blame.cause = self.engine_cause(place, &images, &others, report)?,
            None if found.get(&last).is_some_and(|errors| errors.cumulative <= limit) => {
                let place = self.rewritten(report, &images, &tensors, limit)?;
                blame = self.around(blame, place, &found, |place| Some(graph.nodes()[place].name.clone()));
                let cause = "the runtime's rewriting of the graph: the error is gone when this node's value is an output";
                blame.cause = Some(cause.into());
            }
            None => {}
        }
        Ok(blame)
    }

    /// Whether the error of a quantised file is gone when ONNX Runtime's products of int8 must not saturate.
    fn saturates(&self, report: &EngineReport, images: &ArrayD<f32>) -> Result<bool> {
        let file = self.evidence.file;
        if (file.contract.precision, report.engine) != (Precision::Int8, EngineName::OrtCpu) {
            return Ok(false);
        }
        let threads = self.evidence.threads;
        let options = EngineOptions {
            threads,
            optimize: report.optimized,
            exact_int8: true,
            ..EngineOptions::default()
        };
        let loaded = (self.evidence.open)(file, report.engine, &options);
        let mut engine = ConfiguredEngine::new(report.engine, options, loaded, &file.contract);
        let truth = self.given(self.network.logits(images.view())?);
        let found = all_logits(&mut engine, images.view(), file.contract.batch())?;
        let truth: Array2<f64> = truth.into_dimensionality()?;
        agree(&truth, &found.into_dyn(), &report.tolerance)
    }

    /// The engine's outputs when the named tensors are additional outputs of the file.
    fn exposed(
        &self,
        report: &EngineReport,
        images: &ArrayD<f32>,
        names: &[&str],
    ) -> Result<Vec<ArrayD<f32>>> {
        let file = self.evidence.file;
        let options = EngineOptions {
            threads: self.evidence.threads,
            optimize: report.optimized,
            cuda: CudaSettings { tf32: report.tf32, ..CudaSettings::default() },
            exact_int8: false,
        };
        let mut engine = (self.evidence.open)(&file.exposing(names)?, report.engine, &options)?;
        let mut given: Vec<ArrayD<f32>> = Vec::new();
        for batch in images.axis_chunks_iter(Axis(0), file.contract.batch().unwrap_or(images.shape()[0])) {
            let keep = batch.shape()[0];
            let outputs = engine.run(padded(batch, file.contract.batch().unwrap_or(keep)).view())?;
            ensure!(
                outputs.len() == file.contract.outputs.len() + names.len(),
                "the engine does not return every tensor"
            );
            let kept =
                outputs.into_iter().map(|value| value.slice_axis(Axis(0), Slice::from(..keep)).to_owned());
            given = match given.is_empty() {
                true => kept.collect(),
                false => {
                    let both = given.iter().zip(kept);
                    let joined = both.map(|(a, b)| ndarray::concatenate(Axis(0), &[a.view(), b.view()]));
                    joined.collect::<Result<_, _>>()?
                }
            };
        }
        Ok(given)
    }

    /// The node whose exposure as an output undoes a wrong rewriting of the graph: the last tensor of the
    /// shortest prefix of `tensors` that must be exposed, found by bisection.
    fn rewritten(
        &self,
        report: &EngineReport,
        images: &ArrayD<f32>,
        tensors: &[(&str, usize)],
        limit: f64,
    ) -> Result<usize> {
        let truth = self.given(self.network.logits(images.view())?);
        let place = self.evidence.file.contract.answer;
        let (mut wrong, mut right) = (0, tensors.len());
        while right - wrong > 1 {
            let middle = usize::midpoint(wrong, right);
            let names: Vec<&str> = tensors[..middle].iter().map(|(name, _)| *name).collect();
            let logits = self.exposed(report, images, &names)?.swap_remove(place).mapv(f64::from);
            let logits = rows(logits, images.shape()[0]).map_err(|problem| anyhow!(problem))?.into_dyn();
            if distance(&truth, &logits) > limit { wrong = middle } else { right = middle }
        }
        Ok(tensors[right - 1].1)
    }

    fn engine_cause(
        &self,
        place: usize,
        images: &ArrayD<f32>,
        others: &Values,
        report: &EngineReport,
    ) -> Result<Option<String>> {
        let node = &self.imported.model.graph().nodes()[place];
        let inputs: Vec<usize> = node.inputs.iter().map(|id| id.index()).collect();
        let inputs = values(&self.network, images.view(), others, &inputs)?;
        let mut without = others.clone();
        without.remove(&place);
        let own = values(&self.network, images.view(), &without, &[place])?.swap_remove(0);
        let guessed = guess(&self.imported.model, place, &inputs, &others[&place], &own);
        let rounding = match (report.tf32, self.evidence.file.contract.precision == Precision::Float16) {
            (true, _) => Some("products in TF32"),
            (false, true) => Some("sums in float16"),
            (false, false) => None,
        };
        Ok(guessed.or(rounding.map(String::from)))
    }

    /// The file's answer for these logits, such as their softmax.
    fn given(&self, logits: ArrayD<f64>) -> ArrayD<f64> {
        self.imported.contract.answer().kind.of_logits(logits)
    }

    /// Number of samples whose values at all nodes can be held at once; at least one.
    fn most_samples(&self) -> usize {
        let nodes = self.imported.model.graph().nodes().iter();
        let values: usize = nodes.map(|node| node.shape.iter().product::<usize>()).sum();
        (MAX_VALUES / values.max(1)).max(1)
    }

    fn told(
        &self,
        engine: Option<String>,
        case: &Case<'_>,
        found: &HashMap<usize, NodeErrors>,
        limit: f64,
        layer: impl Fn(usize) -> Option<String>,
    ) -> Blame {
        let nowhere = Blame { engine, compared: found.len(), ..Blame::nowhere(case.set.name, &case.samples) };
        if let Some(place) = culprit(found, limit) {
            return self.around(nowhere, place, found, layer);
        }
        let worst =
            found.iter().max_by(|a, b| a.1.isolated.total_cmp(&b.1.isolated)).map(|(place, _)| *place);
        match worst {
            Some(place) => Blame { node: None, ..self.around(nowhere, place, found, layer) },
            None => nowhere,
        }
    }

    /// Completes a blame with one node and its neighbours.
    fn around(
        &self,
        blame: Blame,
        place: usize,
        found: &HashMap<usize, NodeErrors>,
        layer: impl Fn(usize) -> Option<String>,
    ) -> Blame {
        let mut places: Vec<usize> = found.keys().copied().collect();
        places.sort_unstable();
        let told = |place: usize| NodeError {
            node: self.imported.origins[place].clone(),
            layer: layer(place),
            operation: self.imported.model.graph().nodes()[place].op.kind().into(),
            isolated: found[&place].isolated,
            cumulative: found[&place].cumulative,
        };
        let Some(at) = places.iter().position(|&other| other == place) else { return blame };
        let neighbours = &places[at.saturating_sub(AROUND)..(at + AROUND + 1).min(places.len())];
        Blame { node: Some(told(place)), around: neighbours.iter().copied().map(told).collect(), ..blame }
    }
}

/// The first node whose isolated error exceeds the limit.
fn culprit(found: &HashMap<usize, NodeErrors>, limit: f64) -> Option<usize> {
    found.iter().filter(|(_, errors)| errors.isolated > limit).map(|(place, _)| *place).min()
}

/// Whether a file's answers match the expected ones within the tolerance.
fn agree(expected: &Array2<f64>, found: &ArrayD<f64>, tolerance: &Tolerance) -> Result<bool> {
    if expected.shape() != found.shape() {
        return Ok(false);
    }
    let found: Array2<f64> = found.clone().into_dimensionality()?;
    let found = found.mapv(|value| value as f32);
    Ok(compare("file", true, expected.view(), found.view(), tolerance).passed)
}
