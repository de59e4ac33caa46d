//! A file that leaves height or width free, checked at another size than the one it was validated at.

use anyhow::Result;

use crate::config::EngineName;
use crate::contract::{Dim, Layout};
use crate::engine::{EngineOptions, open};
use crate::onnx::{Finding, OnnxFile, Severity, dims_text};
use crate::progress::Progress;
use crate::verify::{
    Amount, ConfiguredEngine, Evaluations, ReferenceKind, SizeReport, Verification, evaluations, verify,
};

use super::against::{file_truth, imported, network_truth};
use super::first::few;
use super::inputs::noise;
use super::settle::{Batched, fix_batch};

/// Samples per kind of input.
const SAMPLES: usize = 4;

/// Another size of image for a file that leaves height or width free; `None` if it fixes both.
pub fn another_size(declared: &[Dim], layout: Layout, sample: [usize; 3]) -> Option<[usize; 3]> {
    let axes = declared.get(1..).filter(|axes| axes.len() == sample.len())?;
    let free: Vec<usize> = layout
        .height_and_width()
        .into_iter()
        .filter(|&axis| matches!(axes[axis], Dim::Symbolic(_)))
        .collect();
    let mut other = sample;
    for (place, &axis) in free.iter().enumerate() {
        // Height and width change by different amounts, so that one taken for the other shows.
        let step = if sample[axis] >= 64 { 32 } else { 8 };
        other[axis] += step * (1 + place);
    }
    (!free.is_empty()).then_some(other)
}

/// Compares the engines at a size of image with the file's own nodes, or with one another.
///
/// # Errors
/// If the file cannot be read again, or libtorch fails.
pub fn check_size(
    file: OnnxFile,
    sample: [usize; 3],
    engines: &[EngineName],
    seed: u64,
    threads: usize,
    progress: &dyn Progress,
) -> Result<Result<SizeReport, Finding>> {
    let declared = dims_text(&file.contract.input.dims);
    let refused = |problem: String| {
        let problem =
            format!("the input declares {declared}, but at {sample:?} the file does not run: {problem}");
        Finding::new(Severity::Warning, problem, "export it with the sizes that it takes")
    };
    let Batched { file, import, .. } = fix_batch(file.with_sizes(None, &sample)?)?;
    let mut network =
        import.ok().filter(|_| cfg!(feature = "train")).map(|import| imported(import, ReferenceKind::File));
    let shorter = network.as_mut().map(|network| network.cut(&file)).transpose()?.flatten();
    let file = shorter.unwrap_or(file);
    let amount = Amount { noise: SAMPLES, ..Amount::default() };
    let inputs = few(&noise(&file, seed, &amount)?, SAMPLES);
    let engines: Vec<EngineName> =
        engines.iter().copied().filter(|engine| *engine != EngineName::Torch).collect();
    let reader = engines.first().copied().unwrap_or(EngineName::Tract);
    let truths = match &network {
        Some(network) => network_truth(network, &inputs, &file),
        None => file_truth(&file, reader, ReferenceKind::Engine, &inputs, threads),
    };
    let truths = match truths {
        Ok(truths) => truths,
        Err(problem) => return Ok(Err(refused(format!("{problem:#}")))),
    };
    let open = |&engine: &EngineName| {
        let options = EngineOptions { threads, ..EngineOptions::default() };
        let loaded = open(&file, engine, &options);
        ConfiguredEngine::new(engine, options, loaded, &file.contract)
    };
    let ends_alike = network.as_ref().filter(|network| network.ends_alike());
    let rounding = ends_alike.map(|network| evaluations(&network.model));
    let report = verify(&mut Verification {
        model: file.path.display().to_string(),
        findings: Vec::new(),
        truths: &truths,
        engines: &mut engines.iter().map(open).collect::<Vec<_>>(),
        inputs: &inputs,
        scoring: None,
        fixed_batch: file.contract.batch(),
        precision: file.contract.precision,
        rounding: rounding.as_ref().map(|evaluations| evaluations as &Evaluations<'_>),
        amount,
        progress,
    });
    let ran = |sets: usize| sets == inputs.len();
    if let Some(failed) = report.engines.iter().find(|engine| !ran(engine.sets.len())) {
        return Ok(Err(refused(format!("{}: {}", failed.name, failed.problems.join("; ")))));
    }
    let used = report.engines.iter().filter_map(|engine| Some(engine.tightest()?.tolerance_used));
    Ok(Ok(SizeReport {
        sample: sample.to_vec(),
        engines: report.engines.len(),
        tolerance_used: used.fold(0.0, f64::max),
        passed: report.passed,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_free_axes_change() {
        let (free, fixed) = (|| Dim::Symbolic(String::new()), Dim::Fixed);
        let other = |dims: [Dim; 3], layout, sample| {
            another_size(&[vec![free()], dims.to_vec()].concat(), layout, sample)
        };
        let first = Layout::ChannelsFirst;
        assert_eq!(other([fixed(3), free(), free()], first, [3, 16, 16]), Some([3, 24, 32]));
        assert_eq!(other([fixed(3), fixed(16), free()], first, [3, 16, 16]), Some([3, 16, 24]));
        assert_eq!(
            other([free(), free(), fixed(3)], Layout::ChannelsLast, [224, 96, 3]),
            Some([256, 160, 3])
        );
        assert_eq!(other([free(), fixed(8), fixed(8)], first, [3, 8, 8]), None, "channels are the network's");
    }
}
