//! Short trainings: which of several parts learns best in a few steps, and how long an epoch takes.

use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use anyhow::Result;

use crate::config::{Device, Keep, Recipe, TrainingPrecision};
use crate::data::{Dataset, Split};
use crate::progress::{Progress, Silent};
use crate::task::Score;
use crate::train::{Start, Training, train};

use super::candidates::Candidate;
use super::length::told;
use super::look::Subject;
use super::pipeline::{Settings, collaborate};

/// Steps of a trial, and the fewest from which anything is seen.
const STEPS: f64 = 200.0;
const FEWEST_STEPS: f64 = 20.0;

/// Images on which a trial is scored.
const SCORED: usize = 1024;

/// Steps that are timed: few first, and more if those are fast.
const TIMED: [usize; 2] = [3, 40];

/// Seconds from which a difference of two times can be trusted.
const CLEAR: f64 = 0.5;

/// The share of a training step's time that evaluating its images takes.
const EVALUATION: f64 = 0.3;

/// Trains parts of the original for a few steps.
pub struct Trial<'a> {
    pub subject: &'a Subject,
    pub settings: &'a Settings,
    /// Seconds that a comparison may take.
    pub most_seconds: f64,
    /// A folder for checkpoints, which is removed.
    pub scratch: &'a Path,
    pub stop: &'a AtomicBool,
}

impl Trial<'_> {
    /// Lets all candidates learn from labels and original for the same few steps, and notes what each then knows. There are
    /// fewer steps, with a warning, if they would take too long, and none if nothing would be seen.
    ///
    /// # Errors
    /// As [`train`].
    pub fn compare(&self, candidates: &mut [Candidate], progress: &dyn Progress) -> Result<()> {
        let mut recipe = self.recipe();
        recipe.terms.beta = 0.0;
        // One after the other, because the memory of large networks would not hold all of them.
        let Some(first) = candidates.first() else { return Ok(()) };
        let per_step = self.seconds_per_step(std::iter::once(first), &recipe)? * candidates.len() as f64;
        let steps = (self.most_seconds / per_step).min(STEPS).floor();
        let slow = || {
            let all = told(per_step * STEPS);
            format!(
                "the {STEPS} steps that tell these candidates apart would take {all} on this machine, as it was just now"
            )
        };
        if steps < FEWEST_STEPS {
            progress.warn(format!("{}: the best before training are taken", slow()));
            return Ok(());
        }
        if steps < STEPS {
            progress.warn(format!("{}: with {steps} the choice may be chance", slow()));
        }
        let steps = steps as usize;
        progress.note(format!("training {} candidates for {steps} steps each", candidates.len()));
        for candidate in candidates {
            let scores = self.train(std::iter::once(&*candidate), steps, &recipe, SCORED)?;
            candidate.after_trial = scores.into_iter().next();
        }
        Ok(())
    }

    /// Seconds of one epoch of training these candidates together and evaluating them.
    ///
    /// # Errors
    /// As [`train`].
    pub fn epoch_seconds<'c>(&self, trained: impl Iterator<Item = &'c Candidate> + Clone) -> Result<f64> {
        let recipe = self.recipe();
        let per_step = self.seconds_per_step(trained, &recipe)?;
        let steps = |split: &Split| split.len() as f64 / recipe.batch as f64;
        let dataset = &self.subject.dataset;
        Ok(per_step * (steps(&dataset.train).floor().max(1.0) + EVALUATION * steps(&dataset.validation)))
    }

    fn seconds_per_step<'c>(
        &self,
        candidates: impl Iterator<Item = &'c Candidate> + Clone,
        recipe: &Recipe,
    ) -> Result<f64> {
        let timed = |steps: usize| -> Result<f64> {
            let start = Instant::now();
            self.train(candidates.clone(), steps, recipe, 1)?;
            Ok(start.elapsed().as_secs_f64())
        };
        // The first step pays for what is set up once.
        timed(1)?;
        let first = timed(1)?;
        let mut per_step = 0.0;
        for count in TIMED {
            let more = (timed(count)? - first).max(0.0);
            let [epochs, each] = rounds(self.subject.dataset.train.len(), recipe.batch, count);
            per_step = more / (epochs * each - 1) as f64;
            if more > CLEAR {
                break;
            }
        }
        Ok(per_step)
    }

    fn recipe(&self) -> Recipe {
        Recipe { keep: Keep::Last, ramp_epochs: 0, ..collaborate(self.settings).recipe() }
    }

    fn train<'c>(
        &self,
        candidates: impl Iterator<Item = &'c Candidate>,
        steps: usize,
        recipe: &Recipe,
        scored: usize,
    ) -> Result<Vec<Score>> {
        let Subject { dataset, network, data, .. } = self.subject;
        let [epochs, each] = rounds(dataset.train.len(), recipe.batch, steps);
        let recipe = &Recipe { epochs, validate_every: epochs, ..recipe.clone() };
        let few = Dataset {
            train: dataset.train.spread(recipe.batch * each),
            validation: dataset.validation.spread(scored),
            test: None,
            ..dataset.clone()
        };
        let students = candidates.map(|candidate| Start {
            name: &candidate.student.name,
            model: candidate.model.clone(),
            frozen: None,
            fixed: &[],
            lr_factor: 1.0,
        });
        std::fs::create_dir_all(self.scratch)?;
        let outcome = train(&Training {
            stage: "trial",
            key: "trial",
            recipe,
            students: students.collect(),
            teacher: Some(network.into()),
            data: &few,
            augment: &self.settings.augment,
            workers: data.workers,
            precision: TrainingPrecision::default(),
            device: Device::Auto,
            seed: self.settings.seed,
            checkpoint: &self.scratch.join("checkpoint"),
            metrics: &self.scratch.join("metrics"),
            progress: &Silent,
            stop: self.stop,
            resume: "the same command",
        });
        std::fs::remove_dir_all(self.scratch)?;
        Ok(outcome?.students.into_iter().map(|student| student.validation).collect())
    }
}

/// Epochs, and steps of each, that make at least so many steps on so many images.
fn rounds(images: usize, batch: usize, steps: usize) -> [usize; 2] {
    let epochs = steps.div_ceil((images / batch).max(1));
    [epochs, steps.div_ceil(epochs)]
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Few images are seen several times, so that a trial has its steps.
    #[test]
    fn few_images_make_as_many_steps() {
        assert_eq!(rounds(60_000, 64, 200), [1, 200]);
        assert_eq!(rounds(4_000, 64, 200), [4, 50]);
        assert_eq!(rounds(208, 64, 200), [67, 3]);
        assert_eq!(rounds(208, 64, 1), [1, 1]);
        assert_eq!(rounds(20, 20, 3), [3, 1]);
    }
}
