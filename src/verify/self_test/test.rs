//! Plants the faults and verifies the copies.

use std::path::Path;

use anyhow::Result;
use ndarray::{Array2, Axis, Slice};

use crate::config::EngineName;
use crate::contract::{ImageInput, Precision};
use crate::engine::torch::Truth;
use crate::engine::{EngineOptions, open};
use crate::graph::{Graph, Model, Op, fold_batch_norm};
use crate::onnx::{OnnxFile, emit, import, plain_contract};
use crate::progress::{Progress, Silent};

use super::super::compare::compare;
use super::super::configured::ConfiguredEngine;
use super::super::effort::Amount;
use super::super::examine::{Examination, examine};
use super::super::inputs::{InputSet, input_sets};
use super::super::report::VerifyReport;
use super::super::tolerance::Tolerance;
use super::super::truth::{ReferenceKind, Truths};
use super::faults::{FaultKind, Faulty, plant};
use super::report::{FaultReport, Outcome, SelfTestReport};

/// How many times every untouched copy is verified, each time with other noise.
const ROUNDS: usize = 5;

/// Maximum samples in a set of inputs.
const SAMPLES: usize = 4;

/// A network whose copies are given faults.
pub struct Specimen<'a> {
    pub name: &'a str,
    pub model: &'a Model,
    /// The file's image input.
    pub image: ImageInput,
    /// The engine that runs the copies.
    pub engine: EngineName,
    pub threads: usize,
    pub seed: u64,
}

/// Plants every kind of fault, and verifies untouched copies.
///
/// # Errors
/// If the network is incomplete, or an engine refuses an untouched copy.
pub fn self_test(specimen: &Specimen<'_>, progress: &dyn Progress) -> Result<SelfTestReport> {
    let truth = Truth::new(specimen.model)?;
    let known = |seed: u64| -> Result<Known> {
        let inputs = inputs(specimen, seed)?;
        let mut logits = |images: ndarray::ArrayViewD<'_, f32>| truth.logits(images);
        let truths =
            Truths::of("untouched network, float64", ReferenceKind::Checkpoint, &inputs, None, &mut logits)?;
        Ok(Known { inputs, truths })
    };
    let usual = EngineOptions { threads: specimen.threads, ..EngineOptions::default() };
    let mut report = SelfTestReport {
        model: specimen.name.to_string(),
        engine: usual.name(specimen.engine),
        faults: Vec::new(),
        not_applicable: Vec::new(),
        copies: 0,
        alarms: Vec::new(),
    };
    let task = progress.begin("self-test", (FaultKind::ALL.len() + ROUNDS) as u64, "steps");
    let first = known(specimen.seed)?;
    for kind in FaultKind::ALL {
        let before = report.faults.len();
        for faulty in plant(kind, specimen.model, specimen.seed)? {
            report.faults.push(tried(specimen, kind, &faulty, &first, &usual)?);
        }
        if report.faults.len() == before {
            report.not_applicable.push(kind);
        }
        task.advance(1);
    }
    let copies = copies(specimen)?;
    for round in 0..ROUNDS {
        let known = known(specimen.seed.wrapping_add(1 + round as u64))?;
        for (name, file) in &copies {
            let verified =
                verified(specimen, file, &known, &EngineOptions::ways(specimen.engine, specimen.threads));
            report.copies += 1;
            if !verified.passed {
                report.alarms.push(format!("{name}, round {}:{}", round + 1, verified.problems()));
            }
        }
        task.advance(1);
    }
    Ok(report)
}

/// Inputs, and the untouched network's outputs for them.
struct Known {
    inputs: Vec<InputSet>,
    truths: Truths,
}

fn inputs(specimen: &Specimen<'_>, seed: u64) -> Result<Vec<InputSet>> {
    let mut sets = input_sets(None, &specimen.image, seed, &Amount::default());
    sets.retain(|set| set.gates);
    for set in &mut sets {
        let samples = set.images.shape()[0].min(SAMPLES);
        set.images = set.images.slice_axis(Axis(0), Slice::from(..samples)).to_owned();
    }
    Ok(sets)
}

/// Exports a network with a fault and verifies it.
fn tried(
    specimen: &Specimen<'_>,
    kind: FaultKind,
    faulty: &Faulty,
    known: &Known,
    usual: &EngineOptions,
) -> Result<FaultReport> {
    let moved = moved(faulty, known, &Tolerance::of(specimen.engine, usual, Precision::Float32))?;
    let mut report = FaultReport {
        kind,
        layer: faulty.node.clone(),
        moved,
        outcome: Outcome::NotObservable,
        blamed: None,
        blamed_rightly: false,
        cause: None,
    };
    if moved <= 1.0 {
        return Ok(report);
    }
    let file = exported(&faulty.model, true)?;
    let verified = verified(specimen, &file, known, std::slice::from_ref(usual));
    if verified.passed {
        report.outcome = Outcome::Missed;
        return Ok(report);
    }
    report.outcome = Outcome::Caught;
    if let Some(blame) = verified.blame.into_iter().next() {
        let node = blame.node.map(|node| node.layer.unwrap_or(node.node));
        report.blamed_rightly =
            node.as_ref().is_some_and(|node| is_right(specimen.model.graph(), &faulty.node, node));
        report.blamed = node;
        report.cause = blame.cause;
    }
    Ok(report)
}

/// Whether the blamed layer is the one with the fault, or the convolution into which that is folded.
fn is_right(graph: &Graph, planted: &str, blamed: &str) -> bool {
    let node = graph.nodes().iter().find(|node| node.name == planted);
    let folded_into = node.filter(|node| matches!(node.op, Op::BatchNorm { .. }));
    blamed == planted || folded_into.is_some_and(|norm| graph.node(norm.inputs[0]).name == blamed)
}

/// How far a fault moves the output in float64, in multiples of the tolerance, on the first inputs where that can
/// be observed, or else on those where it is largest.
fn moved(faulty: &Faulty, known: &Known, tolerance: &Tolerance) -> Result<f64> {
    let network = Truth::new(&faulty.model)?;
    let mut most = 0.0;
    for (set, truth) in known.inputs.iter().zip(&known.truths.logits) {
        let found: Array2<f64> = network.logits(set.images.view())?.into_dimensionality()?;
        let found = found.mapv(|value| value as f32);
        let report = compare(set.name, true, truth.view(), found.view(), tolerance);
        most = f64::max(most, if report.finite { report.tolerance_used } else { f64::INFINITY });
        if most > 1.0 {
            break;
        }
    }
    Ok(most)
}

fn verified(specimen: &Specimen<'_>, file: &OnnxFile, known: &Known, ways: &[EngineOptions]) -> VerifyReport {
    let candidates = ways.iter().map(|options| {
        let loaded = open(file, specimen.engine, options);
        ConfiguredEngine::new(specimen.engine, options.clone(), loaded, &file.contract)
    });
    let examined = examine(Examination {
        file,
        whole: file,
        findings: Vec::new(),
        candidates: candidates.collect(),
        inputs: known.inputs.clone(),
        truths: known.truths.clone(),
        network: Some(specimen.model),
        adversary: None,
        reference: Some(specimen.model),
        scoring: None,
        amount: Amount::default(),
        case: None,
        open: &open,
        threads: specimen.threads,
        progress: &Silent,
    });
    examined.report
}

/// The network's file in every form that it may have without a fault.
fn copies(specimen: &Specimen<'_>) -> Result<Vec<(&'static str, OnnxFile)>> {
    let plain = exported(specimen.model, false)?;
    let folded = exported(specimen.model, true)?;
    let again = |file: &OnnxFile| exported(&import(file)?.model, false);
    let (plain_again, folded_again) = (again(&plain)?, again(&folded)?);
    Ok(vec![
        ("exported", plain),
        ("folded", folded),
        ("read and exported again", plain_again),
        ("folded, read and exported again", folded_again),
    ])
}

fn exported(model: &Model, fold: bool) -> Result<OnnxFile> {
    let contract = plain_contract(model.graph());
    let bytes = match fold {
        true => emit(&fold_batch_norm(model)?, &contract, None)?,
        false => emit(model, &contract, None)?,
    };
    OnnxFile::from_bytes(bytes, Path::new("copy.onnx"))
}
