//! What each stage does: reads files of the run folder, calls the part that knows how, writes files.

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::{Context as _, Result};
use tracing::debug;

use crate::config::{self, Collaborate, Export, ExportPrecision, LossTerms, Method, Pretrain, Stage};
use crate::data::{Dataset, Layout, Normalization, Preparation, Split};
use crate::error::GateFailed;
use crate::files::write_atomic;
use crate::folder::{Candidate, Choice, Kept, RunFolder, read_json, write_json};
use crate::graph::{Weights, fold_batch_norm, fold_normalization, initial_weights};
use crate::onnx::{EmitOptions, Metadata, Scored, ScoredSplit, emit};
use crate::plan::{Peer, Plan, Teacher};
use crate::score::Score;
use crate::seed::derive_seed;
use crate::train::{self, Job, Start, evaluate_weights, train};

use super::options::Options;
use super::select::choose;

mod measure;
mod warnings;

/// What every stage may look at.
pub struct Context<'a> {
    pub plan: &'a Plan,
    pub options: &'a Options<'a>,
    pub folder: &'a RunFolder,
    pub data: &'a Dataset,
}

/// What a stage wrote, and the gate that did not hold, if one did not.
#[derive(Debug, Default)]
pub struct Done {
    pub files: Vec<PathBuf>,
    pub gate: Option<GateFailed>,
}

/// Runs one stage.
///
/// # Errors
/// Whatever the stage's own part says; a gate is no error here but part of [`Done`].
pub fn run(context: &Context<'_>, stage: &Stage, key: &str) -> Result<Done> {
    match stage {
        Stage::Pretrain(settings) => pretrain(context, settings, key),
        Stage::Collaborate(settings) => collaborate(context, settings, key),
        Stage::Select(settings) => select(context, settings),
        Stage::Export(settings) => export(context, settings),
        Stage::Verify(settings) => measure::verify(context, settings),
        Stage::Bench(settings) => measure::bench(context, settings),
        Stage::Report(_) => report(context),
    }
}

/// Removes what a finished stage needed only to be resumed.
///
/// # Errors
/// If the files cannot be removed.
pub fn clean_up(folder: &RunFolder, stage: &Stage) -> Result<()> {
    let checkpoint = folder.checkpoint(stage.name());
    if checkpoint.exists() {
        std::fs::remove_dir_all(&checkpoint)
            .with_context(|| format!("cannot remove {}", checkpoint.display()))?;
    }
    Ok(())
}

fn pretrain(context: &Context<'_>, settings: &Pretrain, key: &str) -> Result<Done> {
    let terms = Method::Plain.terms(&config::LossWeights::default());
    let starts = context.plan.peers.iter().map(|peer| start(peer, fresh_weights(context.plan, peer), None));
    let job = Training {
        stage: "pretrain",
        terms,
        updates: config::Updates::Simultaneous,
        ramp_epochs: 0,
        teacher: None,
        epochs: settings.epochs,
        batch: settings.batch,
        keep: settings.keep,
        validate_every: settings.validate_every,
        optimizer: &settings.optimizer,
        schedule: &settings.schedule,
    };
    job.run(context, starts.collect(), key)
}

fn collaborate(context: &Context<'_>, settings: &Collaborate, key: &str) -> Result<Done> {
    let terms = settings.method.terms(&settings.loss);
    let pretrained = context.plan.pipeline.stages.iter().any(|stage| matches!(stage, Stage::Pretrain(_)));
    let mut starts = Vec::new();
    for peer in &context.plan.peers {
        let own = match pretrained {
            true => Some(Weights::load(&context.folder.weights("pretrain", &peer.name))?),
            false => None,
        };
        let weights = match (settings.start, &own) {
            (config::Start::Pretrained, Some(own)) => own.clone(),
            (config::Start::Fresh, _) | (config::Start::Pretrained, None) => {
                fresh_weights(context.plan, peer)
            }
        };
        starts.push(start(peer, weights, own.filter(|_| terms.gamma > 0.0)));
    }
    let teacher = context.plan.teacher.as_ref().filter(|_| terms.taught());
    let mut files = Vec::new();
    if let Some(teacher) = teacher {
        files.push(introduce(context, teacher)?);
    }
    let job = Training {
        stage: "collaborate",
        terms,
        updates: settings.updates,
        ramp_epochs: settings.ramp_epochs,
        teacher,
        epochs: settings.epochs,
        batch: settings.batch,
        keep: settings.keep,
        validate_every: settings.validate_every,
        optimizer: &settings.optimizer,
        schedule: &settings.schedule,
    };
    let mut done = job.run(context, starts, key)?;
    done.files.extend(files);
    warnings::after_collaboration(context, pretrained)?;
    Ok(done)
}

/// Measures the teacher and says how good it is, before anyone learns from it.
fn introduce(context: &Context<'_>, teacher: &Teacher) -> Result<PathBuf> {
    let (data, device) = (context.data, context.plan.pipeline.device);
    let score =
        evaluate_weights(&teacher.graph, &teacher.weights, device, &data.validation, &data.normalization)?;
    context.options.ui.line(format!(
        "teacher {} from {}: {:.2} % on validation",
        teacher.model,
        teacher.file.display(),
        100.0 * score.accuracy
    ));
    let path = context.folder.teacher_score();
    write_json(&path, &score)?;
    Ok(path)
}

/// A training stage's settings, whichever stage it is.
struct Training<'a> {
    stage: &'static str,
    terms: LossTerms,
    updates: config::Updates,
    ramp_epochs: usize,
    teacher: Option<&'a Teacher>,
    epochs: usize,
    batch: usize,
    keep: config::Keep,
    validate_every: usize,
    optimizer: &'a config::Optimizer,
    schedule: &'a config::Schedule,
}

impl Training<'_> {
    fn run(&self, context: &Context<'_>, students: Vec<Start<'_>>, key: &str) -> Result<Done> {
        let (folder, pipeline) = (context.folder, &context.plan.pipeline);
        let outcome = train(&Job {
            stage: self.stage,
            key,
            students,
            terms: self.terms,
            updates: self.updates,
            teacher: self
                .teacher
                .map(|teacher| train::Teacher { graph: &teacher.graph, weights: teacher.weights.clone() }),
            ramp_epochs: self.ramp_epochs,
            precision: pipeline.precision,
            data: context.data,
            augment: &pipeline.data.augment,
            workers: pipeline.data.workers,
            epochs: self.epochs,
            batch: self.batch,
            keep: self.keep,
            validate_every: self.validate_every,
            optimizer: self.optimizer,
            schedule: self.schedule,
            device: pipeline.device,
            seed: derive_seed(pipeline.seed, &["batches", self.stage]),
            checkpoint: &folder.checkpoint(self.stage),
            metrics: &folder.metrics(self.stage),
            ui: context.options.ui,
            stop: context.options.stop,
            resume: &context.options.resume,
        })?;
        let mut files = vec![folder.metrics(self.stage), folder.training_result(self.stage)];
        let mut kept = Vec::new();
        for student in outcome.students {
            let path = folder.weights(self.stage, &student.name);
            write_atomic(&path, &student.weights.to_safetensors(None))?;
            files.push(path);
            let (name, epoch, validation) = (student.name, student.epoch, student.validation);
            kept.push(Kept { name, epoch, epochs: self.epochs, validation, optimizer: student.optimizer });
        }
        warnings::at_chance(context, &kept);
        write_json(&folder.training_result(self.stage), &kept)?;
        Ok(Done { files, gate: None })
    }
}

fn start<'a>(peer: &'a Peer, weights: Weights, frozen: Option<Weights>) -> Start<'a> {
    Start { name: &peer.name, graph: &peer.graph, weights, frozen, lr_factor: peer.lr_factor }
}

fn fresh_weights(plan: &Plan, peer: &Peer) -> Weights {
    initial_weights(&peer.graph, derive_seed(plan.pipeline.seed, &["init", &peer.name]))
}

/// The last training stage of the pipeline: the one whose weights are used from here on.
fn trained_by(context: &Context<'_>) -> &'static str {
    let collaborates =
        context.plan.pipeline.stages.iter().any(|stage| matches!(stage, Stage::Collaborate(_)));
    if collaborates { "collaborate" } else { "pretrain" }
}

/// A student's kept weights.
fn trained_weights(context: &Context<'_>, student: &str) -> Result<Weights> {
    Ok(Weights::load(&context.folder.weights(trained_by(context), student))?)
}

fn peer<'a>(context: &Context<'a>, name: &str) -> Result<&'a Peer> {
    let peer = context.plan.peers.iter().find(|peer| peer.name == name);
    peer.with_context(|| format!("the cohort has no student '{name}'"))
}

fn select(context: &Context<'_>, settings: &config::Select) -> Result<Done> {
    let folder = context.folder;
    let kept: Vec<Kept> = read_json(&folder.training_result(trained_by(context)))?;
    let mut candidates = Vec::new();
    for kept in kept {
        let peer = peer(context, &kept.name)?;
        // The test split is not open yet. The file will be no longer than if all were answered rightly.
        let (split, labelled) = scored_on(context);
        let best = Scored { split, images: labelled.len(), right: labelled.len() };
        let onnx_bytes = exported(context, peer, export_settings(context), best)?.len() as u64;
        candidates.push(Candidate {
            name: kept.name,
            validation: kept.validation,
            params: peer.cost.params,
            macs: peer.cost.macs,
            onnx_bytes,
            exceeds: Vec::new(),
        });
    }
    let choice = match choose(candidates, &settings.budgets) {
        Ok(choice) => choice,
        Err(error) => {
            return match error.downcast::<GateFailed>() {
                Ok(gate) => Ok(Done { files: Vec::new(), gate: Some(gate) }),
                Err(error) => Err(error),
            };
        }
    };
    context.options.ui.line(format!("select: '{}', {}", choice.student, choice.reason));
    write_json(&folder.choice(), &choice)?;
    let mut files = vec![folder.choice()];
    files.extend(test_scores(context)?);
    Ok(Done { files, gate: None })
}

/// Opens the test split, once, after the choice is written.
fn test_scores(context: &Context<'_>) -> Result<Option<PathBuf>> {
    let Some(test) = &context.data.test else { return Ok(None) };
    let mut scores: BTreeMap<&str, Score> = BTreeMap::new();
    for peer in &context.plan.peers {
        let weights = trained_weights(context, &peer.name)?;
        let device = context.plan.pipeline.device;
        let score = evaluate_weights(&peer.graph, &weights, device, test, &context.data.normalization)?;
        scores.insert(&peer.name, score);
    }
    let path = context.folder.test_scores();
    write_json(&path, &scores)?;
    Ok(Some(path))
}

/// The export stage's settings, for those who must know the file before it is written.
fn export_settings<'a>(context: &Context<'a>) -> Option<&'a Export> {
    context.plan.pipeline.stages.iter().find_map(|stage| match stage {
        Stage::Export(settings) => Some(settings),
        Stage::Pretrain(_)
        | Stage::Collaborate(_)
        | Stage::Select(_)
        | Stage::Verify(_)
        | Stage::Bench(_)
        | Stage::Report(_) => None,
    })
}

fn export(context: &Context<'_>, settings: &Export) -> Result<Done> {
    let choice: Choice = read_json(&context.folder.choice())?;
    let mut files = Vec::new();
    for peer in &context.plan.peers {
        let bytes = exported(context, peer, Some(settings), scored(context, &peer.name)?)?;
        let path = context.folder.onnx(&peer.name);
        debug!(path = %path.display(), bytes = bytes.len(), "exported");
        write_atomic(&path, &bytes)?;
        files.push(path);
        if peer.name == choice.student {
            write_atomic(&context.folder.chosen_onnx(), &bytes)?;
            files.push(context.folder.chosen_onnx());
        }
    }
    Ok(Done { files, gate: None })
}

/// How the run itself prepares images for its files: as for training, but for what a file does by itself.
fn prepared(data: &Dataset, settings: &Export) -> Preparation {
    let inside = Normalization::none(data.normalization.mean.len());
    let normalization = if settings.fold_normalization { &inside } else { &data.normalization };
    Preparation::of(normalization, Layout::ChannelsFirst)
}

/// The split that a student's accuracy is reported on: test, or validation where there is none.
fn scored_on<'a>(context: &Context<'a>) -> (ScoredSplit, &'a Split) {
    match &context.data.test {
        Some(test) => (ScoredSplit::Test, test),
        None => (ScoredSplit::Validation, &context.data.validation),
    }
}

/// The checkpoint's own score on that split.
fn scored(context: &Context<'_>, student: &str) -> Result<Scored> {
    let (split, _) = scored_on(context);
    let score = match split {
        ScoredSplit::Test => {
            let scores: BTreeMap<String, Score> = read_json(&context.folder.test_scores())?;
            scores.get(student).copied()
        }
        ScoredSplit::Validation => {
            let kept: Vec<Kept> = read_json(&context.folder.training_result(trained_by(context)))?;
            kept.iter().find(|kept| kept.name == student).map(|kept| kept.validation)
        }
    };
    Ok(Scored::of(split, &score.with_context(|| format!("'{student}' has no score"))?))
}

/// The bytes of a student's ONNX file.
fn exported(
    context: &Context<'_>,
    peer: &Peer,
    settings: Option<&Export>,
    accuracy: Scored,
) -> Result<Vec<u8>> {
    let default = Export::default();
    let settings = settings.unwrap_or(&default);
    let info = &context.data.info;
    let Preparation { resize, order, range, normalization, .. } = prepared(context.data, settings);
    let metadata = Metadata {
        classes: info.classes.clone(),
        input: info.shape,
        channel_order: order,
        resize,
        range,
        mean: normalization.mean,
        std: normalization.std,
        normalizes: settings.fold_normalization.then(|| context.data.normalization.clone()),
        accuracy: Some(accuracy),
        student: peer.name.clone(),
        run: context.plan.pipeline.name.clone(),
    };
    let half = match settings.precision {
        ExportPrecision::Float32 => false,
        ExportPrecision::Float16 => true,
    };
    let (mut graph, mut weights) = (peer.graph.clone(), trained_weights(context, &peer.name)?);
    if settings.fold_batch_norm {
        (graph, weights) = fold_batch_norm(&graph, &weights)?;
    }
    if let Some(Normalization { mean, std }) = &metadata.normalizes {
        (graph, weights) = fold_normalization(&graph, &weights, mean, std)?;
    }
    let options = EmitOptions { embedding: settings.embedding, half };
    emit(&graph, &weights, Some(&metadata), &options)
        .with_context(|| format!("cannot export '{}'", peer.name))
}

fn report(context: &Context<'_>) -> Result<Done> {
    let folder = context.folder;
    let report = crate::report::collect(folder)?;
    write_json(&folder.report_json(), &report)?;
    write_atomic(&folder.report_markdown(), crate::report::markdown(&report).as_bytes())?;
    Ok(Done { files: vec![folder.report_json(), folder.report_markdown()], gate: None })
}
