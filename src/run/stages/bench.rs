//! The stage `bench`: measures the chosen student and the largest, or all students and the teacher's file if it has one.

use anyhow::Result;

use crate::bench::judge;
use crate::config::{Bench, Mode};
use crate::error::GateFailed;
use crate::onnx::OnnxFile;
use crate::report::{ORIGINAL, bench_failures, write_bench};

use super::latency::{self, Rival};
use super::{Context, Done};

/// Number of validation images that are decoded in turns in the end-to-end mode.
const PICTURES: usize = 64;

pub(super) fn run(context: &Context<'_>, settings: &Bench) -> Result<Done> {
    let choice = context.choice()?;
    let split = context.data.validation.spread(PICTURES);
    let pictures =
        (0..split.len()).map(|place| Ok((format!("validation image {place}"), split.encoded(place)?)));
    let pictures = match settings.modes.contains(&Mode::EndToEnd) {
        true => pictures.collect::<Result<Vec<_>>>()?,
        false => Vec::new(),
    };
    let original = Rival::original(context, ORIGINAL)?;
    let mut names = vec![choice.student.as_str()];
    let others = context.plan.peers.iter().map(|peer| peer.name.as_str());
    names.extend(
        others.filter(|&name| name != choice.student && (original.is_some() || name == choice.largest)),
    );
    let load =
        |name| Rival::student(context, name, OnnxFile::load(&context.input(context.folder.onnx(name))?)?);
    let mut rivals = names.into_iter().map(load).collect::<Result<Vec<_>>>()?;
    let baseline = if original.is_some() { ORIGINAL } else { choice.largest.as_str() };
    rivals.extend(original);
    let mut report = latency::measure(context, &rivals, baseline, settings, &pictures)?;
    let chosen = |model: &str| model == choice.student;
    report.budgets = judge(&settings.budgets, &report.cells, baseline, chosen);
    let folder = context.folder;
    let gate = bench_failures(&report).map(GateFailed);
    let files = vec![folder.bench_report(), folder.bench_table(), folder.bench_plots()];
    files.iter().try_for_each(|path| write_bench(path, Some(&report)))?;
    Ok(Done { files, gate })
}
