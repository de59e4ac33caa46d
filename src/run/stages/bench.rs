//! The stage `bench`: measures the chosen student and the largest, or all students and the teacher's file if it has one.

use std::sync::atomic::Ordering;

use anyhow::Result;

use crate::bench::{Benchmark, ModelFacts, Pictures, Subject, bench as measure, judge};
use crate::config::{Bench, Mode};
use crate::error::{GateFailed, Interrupted};
use crate::graph::Model;
use crate::onnx::OnnxFile;
use crate::plan::as_file_takes;
use crate::report::{ORIGINAL, bench_failures, write_bench};
use crate::seed::derive_seed;

use super::engines::open;
use super::{Context, Done};

/// Number of validation images that are decoded in turns in the end-to-end mode.
const PICTURES: usize = 64;

/// The teacher's file, if it has one, and its network for the images that the file takes.
fn original(context: &Context<'_>) -> Result<Option<(OnnxFile, Model)>> {
    let Some(teacher) = &context.plan.teacher else { return Ok(None) };
    let Some(contract) = &teacher.contract else { return Ok(None) };
    let mut file = OnnxFile::load(&teacher.file)?;
    if let (None, Some(sample)) = (file.contract.sample_shape(), contract.sample_shape()) {
        file = file.with_sizes(None, &sample)?;
    }
    Ok(Some((file, as_file_takes((*teacher.network).clone(), contract)?)))
}

pub(super) fn run(context: &Context<'_>, settings: &Bench) -> Result<Done> {
    let choice = context.choice()?;
    let split = context.data.validation.spread(PICTURES);
    let pictures =
        (0..split.len()).map(|place| Ok((format!("validation image {place}"), split.encoded(place)?)));
    let pictures = match settings.modes.contains(&Mode::EndToEnd) {
        true => pictures.collect::<Result<Vec<_>>>()?,
        false => Vec::new(),
    };
    let original = original(context)?;
    let mut names = vec![choice.student.as_str()];
    let others = context.plan.peers.iter().map(|peer| peer.name.as_str());
    names.extend(
        others.filter(|&name| name != choice.student && (original.is_some() || name == choice.largest)),
    );
    let load = |name| {
        let file = OnnxFile::load(&context.input(context.folder.onnx(name))?)?;
        let network = as_file_takes(context.trained(context.peer(name)?)?, &file.contract)?;
        Ok((name, file, network))
    };
    let mut files = names.into_iter().map(load).collect::<Result<Vec<_>>>()?;
    let baseline = if original.is_some() { ORIGINAL } else { choice.largest.as_str() };
    files.extend(original.map(|(file, network)| (ORIGINAL, file, network)));
    let (shape, device) = (context.data.info.shape, context.plan.pipeline.device);
    let subjects: Vec<Subject<'_>> = files
        .iter()
        .map(|(name, file, network)| Subject {
            file,
            batch: file.contract.batch(),
            model: ModelFacts::of(file, (*name).to_string(), file.contract.layout.ordered(shape).to_vec()),
            pictures: Pictures::of(file, pictures.clone()),
            open: Box::new(move |engine, options| open(network, device, file, engine, options)),
        })
        .collect();
    let options = context.options;
    let benchmark = Benchmark {
        baseline: baseline.to_string(),
        seed: derive_seed(context.plan.pipeline.seed, &["bench"]),
        progress: options.progress,
        stop: options.stop,
        program: Some(std::env::current_exe()?),
    };
    let mut report = measure(&subjects, settings, &benchmark).map_err(|error| {
        match options.stop.load(Ordering::Relaxed) {
            true => Interrupted { resume: options.resume.clone() }.into(),
            false => error,
        }
    })?;
    report.budgets = judge(settings, &report.cells, |model| model == choice.student);
    let folder = context.folder;
    let gate = bench_failures(&report).map(GateFailed);
    let files = vec![folder.bench_report(), folder.bench_table(), folder.bench_plots()];
    files.iter().try_for_each(|path| write_bench(path, Some(&report)))?;
    Ok(Done { files, gate })
}
