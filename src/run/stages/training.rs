//! The part that both training stages share: train, keep each student's weights, record how they were reached.

use anyhow::Result;

use crate::config::Recipe;
use crate::files::write_atomic;
use crate::folder::{Kept, write_json};
use crate::graph::Model;
use crate::plan::{Peer, Plan};
use crate::seed::derive_seed;
use crate::stage::StageKind;
use crate::train::{Answering, Start, Training, train};

use super::{Context, Done, warnings};

/// Trains the students by the recipe, and writes their weights and how they were reached.
pub(super) fn run(
    context: &Context<'_>,
    recipe: &Recipe,
    students: Vec<Start<'_>>,
    teacher: Option<Answering<'_>>,
    key: &str,
) -> Result<Done> {
    let (folder, stage, pipeline) = (context.folder, context.stage, &context.plan.pipeline);
    let outcome = train(&Training {
        stage: stage.name(),
        key,
        recipe,
        students,
        teacher,
        data: context.data,
        augment: &pipeline.data.augment,
        workers: pipeline.data.workers,
        precision: pipeline.precision,
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
        kept.push(Kept { name, epoch, epochs: recipe.epochs, validation, optimizer: student.optimizer });
    }
    warnings::at_chance(context, &kept);
    write_json(&folder.training_result(stage), &kept)?;
    Ok(Done { files, gate: None })
}

pub(super) fn start(peer: &Peer, model: Model, frozen: Option<Model>) -> Start<'_> {
    let fixed = peer.head.as_ref().map_or(&[][..], |head| &head.params);
    Start { name: &peer.name, model, frozen, fixed, lr_factor: peer.lr_factor }
}

/// A student before any training here: a part of a trained network, or new.
pub(super) fn initial(context: &Context<'_>, peer: &Peer) -> Result<Model> {
    match &peer.part {
        Some(_) => context.model(StageKind::Slim, peer),
        None => untrained(context.plan, peer),
    }
}

/// A new student.
pub(super) fn untrained(plan: &Plan, peer: &Peer) -> Result<Model> {
    with_head(plan, peer, Model::untrained(peer.graph.clone(), seed(plan, peer)))
}

/// The student with this body: if it ends in the teacher's last layer, with that and a new projector.
pub(super) fn with_head(plan: &Plan, peer: &Peer, body: Model) -> Result<Model> {
    match &peer.head {
        Some(head) => head.model(&peer.graph, body.weights(), seed(plan, peer)),
        None => Ok(body),
    }
}

fn seed(plan: &Plan, peer: &Peer) -> u64 {
    derive_seed(plan.pipeline.seed, &["init", &peer.name])
}
