//! A first look at a file that takes long to verify: a verdict on a few samples, before the rest is computed.

use anyhow::Result;

use crate::onnx::OnnxFile;
use crate::progress::{Progress, Silent};
use crate::verify::{Amount, ConfiguredEngine, Evaluations, InputSet, Verification, evaluations, verify};

use super::against::{ExpectedModel, network_truth};

/// Multiply-accumulates for one image from which a first look is worth its time.
const WORTH: u64 = 300_000_000;

/// The first sample of each kind of input.
const SAMPLES: usize = 1;

/// Compares the engines as they are deployed on a few samples, and says how that went.
///
/// # Errors
/// If libtorch fails.
pub fn first_look(
    file: &OnnxFile,
    (network, macs): (&ExpectedModel, u64),
    inputs: &[InputSet],
    candidates: &mut [ConfiguredEngine],
    amount: Amount,
    progress: &dyn Progress,
) -> Result<()> {
    if macs < WORTH {
        return Ok(());
    }
    let inputs = few(inputs, SAMPLES);
    let truths = network_truth(network, &inputs, file)?;
    let rounding = evaluations(&network.model);
    let mut failed = Vec::new();
    for candidate in candidates.iter_mut().filter(|candidate| candidate.usual()) {
        let report = verify(&mut Verification {
            model: file.path.display().to_string(),
            findings: Vec::new(),
            truths: &truths,
            engines: std::slice::from_mut(candidate),
            inputs: &inputs,
            scoring: None,
            fixed_batch: file.contract.batch(),
            precision: file.contract.precision,
            rounding: network.ends_alike().then_some(&rounding as &Evaluations<'_>),
            amount,
            progress: &Silent,
        });
        failed.extend(report.engines.into_iter().filter(|engine| !engine.passed).map(|engine| engine.name));
    }
    let samples: usize = inputs.iter().map(|set| set.images.shape()[0]).sum();
    match &failed[..] {
        [] => progress.note(format!("first look: {}, on {samples} samples", truths.kind.verdict())),
        _ => progress.warn(format!("first look: {} failed on one of {samples} samples", failed.join(", "))),
    }
    Ok(())
}

/// The first samples of the kinds of input that decide.
pub fn few(inputs: &[InputSet], samples: usize) -> Vec<InputSet> {
    let first = |set: &InputSet| {
        let samples = set.images.shape()[0].min(samples);
        let images = set.images.slice_axis(ndarray::Axis(0), ndarray::Slice::from(..samples)).to_owned();
        InputSet { images, ..set.clone() }
    };
    inputs.iter().filter(|set| set.gates).map(first).collect()
}
