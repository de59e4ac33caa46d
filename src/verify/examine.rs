//! One verification from start to end: adversarial inputs, comparison, blame, and the failing case.

use std::path::{Path, PathBuf};

use anyhow::Result;
use ndarray::ArrayD;

use crate::contract::ImageInput;
use crate::graph::Model;
use crate::onnx::{OnnxFile, findings};
use crate::progress::Progress;

use super::adversarial::{AdversarialSearch, add_adversarial_inputs};
use super::blame::{Evidence, Open, blame};
use super::case::save_case;
use super::check::{ConfiguredEngine, Verification, verify};
use super::inputs::InputSet;
use super::report::VerifyReport;
use super::scoring::Scoring;
use super::truth::Truths;

/// Everything needed to examine a file.
pub struct Examination<'a> {
    /// The file as the engines run it.
    pub file: &'a OnnxFile,
    /// The file as it was found; it differs from `file` where that was cut before a softmax.
    pub whole: &'a OnnxFile,
    pub candidates: Vec<ConfiguredEngine>,
    pub inputs: Vec<InputSet>,
    /// Reference outputs for `inputs`.
    pub truths: Truths,
    /// The reference network, where adversarial inputs can be searched with it.
    pub adversary: Option<Adversary<'a>>,
    /// The model with which the file's nodes are compared, where that is not the file's own.
    pub reference: Option<&'a Model>,
    pub scoring: Option<Scoring<'a>>,
    /// Folder for a failing case, if one is kept.
    pub case: Option<&'a Path>,
    /// Loads the file, or a variant of it, into an engine.
    pub open: &'a Open<'a>,
    pub threads: usize,
    pub progress: &'a dyn Progress,
}

/// The starting point of a search for adversarial inputs.
pub struct Adversary<'a> {
    pub model: &'a Model,
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

/// Verifies a file and looks into a failure. If there is no search for adversarial inputs, or if no node can be
/// blamed, that is a warning.
pub fn examine(examination: Examination<'_>) -> Examined {
    let Examination { file, whole, mut candidates, mut inputs, mut truths, .. } = examination;
    let Examination { adversary, reference, scoring, case, open, threads, progress, .. } = examination;
    if let Some(Adversary { model, pool, image }) = adversary {
        let candidates = &mut candidates;
        let search = AdversarialSearch { model, file, candidates, pool, image, threads };
        if let Err(error) = add_adversarial_inputs(&mut inputs, &mut truths, search) {
            progress.warn(format!("the search for adversarial inputs failed: {error:#}"));
        }
    }
    let mut report = verify(&mut Verification {
        model: file.path.display().to_string(),
        findings: findings(whole),
        truths: &truths,
        engines: candidates,
        inputs: &inputs,
        scoring,
        fixed_batch: file.contract.batch(),
        precision: whole.contract.precision,
        progress,
    });
    let evidence = Evidence { file, reference, inputs: &inputs, truths: &truths, open, threads };
    blame(&mut report, &evidence, progress);
    let case = match case.filter(|_| !report.passed) {
        Some(folder) => save_case(folder, &report, file, &inputs, &truths),
        None => Ok(Vec::new()),
    };
    Examined { report, inputs, truths, case }
}
