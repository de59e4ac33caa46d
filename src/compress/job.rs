//! The whole of a compression up to its pipeline: look, find candidates, try them, and write what will be run.

use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use anyhow::Result;

use crate::config::{Augment, CropSpec, EngineName, FlipSpec};
use crate::error::InputError;
use crate::files::write_atomic;
use crate::progress::Progress;

use super::candidates::Candidates;
use super::engines::{EngineScore, score_engines};
use super::given::Given;
use super::length::{Length, epochs_within, usual_epochs};
use super::look::{Subject, look};
use super::pipeline::{Settings, write};
use super::search::find;
use super::target::Target;
use super::trial::Trial;

/// What is asked for.
#[derive(Debug, Clone)]
pub struct Job {
    pub given: Given,
    pub target: Target,
    /// Engines to measure in; that of the target is added.
    pub engines: Vec<EngineName>,
    pub length: Length,
    /// Images per step.
    pub batch: usize,
    /// Learning rate at the schedule's peak.
    pub lr: f64,
    /// Whether training images are mirrored.
    pub flip: bool,
}

/// What is found out on the way, for whoever watches.
pub enum Found<'a> {
    Subject(&'a Subject),
    Engines(&'a [EngineScore]),
}

/// What will be trained.
#[derive(Debug, Clone)]
pub struct Prepared {
    pub engines: Vec<EngineScore>,
    pub candidates: Candidates,
    pub settings: Settings,
    /// Seconds of one epoch on this machine, as it was just now.
    pub epoch_seconds: f64,
}

impl Job {
    /// A compression with the default settings.
    pub fn of(given: Given, target: Target) -> Self {
        Self {
            given,
            target,
            engines: vec![EngineName::OrtCpu, EngineName::Tract],
            length: Length::Usual,
            batch: 64,
            lr: 0.02,
            flip: false,
        }
    }

    /// The name of the run: that of the file, as far as it can name a folder.
    pub fn name(&self) -> String {
        let stem = self.given.model.file_stem().unwrap_or_default().to_string_lossy();
        let names = |c: char| c == '.' || crate::config::names_a_file(&c.to_string());
        let kept: String = stem.chars().map(|c| if names(c) { c } else { '-' }).take(80).collect();
        format!("{}-compressed", kept.trim_start_matches(['.', '-']))
    }

    /// Where the pipeline is written in a run folder.
    pub fn pipeline(folder: &Path) -> PathBuf {
        folder.join("pipeline.yaml")
    }

    /// Whether the same was asked for before in this folder. Then the pipeline there is used again, because latencies that
    /// are measured anew would lead to other widths.
    ///
    /// # Errors
    /// [`InputError`] if the file cannot be read.
    pub fn is_prepared(&self, folder: &Path) -> Result<bool> {
        let request = self.request()?;
        let asked = std::fs::read_to_string(asked(folder));
        Ok(Self::pipeline(folder).exists() && asked.is_ok_and(|asked| asked == request))
    }

    /// Finds what to train, and writes the pipeline into the run folder.
    ///
    /// # Errors
    /// [`InputError`] if the file, the images or the target cannot be used, or if the time is too short.
    pub fn prepare(
        &self,
        folder: &Path,
        tell: &mut dyn FnMut(Found<'_>) -> Result<()>,
        progress: &dyn Progress,
        stop: &AtomicBool,
    ) -> Result<Prepared> {
        let started = Instant::now();
        let request = self.request()?;
        let mut engines = self.engines.clone();
        engines.extend(self.target.engine().filter(|engine| !self.engines.contains(engine)));
        let subject = look(&self.given, progress)?;
        tell(Found::Subject(&subject))?;
        let scores = score_engines(&subject, &engines, self.target, progress)?;
        engines.retain(|engine| scores.iter().any(|score| score.engine == *engine));
        tell(Found::Engines(&scores))?;
        let mut candidates = find(&subject, self.target, &engines, progress)?;
        let mut settings = self.settings(&subject, engines);
        let scratch = folder.join("trial");
        let most_seconds = self.length.of_trial();
        let trial = Trial { subject: &subject, settings: &settings, most_seconds, scratch: &scratch, stop };
        trial.compare(&mut candidates.students, progress)?;
        candidates.choose(subject.dataset.validation.largest_share());
        let epoch_seconds = trial.epoch_seconds(candidates.trained())?;
        if let Length::Within(budget) = self.length {
            settings.epochs =
                epochs_within(budget, started.elapsed(), epoch_seconds, settings.engines.len())?;
        }
        write(&Self::pipeline(folder), &subject, &candidates, &settings, self.target)?;
        write_atomic(&asked(folder), request.as_bytes())?;
        Ok(Prepared { engines: scores, candidates, settings, epoch_seconds })
    }

    fn settings(&self, subject: &Subject, engines: Vec<EngineName>) -> Settings {
        let images = subject.dataset.train.len();
        Settings {
            name: self.name(),
            seed: subject.seed,
            unlabelled: !subject.data.labels.are_own(),
            epochs: match self.length {
                Length::Epochs(epochs) => epochs,
                Length::Usual | Length::Within(_) => usual_epochs(images),
            },
            batch: self.batch.min(images),
            lr: self.lr,
            engines,
            augment: self.augment(subject),
        }
    }

    /// The pipeline file's, or what suits most images; mirrored too if that is asked for.
    fn augment(&self, subject: &Subject) -> Vec<Augment> {
        let [_, height, width] = subject.dataset.info.shape;
        let mut augment = subject.data.augment.clone();
        if augment.is_empty() {
            augment.push(Augment::Crop(CropSpec { padding: (height.min(width) / 14).max(1) }));
        }
        if self.flip && !augment.iter().any(|one| matches!(one, Augment::Flip(_))) {
            augment.push(Augment::Flip(FlipSpec::default()));
        }
        augment
    }

    /// The file's hash, and everything that is asked for.
    fn request(&self) -> Result<String> {
        let model = std::fs::read(&self.given.model).map_err(|error| {
            InputError::new(format!("cannot read {}: {error}", self.given.model.display()))
                .hint("give the path of an ONNX file")
        })?;
        let model = blake3::hash(&model).to_hex().to_string();
        Ok(serde_json::to_string_pretty(&serde_json::json!({"model": model, "asked": format!("{self:?}")}))?)
    }
}

fn asked(folder: &Path) -> PathBuf {
    folder.join("compress.json")
}
