//! One verification from start to end: adversarial inputs, comparison, blame, and the failing case.

use std::path::{Path, PathBuf};

use anyhow::Result;
use ndarray::ArrayD;

use crate::contract::ImageInput;
use crate::graph::Model;
use crate::onnx::{OnnxFile, findings};
use crate::progress::Progress;

use super::accuracy::Accuracy;
use super::adversarial::{AdversarialSearch, add_adversarial_inputs};
use super::blame::{Evidence, Open, blame};
use super::case::save_case;
use super::check::{Candidate, Verification, verify};
use super::inputs::InputSet;
use super::report::VerifyReport;
use super::truth::Truths;

/// Everything a file is examined with.
pub struct Examination<'a> {
    /// The file as the engines run it.
    pub file: &'a OnnxFile,
    /// The file as it was found; another where `file` was cut before a softmax.
    pub whole: &'a OnnxFile,
    pub candidates: Vec<Candidate>,
    pub inputs: Vec<InputSet>,
    /// What is true on `inputs`.
    pub truths: Truths,
    /// The model that says what is true, where inputs may be searched with it.
    pub adversary: Option<Adversary<'a>>,
    /// The model that the file's nodes are held against, where that is another than the file's own.
    pub reference: Option<&'a Model>,
    pub accuracy: Option<Accuracy<'a>>,
    /// Folder for a failing case, if one is kept.
    pub case: Option<&'a Path>,
    /// Loads the file, or one like it, into an engine.
    pub open: &'a Open<'a>,
    pub threads: usize,
    pub progress: &'a dyn Progress,
}

/// What a search for harder inputs starts from.
pub struct Adversary<'a> {
    pub model: &'a Model,
    /// Samples among which those with the smallest margins are looked for.
    pub pool: ArrayD<f32>,
    pub image: ImageInput,
}

/// What an examination found, with the inputs it was found on.
pub struct Examined {
    pub report: VerifyReport,
    pub inputs: Vec<InputSet>,
    pub truths: Truths,
    /// The files of a failing case, if one was kept; that it could not be kept hides no failure.
    pub case: Result<Vec<PathBuf>>,
}

/// Verifies a file and looks into a failure. That there is no search for harder inputs, or that no node can be blamed,
/// is a warning.
pub fn examine(examination: Examination<'_>) -> Examined {
    let Examination { file, whole, mut candidates, mut inputs, mut truths, .. } = examination;
    let Examination { adversary, reference, accuracy, case, open, threads, progress, .. } = examination;
    if let Some(Adversary { model, pool, image }) = adversary {
        let candidates = &mut candidates;
        let search = AdversarialSearch { model, file, candidates, pool, image, threads };
        if let Err(error) = add_adversarial_inputs(&mut inputs, &mut truths, search) {
            progress.warn(format!("no search for harder inputs: {error:#}"));
        }
    }
    let mut report = verify(&mut Verification {
        model: file.path.display().to_string(),
        findings: findings(whole),
        truths: &truths,
        engines: candidates,
        inputs: &inputs,
        accuracy,
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
