//! The input and the result of a stage.

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::{Context as _, Result, ensure};

use crate::config::{Export, Stage};
use crate::data::{Dataset, Split};
use crate::error::GateFailed;
use crate::folder::{Choice, Kept, RunFolder, read_json};
use crate::graph::{Model, Weights};
use crate::onnx::{Scored, ScoredSplit};
use crate::plan::{Peer, Plan};
use crate::stage::{Read, StageKind};
use crate::task::Score;

use super::super::options::Options;
use super::{bench, collaborate, export, pretrain, report, select, slim, verify};

/// Everything that a stage may read.
pub struct Context<'a> {
    pub stage: StageKind,
    pub plan: &'a Plan,
    pub options: &'a Options<'a>,
    pub folder: &'a RunFolder,
    pub data: &'a Dataset,
}

/// What a stage wrote, and its gate if that failed.
#[derive(Debug, Default)]
pub struct Done {
    pub files: Vec<PathBuf>,
    pub gate: Option<GateFailed>,
}

impl Context<'_> {
    /// Runs the stage.
    ///
    /// # Errors
    /// Any error of the stage; a failed gate is not an error here but part of [`Done`].
    pub fn run(&self, stage: &Stage, key: &str) -> Result<Done> {
        let done = match stage {
            Stage::Slim(settings) => slim::run(self, settings),
            Stage::Pretrain(settings) => pretrain::run(self, settings, key),
            Stage::Collaborate(settings) => collaborate::run(self, settings, key),
            Stage::Select(settings) => select::run(self, settings),
            Stage::Export(settings) => export::run(self, settings),
            Stage::Verify(settings) => verify::run(self, settings),
            Stage::Bench(settings) => bench::run(self, settings),
            Stage::Report(_) => report::run(self),
        }?;
        for file in &done.files {
            let owner = self.folder.owner(file);
            ensure!(owner == self.stage, "stage '{}' wrote {}", self.stage.name(), file.display());
        }
        Ok(done)
    }

    /// A file that an earlier stage wrote.
    ///
    /// # Errors
    /// If the stage does not declare that it reads that stage's files, which would be a fault of the program:
    /// its key would not change with them.
    pub(super) fn input(&self, path: PathBuf) -> Result<PathBuf> {
        let owner = self.folder.owner(&path);
        let declared = owner == self.stage || self.stage.reads(Read::Files(owner));
        ensure!(declared, "stage '{}' reads {} and does not declare it", self.stage.name(), path.display());
        Ok(path)
    }

    /// The export's settings, for stages that must know the file before it is written.
    ///
    /// # Errors
    /// As [`Context::input`].
    pub(super) fn export_settings(&self) -> Result<Export> {
        let declared = self.stage.reads(Read::Settings(StageKind::Export));
        ensure!(
            declared,
            "stage '{}' reads the export's settings and does not declare it",
            self.stage.name()
        );
        Ok(self.plan.pipeline.export())
    }

    /// The last training stage of the pipeline, whose weights are used from there on.
    fn trained_by(&self) -> Result<StageKind> {
        let stage = StageKind::TRAINING.into_iter().find(|stage| self.plan.pipeline.stage(*stage).is_some());
        stage.context("a pipeline trains")
    }

    /// The students as the last training stage kept them.
    pub(super) fn kept(&self) -> Result<Vec<Kept>> {
        read_json(&self.input(self.folder.training_result(self.trained_by()?))?)
    }

    /// A student with the weights that a training stage kept.
    pub(super) fn model(&self, stage: StageKind, peer: &Peer) -> Result<Model> {
        let path = self.input(self.folder.weights(stage, &peer.name))?;
        let model = Model::new(peer.graph.clone(), Weights::load(&path)?);
        model.with_context(|| format!("cannot use {}", path.display()))
    }

    /// A student with the weights of the last training stage.
    pub(super) fn trained(&self, peer: &Peer) -> Result<Model> {
        self.model(self.trained_by()?, peer)
    }

    pub(super) fn choice(&self) -> Result<Choice> {
        read_json(&self.input(self.folder.choice())?)
    }

    pub(super) fn peer(&self, name: &str) -> Result<&Peer> {
        let peer = self.plan.peers.iter().find(|peer| peer.name == name);
        peer.with_context(|| format!("the cohort has no student '{name}'"))
    }

    /// The split that a student's score is reported on: test, or validation where there is none.
    pub(super) fn scored_on(&self) -> (ScoredSplit, &Split) {
        match &self.data.test {
            Some(test) => (ScoredSplit::Test, test),
            None => (ScoredSplit::Validation, &self.data.validation),
        }
    }

    /// The checkpoint's own score on that split.
    pub(super) fn scored(&self, student: &str) -> Result<Scored> {
        let (split, _) = self.scored_on();
        let score = match split {
            ScoredSplit::Test => {
                let scores: BTreeMap<String, Score> = read_json(&self.input(self.folder.test_scores())?)?;
                scores.get(student).copied()
            }
            ScoredSplit::Validation => {
                let kept = self.kept()?;
                kept.iter().find(|kept| kept.name == student).map(|kept| kept.validation)
            }
        };
        Ok(Scored::of(split, &score.with_context(|| format!("'{student}' has no score"))?))
    }
}
