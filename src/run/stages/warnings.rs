//! Warnings about a training that did not fail and may still have gone wrong.

use anyhow::Result;

use crate::config::Stage;
use crate::folder::{Kept, read_json};
use crate::plan::Teacher;
use crate::stage::StageKind;
use crate::task::Score;

use super::Context;

/// Warns of students that are no better than always deciding for the most frequent class.
pub(super) fn at_chance(context: &Context<'_>, kept: &[Kept]) {
    let chance = context.data.validation.largest_share();
    if chance >= 1.0 {
        let problem = "all validation images are of one class, so that nothing can be told from a score";
        context.options.progress.warn(problem.to_string());
        return;
    }
    for student in kept.iter().filter(|student| student.validation.is_at_chance(chance)) {
        context.options.progress.warn(format!(
            "'{}' is at chance level: {} on validation, where the commonest class is {:.2} %; lower the \
             learning rate, or train for more epochs",
            student.name,
            student.validation,
            100.0 * chance
        ));
    }
}

/// Warns of a teacher that knows nothing of these images: it drags its students down.
pub(super) fn teacher_at_chance(context: &Context<'_>, score: &Score) {
    let chance = context.data.validation.largest_share();
    if chance < 1.0 && score.is_at_chance(chance) {
        context.options.progress.warn(format!(
            "the teacher is at chance level: {score} on validation, where the commonest class is {:.2} %, and its students will \
             learn that from it; are the classes in its order, and are images prepared as it was trained?",
            100.0 * chance
        ));
    }
}

/// Warns of a teacher whose file records another fit of images than the data's.
pub(super) fn another_fit(context: &Context<'_>, teacher: &Teacher) {
    let preparation = teacher.contract.as_ref().and_then(|contract| contract.preparation.as_ref());
    let (Some(preparation), Some(own)) = (preparation, context.data.validation.fit()) else { return };
    if preparation.fit != own {
        let recorded = preparation.fit.name();
        context.options.progress.warn(format!(
            "the teacher's file was made for images with the fit '{recorded}', and the data have '{}': write `fit: {recorded}` \
             under `data.source.folder`, unless the teacher does better without",
            own.name()
        ));
    }
}

/// Why a student may have become worse in the collaboration, and what to do.
fn cause(context: &Context<'_>) -> &'static str {
    let Some(Stage::Collaborate(settings)) = context.plan.pipeline.stage(StageKind::Collaborate) else {
        return "";
    };
    let terms = settings.terms();
    match (terms.beta > 0.0 && context.plan.peers.len() > 1, terms.taught()) {
        (true, _) => "weaker peers may drag it down; lower loss.beta, or give the schedule more epochs",
        (false, true) => "the teacher may drag it down; lower loss.teacher, or give the schedule more epochs",
        (false, false) => "give the schedule more epochs, or start from the pre-trained weights",
    }
}

/// Warns of pre-trained students that are clearly worse after the collaboration than before it.
pub(super) fn after_collaboration(context: &Context<'_>) -> Result<()> {
    let result = |stage| read_json(&context.input(context.folder.training_result(stage))?);
    let before: Vec<Kept> = result(StageKind::Pretrain)?;
    let after: Vec<Kept> = result(StageKind::Collaborate)?;
    for (before, after) in before.iter().zip(&after) {
        if after.validation.is_clearly_worse_than(&before.validation) {
            context.options.progress.warn(format!(
                "'{}' ends at {} on validation and came with {}: {}",
                after.name,
                after.validation,
                before.validation,
                cause(context)
            ));
        }
    }
    Ok(())
}
