//! The stage `verify`: compares the chosen student's file with its checkpoint.

use anyhow::{Context as _, Result};
use ndarray::{Axis, Slice};

use crate::bench::usable_threads;
use crate::config::{Device, EngineName, Export, Verify};
use crate::contract::Normalization;
use crate::engine::torch::Truth;
use crate::engine::{self, EngineOptions};
use crate::error::GateFailed;
use crate::files::write_npy;
use crate::folder::write_json;
use crate::graph::{Model, fold_normalization, normalizing};
use crate::onnx::{OnnxFile, import};
use crate::plan::{Peer, as_file_takes};
use crate::seed::derive_seed;
use crate::verify::{
    Adversary, ConfiguredEngine, Effort, Examination, Examined, InputSet, ReferenceKind, Scoring, Truths,
    examine, images_of, input_sets, pool_size,
};

use super::engines::open;
use super::export::prepared;
use super::{Context, Done};

/// Number of samples whose inputs and reference logits are kept for checks by other programs.
const KEPT_SAMPLES: usize = 32;

pub(super) fn run(context: &Context<'_>, settings: &Verify) -> Result<Done> {
    let (folder, data) = (context.folder, context.data);
    let choice = context.choice()?;
    let chosen = context.peer(&choice.student)?;
    let whole = OnnxFile::load(&context.input(folder.chosen_onnx())?)?;
    // Errors of small probabilities are invisible, so that a file is compared before its softmax.
    let logits = import(&whole)?.logits_tensor;
    let shorter = logits.map(|tensor| whole.cut_after(&tensor, chosen.graph.classes())).transpose()?;
    let file = shorter.as_ref().unwrap_or(&whole);
    let export = context.export_settings()?;
    let [model, folded] = models(context, chosen, &export)?;
    let truth = Truth::new(&model)?;
    let threads = usable_threads();
    let own = prepared(context, &export);
    let preparation =
        file.contract.preparation.clone().context("an exported file says how images are prepared")?;
    let seed = derive_seed(context.plan.pipeline.seed, &["verify"]);
    let image = file.contract.image_input(Some(&preparation)).context("an exported file fixes its images")?;
    let images = images_of(&data.validation.spread(settings.images), &preparation)?;
    let amount = Effort::default().amount(Some(chosen.cost.macs));
    let inputs = input_sets(Some(images), &image, seed, &amount);
    let name = "checkpoint, unfolded, libtorch float64";
    let truths =
        Truths::of(name, ReferenceKind::Checkpoint, &inputs, None, &mut |images| truth.logits(images))?;
    let pool = images_of(&data.validation.spread(pool_size(data.info.shape, &amount)), &preparation)?;
    let (name, split) = context.scored_on();
    let reference = Some(context.scored(&chosen.name)?.share());
    let Examined { report, inputs, truths, case } = examine(Examination {
        file,
        whole: &whole,
        findings: Vec::new(),
        candidates: candidates(context, settings, &model, file, threads)?,
        inputs,
        truths,
        network: Some(&model),
        adversary: Some(Adversary { pool, image }),
        reference: Some(&folded),
        scoring: Some(Scoring {
            name: name.name(),
            split,
            preparation: &preparation,
            own: Some(&own),
            reference,
        }),
        amount,
        case: Some(&folder.failing_case()),
        open: &engine::open,
        threads,
        progress: context.options.progress,
    });
    write_json(&folder.verify_report(), &report)?;
    let mut files = vec![folder.verify_report()];
    files.extend(keep_samples(context, &inputs, &truths)?);
    files.extend(case?);
    let gate = (!report.passed)
        .then(|| GateFailed(format!("the export is not what was trained{}", report.problems())));
    Ok(Done { files, gate })
}

/// The model that the file should compute from the pixels it takes, and the same with the normalisation where the
/// file has it: the first is the reference, and the file's nodes are compared with the second.
fn models(context: &Context<'_>, chosen: &Peer, export: &Export) -> Result<[Model; 2]> {
    let contract = &context.plan.contract;
    let model = as_file_takes(context.trained(chosen)?, contract)?;
    if !export.fold_normalization {
        return Ok([model.clone(), model]);
    }
    let Normalization { mean, std } = &context.data.normalization;
    Ok([normalizing(&model, mean, std)?, fold_normalization(&model, mean, std)?])
}

/// Every engine, in every configuration that may change its numbers; libtorch runs on the CPU, whatever it was
/// trained on.
///
/// # Errors
/// [`crate::error::InputError`] if a runtime is missing. The verification reports it when an engine refuses the
/// file.
fn candidates(
    context: &Context<'_>,
    settings: &Verify,
    model: &Model,
    file: &OnnxFile,
    threads: usize,
) -> Result<Vec<ConfiguredEngine>> {
    let mut candidates = Vec::new();
    for engine in engines_to_verify(context, settings, file)? {
        for options in EngineOptions::ways(engine, threads) {
            let loaded = open(Some(model), Device::Cpu, file, engine, &options);
            let loaded = match engine {
                EngineName::Torch | EngineName::OrtCuda => Ok(loaded?),
                EngineName::OrtCpu | EngineName::Tract => loaded,
            };
            candidates.push(ConfiguredEngine::new(engine, options, loaded, &file.contract));
        }
    }
    Ok(candidates)
}

/// The engines in the settings, and ONNX Runtime's CUDA provider where training ran on CUDA and the provider can
/// be used; if it cannot, that is reported.
///
/// # Errors
/// [`crate::error::InputError`] if ONNX Runtime is in the settings and cannot be loaded.
fn engines_to_verify(context: &Context<'_>, settings: &Verify, file: &OnnxFile) -> Result<Vec<EngineName>> {
    let mut engines = settings.engines.clone();
    let device = crate::torch::device_name(context.plan.pipeline.device);
    let on_cuda = device.is_ok_and(|name| name.starts_with("cuda"));
    let facts = engine::ort::facts();
    if engines.iter().any(|engine| matches!(engine, EngineName::OrtCpu | EngineName::OrtCuda)) {
        facts.clone()?;
    }
    let provider = facts.is_ok_and(|facts| facts.cuda);
    if on_cuda && provider && !engines.contains(&EngineName::OrtCuda) {
        match engine::open(file, EngineName::OrtCuda, &EngineOptions::default()) {
            Ok(_) => engines.push(EngineName::OrtCuda),
            Err(error) => context.options.progress.warn(format!("not verified on CUDA: {error:#}")),
        }
    }
    Ok(engines)
}

fn keep_samples(
    context: &Context<'_>,
    inputs: &[InputSet],
    truths: &Truths,
) -> Result<Vec<std::path::PathBuf>> {
    let images = inputs.first().context("the first inputs are the images")?.images.view();
    let logits = truths.logits.first().context("every set has its truth")?.view();
    let first = Slice::from(..KEPT_SAMPLES.min(images.shape()[0]));
    let [inputs_path, logits_path] = [context.folder.verify_inputs(), context.folder.verify_logits()];
    write_npy(&inputs_path, &images.slice_axis(Axis(0), first).as_standard_layout().into_owned())?;
    write_npy(&logits_path, &logits.slice_axis(Axis(0), first).as_standard_layout().into_owned().into_dyn())?;
    Ok(vec![inputs_path, logits_path])
}
