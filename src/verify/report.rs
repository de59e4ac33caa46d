//! What a verification found.

use serde::{Deserialize, Serialize};

use crate::config::EngineName;

use super::tolerance::Tolerance;

/// Everything a verification found.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct VerifyReport {
    /// The verified file.
    pub model: String,
    /// What was held to be true.
    pub truth: String,
    /// `export correct`, `engines agree` or `failed`.
    pub verdict: String,
    pub passed: bool,
    pub engines: Vec<EngineReport>,
    /// The engine with the smallest relative error on the gating inputs.
    pub closest: Option<String>,
    /// Batch sizes that were run.
    pub batches: Vec<usize>,
}

impl VerifyReport {
    /// What failed, a line an engine and input.
    pub fn problems(&self) -> String {
        let named = |engine: &EngineReport| -> String {
            engine.problems.iter().map(|problem| format!("\n  {}: {problem}", engine.name)).collect()
        };
        self.engines.iter().map(named).collect()
    }
}

/// One engine against the truth.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EngineReport {
    pub engine: EngineName,
    pub name: String,
    pub tolerance: Tolerance,
    pub sets: Vec<SetReport>,
    pub accuracy: Option<AccuracyReport>,
    /// What failed, as sentences.
    pub problems: Vec<String>,
    pub passed: bool,
}

impl EngineReport {
    /// The gating set whose error takes most of its tolerance.
    pub fn tightest(&self) -> Option<&SetReport> {
        let gating = self.sets.iter().filter(|set| set.gates);
        gating.max_by(|a, b| a.tolerance_used.total_cmp(&b.tolerance_used))
    }
}

/// One engine on one set of inputs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SetReport {
    pub set: String,
    pub samples: usize,
    /// Whether its numbers decide; otherwise only NaN and infinity do.
    pub gates: bool,
    pub max_abs: f64,
    pub mean_abs: f64,
    pub p99_abs: f64,
    /// `‖found − truth‖ / ‖truth‖`.
    pub relative_l2: f64,
    pub cosine: f64,
    /// The largest error as a share of what is allowed: up to 1 passes.
    pub tolerance_used: f64,
    pub worst: Option<Worst>,
    pub finite: bool,
    /// Share of samples with the same top-1 class.
    pub top1: f64,
    /// Share of samples whose true class is among the five largest.
    pub top5: f64,
    pub flips: Vec<Flip>,
    /// Samples whose error is under half their margin, so that they cannot flip.
    pub certified: usize,
    pub passed: bool,
}

/// Where an error takes most of its tolerance.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Worst {
    pub sample: usize,
    pub class: usize,
    pub truth: f64,
    pub found: f64,
}

/// A sample whose top-1 class differs.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Flip {
    pub sample: usize,
    pub truth: usize,
    pub found: usize,
    /// True logit of the true class less that of the second.
    pub margin: f64,
    /// Whether the margin is under twice the tolerance: then it is excused.
    pub tie: bool,
}

/// Right answers on a labelled split.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AccuracyReport {
    /// `test`, or `validation` where there is no test split.
    pub split: String,
    pub images: usize,
    /// Share of right answers.
    pub accuracy: f64,
    /// The checkpoint's own.
    pub reference: f64,
    pub passed: bool,
}
