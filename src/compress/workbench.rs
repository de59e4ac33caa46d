//! Networks as files with the original's interface, and their latency in turns with it.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use ndarray::ArrayD;

use crate::config::EngineName;
use crate::contract::{Contract, Precision};
use crate::engine::{Engine, EngineOptions, open};
use crate::error::InputError;
use crate::graph::{Model, fold_batch_norm};
use crate::onnx::{OnnxFile, emit};
use crate::plan::{Known, as_file_takes};

use super::look::Subject;

/// Runs before and of a measurement.
const WARM_UP: usize = 5;
const RUNS: usize = 60;

/// Runs after which a measurement may end early.
const FEWEST: usize = 5;

/// Makes files of networks and measures them.
pub(super) struct Workbench<'a> {
    subject: &'a Subject,
    /// The original.
    pub(super) whole: OnnxFile,
}

impl<'a> Workbench<'a> {
    pub(super) fn new(subject: &'a Subject) -> Result<Self> {
        let whole = match &subject.network {
            Known::Network(network) => file(subject, network)?,
            Known::File(opaque) => opaque.file.clone(),
        };
        Ok(Self { subject, whole })
    }

    /// A network as a file with the original's interface.
    pub(super) fn file(&self, network: &Model) -> Result<OnnxFile> {
        file(self.subject, network)
    }

    /// The median milliseconds of one image in a file and in the original, measured in turns for at most `time`,
    /// as the mode `device` measures them.
    pub(super) fn in_turns(&self, slim: &OnnxFile, engine: EngineName, time: Duration) -> Result<[f64; 2]> {
        let options = EngineOptions::default();
        let [slim, whole] = [slim, &self.whole].map(|file| open(file, engine, &options));
        let mut engines: [Box<dyn Engine>; 2] = [slim?, whole?];
        let contract = &self.subject.classifier.contract;
        let sample = contract.sample_shape().context("the size of images is fixed")?;
        let image = ArrayD::<f32>::from_elem([&[contract.batch().unwrap_or(1)], &sample[..]].concat(), 0.25);
        engines.iter_mut().try_for_each(|engine| engine.bind(image.view()))?;
        let mut times = [Vec::new(), Vec::new()];
        let started = Instant::now();
        for run in 0..WARM_UP + RUNS {
            for (engine, times) in engines.iter_mut().zip(&mut times) {
                let start = Instant::now();
                engine.run_bound()?;
                if run >= WARM_UP {
                    times.push(start.elapsed().as_secs_f64() * 1e3);
                }
            }
            if run >= WARM_UP + FEWEST && started.elapsed() > time {
                break;
            }
        }
        Ok(times.map(|mut times| {
            times.sort_by(f64::total_cmp);
            times[times.len() / 2]
        }))
    }
}

fn file(subject: &Subject, network: &Model) -> Result<OnnxFile> {
    let contract = Contract {
        preparation: None,
        classes: Vec::new(),
        precision: Precision::default(),
        ..subject.classifier.contract.clone()
    };
    let model = as_file_takes(fold_batch_norm(network)?, &contract)?;
    let bytes = emit(&model, &contract, None).map_err(|error| {
        InputError::new(format!("a smaller file cannot have the interface of this one: {error:#}"))
            .hint("export it with its scores as the only output")
    })?;
    OnnxFile::from_bytes(bytes, Path::new("candidate.onnx"))
}
