//! What training may have done wrong without failing.

use anyhow::Result;

use crate::folder::{Kept, read_json};
use crate::score::Score;
use crate::stage::StageKind;

use super::Context;

/// Standard errors by which a score must leave another to be called different.
const CLEARLY: f64 = 2.0;

/// Warns of students that do no better than always saying the commonest class.
pub(super) fn at_chance(context: &Context<'_>, kept: &[Kept]) {
    let chance = context.data.validation.largest_share();
    for student in kept.iter().filter(|student| is_chance(&student.validation, chance)) {
        context.options.progress.warn(format!(
            "'{}' is at chance level: {:.2} % on validation, where the commonest class is {:.2} %; lower the \
             learning rate, or train for more epochs",
            student.name,
            100.0 * student.validation.accuracy,
            100.0 * chance
        ));
    }
}

/// Warns of pre-trained students that the collaboration has left clearly worse than they came.
pub(super) fn after_collaboration(context: &Context<'_>) -> Result<()> {
    let result = |stage| read_json(&context.input(context.folder.training_result(stage))?);
    let before: Vec<Kept> = result(StageKind::Pretrain)?;
    let after: Vec<Kept> = result(StageKind::Collaborate)?;
    for (before, after) in before.iter().zip(&after) {
        if is_worse(&after.validation, &before.validation) {
            context.options.progress.warn(format!(
                "'{}' ends at {:.2} % on validation and came with {:.2} %: weaker peers may drag it down; lower \
                 loss.beta, or give the schedule more epochs",
                after.name,
                100.0 * after.validation.accuracy,
                100.0 * before.validation.accuracy
            ));
        }
    }
    Ok(())
}

fn is_chance(score: &Score, chance: f64) -> bool {
    score.accuracy <= chance + CLEARLY * standard_error(chance, score.images)
}

fn is_worse(after: &Score, before: &Score) -> bool {
    let middle = (after.accuracy + before.accuracy) / 2.0;
    let error = std::f64::consts::SQRT_2 * standard_error(middle, after.images);
    after.accuracy < before.accuracy - CLEARLY * error
}

fn standard_error(share: f64, images: usize) -> f64 {
    (share * (1.0 - share) / images.max(1) as f64).sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn score(accuracy: f64, images: usize) -> Score {
        Score { accuracy, loss: 1.0, images }
    }

    #[test]
    fn only_what_is_clear_is_said() {
        assert!(is_chance(&score(0.1, 1_000), 0.1));
        assert!(is_chance(&score(0.11, 1_000), 0.1));
        assert!(!is_chance(&score(0.2, 1_000), 0.1));
        assert!(is_worse(&score(0.80, 1_000), &score(0.90, 1_000)));
        assert!(!is_worse(&score(0.89, 1_000), &score(0.90, 1_000)));
        assert!(!is_worse(&score(0.95, 1_000), &score(0.90, 1_000)));
    }
}
