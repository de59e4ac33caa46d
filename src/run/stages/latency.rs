//! The latency of a run's files, measured side by side: what the stages `select` and `bench` share.

use std::sync::atomic::Ordering;

use anyhow::Result;

use crate::bench::{BenchReport, Benchmark, ModelFacts, Pictures, Subject, bench};
use crate::config::Bench;
use crate::error::Interrupted;
use crate::graph::Model;
use crate::onnx::OnnxFile;
use crate::plan::as_file_takes;
use crate::seed::derive_seed;

use super::Context;
use super::engines::open;

/// A file, and its network for the images that the file takes.
pub(super) struct Rival<'a> {
    pub name: &'a str,
    pub file: OnnxFile,
    /// `None` if the file cannot be imported.
    pub network: Option<Model>,
}

impl<'a> Rival<'a> {
    /// A student by its file.
    pub(super) fn student(context: &Context<'_>, name: &'a str, file: OnnxFile) -> Result<Self> {
        let network = as_file_takes(context.trained(context.peer(name)?)?, &file.contract)?;
        Ok(Self { name, file, network: Some(network) })
    }

    /// The teacher's file, if it has one.
    pub(super) fn original(context: &Context<'_>, name: &'a str) -> Result<Option<Self>> {
        let Some(teacher) = &context.plan.teacher else { return Ok(None) };
        let Some(contract) = &teacher.contract else { return Ok(None) };
        let mut file = OnnxFile::load(&teacher.file)?;
        if let (None, Some(sample)) = (file.contract.sample_shape(), contract.sample_shape()) {
            file = file.with_sizes(None, &sample)?;
        }
        let network =
            teacher.known.network().map(|model| as_file_takes((**model).clone(), contract)).transpose()?;
        Ok(Some(Self { name, file, network }))
    }
}

/// Measures files in turns. `pictures` are decoded in the end-to-end mode.
pub(super) fn measure<'r>(
    context: &Context<'_>,
    rivals: &'r [Rival<'_>],
    baseline: &str,
    settings: &Bench,
    pictures: &[(String, Vec<u8>)],
) -> Result<BenchReport> {
    let (shape, device, options) = (context.data.info.shape, context.plan.pipeline.device, context.options);
    let subject = |rival: &'r Rival<'_>| {
        let Rival { name, file, network } = rival;
        Subject {
            file,
            batch: file.contract.batch(),
            model: ModelFacts::of(file, name.to_string(), file.contract.layout.ordered(shape).to_vec()),
            pictures: Pictures::of(file, pictures.to_vec()),
            open: Box::new(move |engine, options| open(network.as_ref(), device, file, engine, options)),
        }
    };
    let subjects: Vec<Subject<'_>> = rivals.iter().map(subject).collect();
    let benchmark = Benchmark {
        baseline: baseline.to_string(),
        seed: derive_seed(context.plan.pipeline.seed, &[context.stage.name()]),
        progress: options.progress,
        stop: options.stop,
        program: Some(std::env::current_exe()?),
    };
    bench(&subjects, settings, &benchmark).map_err(|error| match options.stop.load(Ordering::Relaxed) {
        true => Interrupted { resume: options.resume.clone() }.into(),
        false => error,
    })
}
