//! What a verification found.

use serde::{Deserialize, Serialize};

use crate::config::EngineName;
use crate::engine::Placement;
use crate::onnx::{Finding, Severity};

use super::distances::Distances;
use super::tolerance::Tolerance;
use super::truth::ReferenceKind;

/// Everything a verification found.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct VerifyReport {
    /// The verified file.
    pub model: String,
    /// What was held to be true.
    pub truth: String,
    #[serde(rename = "standing")]
    pub reference_kind: ReferenceKind,
    /// What [`ReferenceKind::verdict`] says, or `failed`.
    pub verdict: String,
    pub passed: bool,
    /// What the file's own structure says against it.
    pub findings: Vec<Finding>,
    pub engines: Vec<EngineReport>,
    /// The engine with the smallest relative error on the gating inputs.
    pub closest: Option<String>,
    pub distances: Distances,
    /// How the file's own preprocessing does, where images with labels were prepared by it.
    #[serde(default)]
    pub preprocessing: Option<PreprocessingReport>,
    /// Batch sizes that were run.
    pub batches: Vec<usize>,
    /// Where the failures begin, as far as it was found.
    #[serde(default)]
    pub blame: Vec<Blame>,
}

/// Problems of an engine that are told one by one.
const MAX_TOLD: usize = 2;

impl VerifyReport {
    /// What failed, a line an engine and input.
    pub fn problems(&self) -> String {
        let named = |engine: &EngineReport| -> String {
            let told = engine
                .problems
                .iter()
                .take(MAX_TOLD)
                .map(|problem| format!("\n  {}: {problem}", engine.name));
            let left = engine.problems.len().saturating_sub(MAX_TOLD);
            let more = (left > 0).then(|| format!("\n  {}: and {left} more", engine.name));
            told.chain(more).collect()
        };
        let errors = self.findings.iter().filter(|finding| finding.severity == Severity::Error);
        let structure = errors.map(|finding| format!("\n  {}; {}", finding.problem, finding.remedy));
        let explained = self.preprocessing.as_ref().and_then(PreprocessingReport::explanation);
        let explained = explained.map(|explanation| format!("\n  {explanation}"));
        let blame = self.blame.iter().map(|blame| format!("\n  {}", blame.told()));
        structure.chain(self.engines.iter().map(named)).chain(explained).chain(blame).collect()
    }
}

/// Where a failure begins.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Blame {
    /// The engine that leaves what the file says; nothing if the file itself is wrong.
    pub engine: Option<String>,
    /// The inputs that were looked at.
    pub set: String,
    pub samples: Vec<usize>,
    /// Nodes whose values could be compared.
    pub compared: usize,
    /// The first that is wrong by itself; nothing if the error builds up over many.
    pub node: Option<NodeError>,
    /// That node, or the worst, among its neighbours.
    pub around: Vec<NodeError>,
    /// Why, where that is known.
    pub cause: Option<String>,
}

impl Blame {
    pub(super) fn nowhere(set: &str, samples: &[usize]) -> Self {
        let (set, samples) = (set.to_string(), samples.to_vec());
        Self { engine: None, set, samples, compared: 0, node: None, around: Vec::new(), cause: None }
    }

    /// In a sentence.
    pub fn told(&self) -> String {
        let culprit = match &self.engine {
            Some(engine) => format!("{engine} leaves what the file says"),
            None => "the file itself is wrong".into(),
        };
        let place = match &self.node {
            Some(node) => {
                let layer = node.layer.as_ref().filter(|layer| **layer != node.node);
                let layer = layer.map_or(String::new(), |layer| format!(", layer '{layer}'"));
                format!(", first at node '{}' ({}{layer})", node.node, node.operation)
            }
            None if self.compared > 0 => {
                format!("; none of {} nodes is wrong by itself: the error builds up", self.compared)
            }
            None => String::new(),
        };
        let cause = self.cause.as_ref().map_or(String::new(), |cause| format!(": {cause}"));
        format!("{culprit}{place}{cause}")
    }
}

/// What a node of the file has to do with a failure.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NodeError {
    /// Its name in the file.
    pub node: String,
    /// The layer of the network it stands for.
    pub layer: Option<String>,
    pub operation: String,
    /// Relative error it adds on inputs that are right.
    pub isolated: f64,
    /// Relative error that has come together up to it.
    pub cumulative: f64,
}

/// One engine against the truth.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EngineReport {
    pub engine: EngineName,
    /// Whether the runtime could rewrite the graph.
    pub optimized: bool,
    /// Whether products could be rounded to TF32.
    pub tf32: bool,
    pub name: String,
    pub tolerance: Tolerance,
    /// Where its nodes run, of engines that know several places.
    #[serde(default)]
    pub placement: Placement,
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
    /// What the run reported, or the first engine's where that is not known.
    pub reference: Option<f64>,
    /// Beside the first engine, image by image.
    pub paired: Option<PairedAccuracy>,
    pub passed: bool,
}

/// The file's own preprocessing beside the data set's.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PreprocessingReport {
    /// What the file says otherwise, with both values.
    pub differences: Vec<String>,
    /// Whether some engine was as often right with the file's as was reported.
    pub passed: bool,
    /// Where none was, and the two differ: the first engine with the data set's own.
    pub restored: Option<Restored>,
}

/// An engine's accuracy with the data set's own preprocessing.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Restored {
    pub engine: String,
    pub accuracy: f64,
    /// Whether that is what was reported.
    pub passed: bool,
}

impl PreprocessingReport {
    /// Why the accuracy is off, as far as the preprocessing says.
    pub fn explanation(&self) -> Option<String> {
        if self.passed {
            return None;
        }
        let differences = self.differences.join(", ");
        Some(match &self.restored {
            Some(Restored { engine, accuracy, passed: true }) => format!(
                "the file's preprocessing is at fault: {differences}; \
                 with the data set's own the accuracy in {engine} is {accuracy:.4}"
            ),
            Some(Restored { engine, accuracy, passed: false }) => format!(
                "the file's preprocessing is not the data set's own: {differences}; \
                 with that the accuracy in {engine} is {accuracy:.4}, so it is not the only cause"
            ),
            None if differences.is_empty() => {
                "the file's preprocessing is the data set's own: the cause lies in the weights, or the accuracy was \
                 reported on other images"
                    .into()
            }
            None => format!("the file's preprocessing is not the data set's own: {differences}"),
        })
    }
}

/// How two engines differ in their right answers on the same images.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PairedAccuracy {
    /// The other engine.
    pub with: String,
    /// Images that only this engine answers rightly.
    pub only_here: usize,
    /// Images that only the other does.
    pub only_there: usize,
    /// This engine's share less the other's.
    pub difference: f64,
    /// Of 95 %.
    pub interval: [f64; 2],
}
