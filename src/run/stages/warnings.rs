//! Warnings about a training that did not fail and may still have gone wrong.

use anyhow::Result;

use crate::folder::{Kept, read_json};
use crate::stage::StageKind;

use super::Context;

/// Warns of students that are no better than always deciding for the most frequent class.
pub(super) fn at_chance(context: &Context<'_>, kept: &[Kept]) {
    let chance = context.data.validation.largest_share();
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

/// Warns of pre-trained students that are clearly worse after the collaboration than before it.
pub(super) fn after_collaboration(context: &Context<'_>) -> Result<()> {
    let result = |stage| read_json(&context.input(context.folder.training_result(stage))?);
    let before: Vec<Kept> = result(StageKind::Pretrain)?;
    let after: Vec<Kept> = result(StageKind::Collaborate)?;
    for (before, after) in before.iter().zip(&after) {
        if after.validation.is_clearly_worse_than(&before.validation) {
            context.options.progress.warn(format!(
                "'{}' ends at {} on validation and came with {}: weaker peers may drag it down; lower \
                 loss.beta, or give the schedule more epochs",
                after.name, after.validation, before.validation
            ));
        }
    }
    Ok(())
}
