//! The stages of a pipeline, and the settings of those that do not train, with their defaults.

use serde::{Deserialize, Serialize};

use crate::contract::Precision;
use crate::stage::StageKind;

use super::bench::Bench;
use super::budget::Budget;
use super::limit::Limit;
use super::measured::EngineName;
use super::training::{Collaborate, Pretrain};

/// One stage, written as a map of one key.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
#[allow(clippy::large_enum_variant, reason = "a pipeline has a handful of stages")]
pub enum Stage {
    Slim(Slimming),
    Pretrain(Pretrain),
    Collaborate(Collaborate),
    Select(Select),
    Export(Export),
    Verify(Verify),
    Bench(Bench),
    Report(Report),
}

impl Stage {
    pub fn kind(&self) -> StageKind {
        match self {
            Stage::Slim(_) => StageKind::Slim,
            Stage::Pretrain(_) => StageKind::Pretrain,
            Stage::Collaborate(_) => StageKind::Collaborate,
            Stage::Select(_) => StageKind::Select,
            Stage::Export(_) => StageKind::Export,
            Stage::Verify(_) => StageKind::Verify,
            Stage::Bench(_) => StageKind::Bench,
            Stage::Report(_) => StageKind::Report,
        }
    }

    /// The stage's key in the file.
    pub fn name(&self) -> &'static str {
        self.kind().name()
    }
}

/// Takes the weights of students that are parts of a trained network out of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Slimming {
    /// Training images from which statistics and importance are measured.
    pub images: usize,
    /// Images per step.
    pub batch: usize,
    /// Which channels stay.
    pub by: Importance,
}

impl Default for Slimming {
    fn default() -> Self {
        Self { images: 2_048, batch: 64, by: Importance::default() }
    }
}

/// What decides which channels of a group stay.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Importance {
    /// First-order estimate of how much the loss changes without a channel: the sum of |weight · gradient| over its
    /// parameters (Molchanov et al. 2019, arXiv 1906.10771).
    #[default]
    Taylor,
    /// The sum of the squares of its weights.
    Magnitude,
}

/// Chooses one student on the validation split.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Select {
    pub by: SelectBy,
    pub budgets: Budgets,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SelectBy {
    /// The task's score on the validation split.
    #[default]
    #[serde(rename = "accuracy")]
    Score,
}

/// What the chosen student may cost at most.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Budgets {
    pub max_params: Option<Limit>,
    pub max_macs: Option<Limit>,
    pub max_onnx_bytes: Option<Limit>,
    /// Measured before the choice, such as `ort-cpu:p50<2ms@1`; a share (`0.5x`) is one of what the teacher's file takes, or
    /// else the largest peer's.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub latency: Vec<Budget>,
}

/// Writes every student as ONNX.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Export {
    pub fold_batch_norm: bool,
    /// The file takes pixels from 0 to 1 and normalises them itself.
    pub fold_normalization: bool,
    /// The precision in which the file computes; its input and outputs are float32 in any case.
    pub precision: Precision,
    /// Adds the pooled features as a second output.
    pub embedding: bool,
}

impl Default for Export {
    fn default() -> Self {
        Self {
            fold_batch_norm: true,
            fold_normalization: false,
            precision: Precision::Float32,
            embedding: false,
        }
    }
}

/// Proves that the exported file computes what the checkpoint does.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Verify {
    pub engines: Vec<EngineName>,
    /// Number of validation images that are compared.
    pub images: usize,
}

impl Default for Verify {
    fn default() -> Self {
        Self { engines: vec![EngineName::Torch, EngineName::OrtCpu, EngineName::Tract], images: 256 }
    }
}

/// Writes `report.md` and `report.json`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Report {}
