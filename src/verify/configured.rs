//! An engine in one configuration, as it is checked: how it is opened, kept and let go of, and which output has its scores.
//!
//! Knows engines and contracts; neither references nor tolerances.

use anyhow::{Result, anyhow};
use ndarray::{Array2, ArrayViewD};

use crate::config::EngineName;
use crate::contract::{Contract, OutputKind};
use crate::engine::{Engine, EngineOptions, scores};
use crate::graph::Graph;

/// An engine to be checked, in one configuration. If it refuses the file, that is a finding.
pub struct ConfiguredEngine {
    pub engine: EngineName,
    pub options: EngineOptions,
    held: Held,
    /// Place of the scores among its outputs.
    answer: usize,
    pub(super) kind: OutputKind,
}

/// Opens a file in an engine.
pub type Opening = dyn Fn() -> Result<Box<dyn Engine>>;

type Loaded = Result<Box<dyn Engine>>;

/// How long an engine holds its file.
enum Held {
    /// From the beginning to the end.
    Throughout(Loaded),
    /// While it has its turn.
    InTurn(Box<Opening>, Option<Loaded>),
}

impl ConfiguredEngine {
    /// An engine that has loaded a file with this contract, or, for libtorch, a network whose output is called `logits`.
    pub fn new(engine: EngineName, options: EngineOptions, loaded: Loaded, contract: &Contract) -> Self {
        let answer = match (engine, &loaded) {
            (EngineName::Torch, Ok(network)) => {
                network.outputs().iter().position(|name| name == Graph::LOGITS).unwrap_or(0)
            }
            (EngineName::Torch, Err(_))
            | (EngineName::OrtCpu | EngineName::OrtCuda | EngineName::Tract, _) => contract.answer,
        };
        Self { engine, options, held: Held::Throughout(loaded), answer, kind: contract.answer().kind }
    }

    /// An engine that opens a file with this contract when it has its turn and lets go of it afterwards, so that the weights
    /// of a large file are not held by all engines at once.
    pub fn in_turn(
        engine: EngineName,
        options: EngineOptions,
        contract: &Contract,
        open: Box<Opening>,
    ) -> Self {
        let (answer, kind) = (contract.answer, contract.answer().kind);
        Self { engine, options, held: Held::InTurn(open, None), answer, kind }
    }

    /// The engine, opened if it is not.
    pub(super) fn loaded(&mut self) -> &mut Loaded {
        match &mut self.held {
            Held::Throughout(loaded) => loaded,
            Held::InTurn(open, loaded) => loaded.get_or_insert_with(open),
        }
    }

    /// Ends its turn.
    pub(super) fn let_go(&mut self) {
        if let Held::InTurn(_, loaded) = &mut self.held {
            *loaded = None;
        }
    }

    pub(super) fn name(&mut self) -> String {
        let usual = self.options.name(self.engine);
        match self.loaded() {
            Ok(engine) => engine.name(),
            Err(_) => usual,
        }
    }

    /// Number of samples of a set on which it is run: tract without its optimiser is slow.
    pub(super) fn samples(&self, all: usize, slow: usize) -> usize {
        let is_slow = self.engine == EngineName::Tract && !self.options.optimize;
        if is_slow { all.min(slow) } else { all }
    }

    /// Scores of a batch, which is not larger than a fixed batch size: one row per image.
    ///
    /// # Errors
    /// If the engine refuses the file or fails, or if its output is not a row of scores per image.
    pub fn logits(&mut self, images: ArrayViewD<'_, f32>, fixed_batch: Option<usize>) -> Result<Array2<f32>> {
        let answer = self.answer;
        let engine = self.loaded().as_mut().map_err(|error| anyhow!("{error:#}"))?;
        scores(engine.as_mut(), images, fixed_batch, answer)
    }

    /// Whether it is configured as in a deployment: only such engines are scored on a whole split.
    pub fn usual(&self) -> bool {
        self.options.optimize
    }
}
