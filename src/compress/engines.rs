//! The original in each engine before anything is trained: how good it is there, and whether the engines agree.

use std::path::Path;

use anyhow::{Context, Result};
use serde::Serialize;

use crate::config::{Device, EngineName};
use crate::contract::{ChannelOrder, OutputKind, Preparation};
use crate::data::{Split, prepared_batches};
use crate::engine::{EngineOptions, open};
use crate::error::InputError;
use crate::onnx::OnnxFile;
use crate::progress::Progress;
use crate::task::{Comparison, SCORE, decision};
use crate::train::decide;
use crate::verify::{ConfiguredEngine, Tolerance};

use super::conventions::preparation;
use super::look::Subject;
use super::target::Target;

/// Validation images on which engines are compared.
const IMAGES: usize = 512;

/// Images per run, where the file leaves the batch free.
const BATCH: usize = 32;

/// The original in one engine.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct EngineScore {
    pub engine: EngineName,
    /// Share of right decisions.
    pub accuracy: f64,
    /// Decided like what teaches the students: the imported network in libtorch, or the file in ONNX Runtime.
    pub against_teacher: Comparison,
}

/// An engine that cannot run the file, and why.
#[derive(Debug, Clone, PartialEq)]
struct Refusal {
    engine: EngineName,
    reason: String,
}

/// Scores the original on up to 512 validation images: the imported network in libtorch first, if the file can be
/// imported, then the file in each engine that will be measured. Engines that cannot run the file are left out, with a warning, and one warns where an
/// engine decides more images otherwise than the verification's tolerance for it allows.
///
/// # Errors
/// [`InputError`] if no engine can run the file, or if the one whose latency is the target cannot; otherwise if an image
/// cannot be read.
pub fn score_engines(
    subject: &Subject,
    engines: &[EngineName],
    target: Target,
    progress: &dyn Progress,
) -> Result<Vec<EngineScore>> {
    let path = subject.teacher.onnx.as_deref().context("what is compressed is a file")?;
    let split = subject.dataset.validation.spread(IMAGES);
    progress.note(format!("scoring the original in each engine on {} validation images", split.len()));
    let taught = decide(&subject.network, Device::Auto, &split, &subject.dataset.normalization)?.decisions;
    let mut scores = Vec::new();
    if subject.network.network().is_some() {
        scores.push(EngineScore::of(EngineName::Torch, split.labels(), &taught, &taught));
    }
    let mut refusals = Vec::new();
    for &engine in engines.iter().filter(|engine| **engine != EngineName::Torch) {
        match decisions(subject, path, &split, engine) {
            Ok(found) => scores.push(EngineScore::of(engine, split.labels(), &found, &taught)),
            Err(error) => refusals.push(Refusal { engine, reason: format!("{error:#}") }),
        }
    }
    check_refusals(path, &scores, &refusals, target, progress)?;
    for score in &scores {
        let options = EngineOptions::default();
        let tolerance = Tolerance::of(score.engine, &options, subject.classifier.contract.precision);
        warn_of_difference(path, score, &tolerance, progress);
    }
    Ok(scores)
}

impl EngineScore {
    fn of(engine: EngineName, labels: &[u32], found: &[usize], taught: &[usize]) -> Self {
        let right = found.iter().zip(labels).filter(|(class, label)| **class == **label as usize).count();
        Self {
            engine,
            accuracy: right as f64 / labels.len().max(1) as f64,
            against_teacher: Comparison::of(labels, found, taught),
        }
    }
}

/// What the file decides in an engine, on images prepared as it takes them.
fn decisions(subject: &Subject, path: &Path, split: &Split, engine: EngineName) -> Result<Vec<usize>> {
    let contract = &subject.classifier.contract;
    let mut file = OnnxFile::load(path)?;
    if let (None, Some(sample)) = (file.contract.sample_shape(), contract.sample_shape()) {
        file = file.with_sizes(None, &sample)?;
    }
    let prepare = subject.teacher.prepare.as_ref().context("the preparation is settled")?;
    let decoded = ChannelOrder::decoded(prepare.mean.len());
    let fit = split.fit().unwrap_or_default();
    let preparation = Preparation { layout: contract.layout, fit, ..preparation(prepare, decoded) };
    let options = EngineOptions::default();
    let loaded = open(&file, engine, &options)?;
    let mut engine = ConfiguredEngine::new(engine, options, Ok(loaded), &file.contract);
    let mut found = Vec::with_capacity(split.len());
    for batch in prepared_batches(&preparation, split, contract.batch().unwrap_or(BATCH)) {
        for row in engine.logits(batch?.images.view(), contract.batch())?.outer_iter() {
            found.push(match file.contract.answer().kind {
                OutputKind::Decision => row.first().map_or(0, |class| *class as usize),
                OutputKind::Logits
                | OutputKind::Probabilities
                | OutputKind::LogProbabilities
                | OutputKind::Embedding => decision(row.iter()).unwrap_or(0),
            });
        }
    }
    Ok(found)
}

/// Leaves out engines that cannot run the file, where others can and the target does not name them.
fn check_refusals(
    path: &Path,
    scores: &[EngineScore],
    refusals: &[Refusal],
    target: Target,
    progress: &dyn Progress,
) -> Result<(), InputError> {
    let path = path.display();
    let told = |refusal: &Refusal| format!("{}: {}", refusal.engine.key(), refusal.reason);
    if let Some(engine) = target.engine()
        && let Some(refusal) = refusals.iter().find(|refusal| refusal.engine == engine)
    {
        let problem = format!("the engine of the target cannot run {path}: {}", told(refusal));
        return Err(
            InputError::new(problem).hint("name another engine in --target, or limit params, macs or bytes")
        );
    }
    let runs = scores.iter().any(|score| score.engine != EngineName::Torch);
    if !runs && !refusals.is_empty() {
        let reasons: Vec<String> = refusals.iter().map(told).collect();
        return Err(InputError::new(format!("no engine can run {path}: {}", reasons.join("; "))).hint(
            "name another engine with --engine; `cohort verify` says what is wrong with a file, and `cohort doctor` which \
             engines there are",
        ));
    }
    for refusal in refusals {
        progress.warn(format!("an engine cannot run {path} and is left out: {}", told(refusal)));
    }
    Ok(())
}

/// Warns if an engine is right on more or fewer images than the imported network, beyond what rounding explains.
fn warn_of_difference(path: &Path, score: &EngineScore, tolerance: &Tolerance, progress: &dyn Progress) {
    let Comparison { images, paired, .. } = score.against_teacher;
    let difference = paired.only_here.abs_diff(paired.only_there);
    if !tolerance.excuses(difference as f64, images) {
        progress.warn(format!(
            "{}: the original's {SCORE} differs from the imported network's by {difference} of {images} images, more than \
             rounding explains; `cohort verify {}` shows where they part",
            score.engine.key(),
            path.display()
        ));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::progress::{Collected, Event};

    const LABELS: [u32; 4] = [0, 1, 2, 2];

    fn warnings(heard: &Collected) -> Vec<String> {
        let warning = |event| if let Event::Warning(text) = event { Some(text) } else { None };
        heard.take().into_iter().filter_map(warning).collect()
    }

    fn score(engine: EngineName, found: [usize; 4]) -> EngineScore {
        EngineScore::of(engine, &LABELS, &found, &[0, 1, 2, 0])
    }

    #[test]
    fn an_engine_is_compared_with_the_imported_network() {
        let found = score(EngineName::Tract, [0, 1, 1, 0]);
        assert_eq!((found.accuracy, found.against_teacher.agreement), (0.5, 0.75));
        assert_eq!((found.against_teacher.paired.only_here, found.against_teacher.paired.only_there), (0, 1));
    }

    #[test]
    fn one_warns_of_more_than_rounding() {
        let told = |engine, found| {
            let tolerance =
                Tolerance::of(engine, &EngineOptions::default(), crate::contract::Precision::Float32);
            let heard = Collected::default();
            warn_of_difference(Path::new("a.onnx"), &score(engine, found), &tolerance, &heard);
            warnings(&heard).len()
        };
        // tract may differ by one image, ONNX Runtime by none.
        assert_eq!(told(EngineName::OrtCpu, [0, 1, 2, 1]), 0);
        assert_eq!(told(EngineName::OrtCpu, [0, 1, 1, 0]), 1);
        assert_eq!(told(EngineName::Tract, [0, 1, 1, 0]), 0);
        assert_eq!(told(EngineName::Tract, [0, 0, 1, 0]), 1);
    }

    #[test]
    fn engines_that_cannot_run_the_file_are_left_out_or_refused() {
        let checked = |target: &str, running: &[EngineName], refusing: EngineName| {
            let scores: Vec<EngineScore> =
                running.iter().map(|engine| score(*engine, [0, 1, 2, 0])).collect();
            let refusal = Refusal { engine: refusing, reason: "unknown operator Foo".into() };
            let heard = Collected::default();
            let target = target.parse().unwrap();
            let found = check_refusals(Path::new("a.onnx"), &scores, &[refusal], target, &heard);
            (found.map_err(|error| error.to_string()), warnings(&heard).join("\n"))
        };
        let both = [EngineName::Torch, EngineName::Tract];
        let (found, told) = checked("params<=50%", &both, EngineName::OrtCpu);
        assert_eq!(found, Ok(()));
        assert!(told.contains("left out: ort-cpu: unknown operator Foo"), "{told}");
        let (found, _) = checked("ort-cpu:p50<=0.5x", &both, EngineName::OrtCpu);
        assert!(found.unwrap_err().contains("the engine of the target cannot run a.onnx"));
        let (found, _) = checked("params<=50%", &both[..1], EngineName::Tract);
        assert!(found.unwrap_err().contains("no engine can run a.onnx: tract: unknown operator Foo"));
    }
}
