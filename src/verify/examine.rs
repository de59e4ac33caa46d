//! One verification from start to end: adversarial inputs, comparison, blame, and the failing case.

use std::path::{Path, PathBuf};

use anyhow::Result;
use ndarray::ArrayD;

use crate::contract::ImageInput;
use crate::graph::Model;
use crate::onnx::{self, Finding, OnnxFile, Severity};
use crate::progress::Progress;

use super::adversarial::{AdversarialSearch, add_adversarial_inputs};
use super::blame::{Evidence, Open, blame};
use super::case::save_case;
use super::check::{Verification, verified};
use super::configured::ConfiguredEngine;
use super::effort::Amount;
use super::inputs::InputSet;
use super::report::VerifyReport;
use super::rounding::{Evaluations, evaluations};
use super::scoring::Scoring;
use super::truth::{ReferenceKind, Truths};

/// Everything needed to examine a file.
pub struct Examination<'a> {
    /// The file as the engines run it.
    pub file: &'a OnnxFile,
    /// The file as it was found; it differs from `file` where that was cut before a softmax.
    pub whole: &'a OnnxFile,
    /// Findings besides those in the file's own structure.
    pub findings: Vec<Finding>,
    pub candidates: Vec<ConfiguredEngine>,
    pub inputs: Vec<InputSet>,
    /// Reference outputs for `inputs`.
    pub truths: Truths,
    /// The network that the reference outputs come from, or the file's own if they were recorded.
    pub network: Option<&'a Model>,
    /// The starting point of a search for adversarial inputs, where the reference outputs come from `network`.
    pub adversary: Option<Adversary>,
    /// The model with which the file's nodes are compared, where that is not the file's own.
    pub reference: Option<&'a Model>,
    pub scoring: Option<Scoring<'a>>,
    pub amount: Amount,
    /// Folder for a failing case, if one is kept.
    pub case: Option<&'a Path>,
    /// Loads the file, or a variant of it, into an engine.
    pub open: &'a Open<'a>,
    pub threads: usize,
    pub progress: &'a dyn Progress,
}

/// The starting point of a search for adversarial inputs.
pub struct Adversary {
    /// The pool in which samples with small margins are looked for.
    pub pool: ArrayD<f32>,
    pub image: ImageInput,
}

/// The result of an examination, with the inputs on which it was found.
pub struct Examined {
    pub report: VerifyReport,
    pub inputs: Vec<InputSet>,
    pub truths: Truths,
    /// The files of a failing case, if one was kept; if it could not be kept, the failure is still reported.
    pub case: Result<Vec<PathBuf>>,
}

/// Verifies a file and looks into a failure. Adversarial inputs come last, for a file that has passed so far. If they cannot
/// be searched for, or if no node can be blamed, that is a warning.
pub fn examine(examination: Examination<'_>) -> Examined {
    let Examination { file, whole, mut candidates, mut inputs, mut truths, amount, .. } = examination;
    let Examination { mut findings, network, adversary, reference, .. } = examination;
    let Examination { scoring, case, open, threads, progress, .. } = examination;
    findings.extend(onnx::findings(whole));
    findings.extend(same_everywhere(&truths));
    findings.sort_by_key(|finding| std::cmp::Reverse(finding.severity));
    let rounding = network.map(evaluations);
    let run =
        |candidates: &mut [ConfiguredEngine], inputs: &[InputSet], truths: &Truths, findings, scoring| {
            verified(&mut Verification {
                model: file.path.display().to_string(),
                findings,
                truths,
                engines: candidates,
                inputs,
                scoring,
                fixed_batch: file.contract.batch(),
                precision: whole.contract.precision,
                rounding: rounding.as_ref().map(|evaluations| evaluations as &Evaluations<'_>),
                amount,
                progress,
            })
        };
    let mut found = run(&mut candidates, &inputs, &truths, findings, scoring);
    let adversary = network.zip(adversary).filter(|_| found.passed());
    if let Some((model, Adversary { pool, image })) = adversary {
        if amount.noise < Amount::default().noise {
            let verdict = truths.kind.verdict();
            progress
                .note(format!("so far {verdict}, on {} samples; looking for harder ones", found.samples()));
        }
        let (before, candidates) = (inputs.len(), &mut candidates);
        let search = AdversarialSearch { model, file, candidates, pool, image, amount, threads };
        if let Err(error) = add_adversarial_inputs(&mut inputs, &mut truths, search) {
            progress.warn(format!("the search for adversarial inputs failed: {error:#}"));
        }
        candidates.iter_mut().for_each(ConfiguredEngine::let_go);
        let new = Truths { logits: truths.logits[before..].to_vec(), ..truths.clone() };
        found.extend(run(candidates, &inputs[before..], &new, Vec::new(), None));
    }
    let mut report = found.finish();
    let evidence = Evidence { file, reference, inputs: &inputs, truths: &truths, open, threads };
    blame(&mut report, &evidence, progress);
    let case = match case.filter(|_| !report.passed) {
        Some(folder) => save_case(folder, &report, file, &inputs, &truths),
        None => Ok(Vec::new()),
    };
    Examined { report, inputs, truths, case }
}

/// A finding if the reference gives exactly the same for all inputs, so that the network cannot tell images apart.
fn same_everywhere(truths: &Truths) -> Option<Finding> {
    if truths.kind == ReferenceKind::Recorded {
        // The recorded inputs may be alike.
        return None;
    }
    let mut rows = truths.logits.iter().flat_map(|logits| logits.outer_iter());
    let first = rows.next()?;
    let mut others = rows.peekable();
    let same = others.peek().is_some() && others.all(|row| row == first);
    let problem = format!("the output is the same for every input, beginning with {}", first[0]);
    let remedy =
        "look at the last nodes: a softmax over an axis of length 1 gives 1, and constants hide the scores";
    same.then(|| Finding::new(Severity::Error, problem, remedy))
}
