//! The stage `collaborate`: the students learn together, and from a teacher if there is one.

use std::path::PathBuf;

use anyhow::Result;

use crate::config::{Collaborate, Start};
use crate::folder::write_json;
use crate::plan::Teacher;
use crate::stage::StageKind;
use crate::task::Score;
use crate::train::{Answering, evaluate_model};

use super::training::{self, initial, start};
use super::{Context, Done, warnings};

pub(super) fn run(context: &Context<'_>, settings: &Collaborate, key: &str) -> Result<Done> {
    let recipe = settings.recipe();
    let pretrained = context.plan.pipeline.stage(StageKind::Pretrain).is_some();
    let mut starts = Vec::new();
    for peer in &context.plan.peers {
        let own = match pretrained {
            true => Some(context.model(StageKind::Pretrain, peer)?),
            false => None,
        };
        let model = match (settings.start, &own) {
            (Start::Pretrained, Some(own)) => own.clone(),
            (Start::Fresh, _) | (Start::Pretrained, None) => initial(context, peer)?,
        };
        starts.push(start(peer, model, own.filter(|_| recipe.terms.gamma > 0.0)));
    }
    let teacher = context.plan.teacher.as_ref().filter(|_| recipe.terms.taught());
    let mut files = Vec::new();
    let introduced = context.plan.pipeline.stage(StageKind::Slim).is_some();
    if let Some(teacher) = teacher.filter(|_| !introduced) {
        files.push(introduce(context, teacher, context.folder.teacher_score())?.0);
    }
    let answering = teacher.map(|teacher| Answering::from(&teacher.known));
    let mut done = training::run(context, &recipe, starts, answering, key)?;
    done.files.extend(files);
    if pretrained {
        warnings::after_collaboration(context)?;
    }
    Ok(done)
}

/// Scores the teacher and reports the score before any student learns from it.
pub(super) fn introduce(context: &Context<'_>, teacher: &Teacher, path: PathBuf) -> Result<(PathBuf, Score)> {
    let (data, device) = (context.data, context.plan.pipeline.device);
    let score = evaluate_model(&teacher.known, device, &data.validation, &data.normalization)?;
    context.options.progress.note(format!("teacher {}: {score} on validation", teacher.origin()));
    warnings::teacher_at_chance(context, &score);
    warnings::another_fit(context, teacher);
    write_json(&path, &score)?;
    Ok((path, score))
}
