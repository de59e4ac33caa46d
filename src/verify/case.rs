//! A failing case: the samples an engine failed on, and a folder with everything needed to reproduce the
//! failure.

use std::cmp::Ordering;
use std::collections::HashSet;
use std::path::{Path, PathBuf};

use anyhow::Result;
use ndarray::{ArrayD, Axis};

use crate::config::EngineName;
use crate::files::{write_atomic, write_npy};
use crate::onnx::OnnxFile;

use super::inputs::InputSet;
use super::report::{EngineReport, VerifyReport};
use super::truth::Truths;

/// Maximum samples per case: the worst one of a set and others spread over it.
const SAMPLES: usize = 4;

/// Samples on which an engine failed.
pub(super) struct Case<'a> {
    pub set: &'a InputSet,
    /// Index of the set among the sets of inputs.
    pub place: usize,
    /// Sample indices, worst first.
    pub samples: Vec<usize>,
}

impl Case<'_> {
    pub fn images(&self) -> ArrayD<f32> {
        self.set.images.select(Axis(0), &self.samples)
    }
}

/// The set of inputs on which an engine failed worst, with its worst sample first.
pub(super) fn case<'a>(engine: &EngineReport, inputs: &'a [InputSet]) -> Option<Case<'a>> {
    let failed = engine.sets.iter().filter(|set| !set.passed);
    let worst = failed.max_by(|a, b| {
        (!a.finite, a.tolerance_used).partial_cmp(&(!b.finite, b.tolerance_used)).unwrap_or(Ordering::Equal)
    })?;
    let place = inputs.iter().position(|set| set.name == worst.set)?;
    let set = &inputs[place];
    let count = worst.samples.min(set.images.shape()[0]);
    let spread = (0..SAMPLES).map(|turn| turn * count / SAMPLES);
    let mut samples: Vec<usize> = worst.worst.map(|worst| worst.sample).into_iter().chain(spread).collect();
    let mut seen = HashSet::new();
    samples.retain(|&sample| sample < count && seen.insert(sample));
    samples.truncate(SAMPLES);
    (!samples.is_empty()).then_some(Case { set, place, samples })
}

/// Writes the first failure of a report into a folder: the model as engines load it, inputs, expected
/// outputs, the report, and the command that reproduces the failure. Returns the files written, none if no
/// engine failed numerically.
///
/// # Errors
/// [`crate::error::InputError`] if the folder cannot be written.
pub fn save_case(
    folder: &Path,
    report: &VerifyReport,
    file: &OnnxFile,
    inputs: &[InputSet],
    truths: &Truths,
) -> Result<Vec<PathBuf>> {
    let runs_files = report.engines.iter().filter(|engine| engine.engine != EngineName::Torch);
    let mut failed = runs_files.filter_map(|engine| Some((engine, case(engine, inputs)?)));
    let Some((engine, case)) = failed.next() else { return Ok(Vec::new()) };
    let expected = truths.logits[case.place].select(Axis(0), &case.samples).into_dyn();
    let [model, input, output, words, command] =
        ["model.onnx", "input.npy", "expected.npy", "report.json", "command.txt"]
            .map(|name| folder.join(name));
    write_atomic(&model, &file.bytes)?;
    write_npy(&input, &case.images().as_standard_layout().into_owned())?;
    write_npy(&output, &expected.as_standard_layout().into_owned())?;
    write_atomic(&words, serde_json::to_string_pretty(report)?.as_bytes())?;
    let line = format!(
        "cohort verify model.onnx --inputs input.npy --expected expected.npy --engine {}\n",
        engine.engine.key()
    );
    write_atomic(&command, line.as_bytes())?;
    Ok(vec![model, input, output, words, command])
}
