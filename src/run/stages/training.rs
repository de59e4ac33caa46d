//! What both training stages do: train, keep each student's weights, record how they were reached.

use anyhow::Result;

use crate::config::{Keep, LossTerms, Optimizer, Schedule, Updates};
use crate::files::write_atomic;
use crate::folder::{Kept, write_json};
use crate::graph::Model;
use crate::plan::{Peer, Plan};
use crate::seed::derive_seed;
use crate::train::{Job, Start, train};

use super::{Context, Done, warnings};

/// A training stage's settings, whichever stage it is.
pub(super) struct Training<'a> {
    pub terms: LossTerms,
    pub updates: Updates,
    pub ramp_epochs: usize,
    pub teacher: Option<&'a Model>,
    pub epochs: usize,
    pub batch: usize,
    pub keep: Keep,
    pub validate_every: usize,
    pub optimizer: &'a Optimizer,
    pub schedule: &'a Schedule,
}

impl Training<'_> {
    pub(super) fn run(&self, context: &Context<'_>, students: Vec<Start<'_>>, key: &str) -> Result<Done> {
        let (folder, stage, pipeline) = (context.folder, context.stage, &context.plan.pipeline);
        let outcome = train(&Job {
            stage: stage.name(),
            key,
            students,
            terms: self.terms,
            updates: self.updates,
            teacher: self.teacher,
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
            seed: derive_seed(pipeline.seed, &["batches", stage.name()]),
            checkpoint: &folder.checkpoint(stage),
            metrics: &folder.metrics(stage),
            progress: context.options.progress,
            stop: context.options.stop,
            resume: &context.options.resume,
        })?;
        let mut files = vec![folder.metrics(stage), folder.training_result(stage)];
        let mut kept = Vec::new();
        for student in outcome.students {
            let path = folder.weights(stage, &student.name);
            write_atomic(&path, &student.weights.to_safetensors(None))?;
            files.push(path);
            let (name, epoch, validation) = (student.name, student.epoch, student.validation);
            kept.push(Kept { name, epoch, epochs: self.epochs, validation, optimizer: student.optimizer });
        }
        warnings::at_chance(context, &kept);
        write_json(&folder.training_result(stage), &kept)?;
        Ok(Done { files, gate: None })
    }
}

pub(super) fn start(peer: &Peer, model: Model, frozen: Option<Model>) -> Start<'_> {
    Start { name: &peer.name, model, frozen, lr_factor: peer.lr_factor }
}

/// A student before any training.
pub(super) fn untrained(plan: &Plan, peer: &Peer) -> Model {
    Model::untrained(peer.graph.clone(), derive_seed(plan.pipeline.seed, &["init", &peer.name]))
}
