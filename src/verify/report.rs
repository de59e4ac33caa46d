//! The report of a verification.

use serde::{Deserialize, Serialize};

use crate::config::EngineName;
use crate::contract::Precision;
use crate::engine::Placement;
use crate::onnx::{Finding, Severity};

use super::distances::Distances;
use super::tolerance::Tolerance;
use super::truth::ReferenceKind;

/// The report of a verification.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct VerifyReport {
    /// Name of the verified file.
    pub model: String,
    /// Name of the reference.
    pub truth: String,
    #[serde(rename = "standing")]
    pub reference_kind: ReferenceKind,
    /// The verdict by [`ReferenceKind::verdict`], or `failed`.
    pub verdict: String,
    pub passed: bool,
    /// The precision in which the file computes.
    #[serde(default)]
    pub precision: Precision,
    /// Problems in the file's own structure.
    pub findings: Vec<Finding>,
    pub engines: Vec<EngineReport>,
    /// The engine with the smallest relative error on the gating inputs.
    pub closest: Option<String>,
    pub distances: Distances,
    /// The effect of the file's own preprocessing, where labelled images were prepared by it.
    #[serde(default)]
    pub preprocessing: Option<PreprocessingReport>,
    /// Batch sizes that were run.
    pub batches: Vec<usize>,
    /// Other sizes of image at which a file was checked that leaves them free.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sizes: Vec<SizeReport>,
    /// Where the failures begin, as far as that was found.
    #[serde(default)]
    pub blame: Vec<Blame>,
}

/// A check at another size of image.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SizeReport {
    /// Sizes of one image's axes.
    pub sample: Vec<usize>,
    pub engines: usize,
    /// The largest error as a share of what is allowed.
    pub tolerance_used: f64,
    pub passed: bool,
}

/// Maximum number of an engine's problems that are listed one by one.
const MAX_TOLD: usize = 2;

impl VerifyReport {
    /// What failed, one line per engine and input.
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
        let sizes = self.sizes.iter().filter(|size| !size.passed);
        let sizes = sizes.map(|size| {
            format!("\n  at {:?}: error {:.1} times the tolerance", size.sample, size.tolerance_used)
        });
        let blame = self.blame.iter().map(|blame| format!("\n  {}", blame.told()));
        let all = structure.chain(self.engines.iter().map(named)).chain(explained).chain(sizes).chain(blame);
        all.chain(self.advice()).collect()
    }

    /// How to go on if a file in half precision fails in tract alone, which sums it in half precision too.
    fn advice(&self) -> Option<String> {
        let failed = |engine: &&EngineReport| !engine.passed;
        let failed: Vec<EngineName> =
            self.engines.iter().filter(failed).map(|engine| engine.engine).collect();
        let alone = !failed.is_empty() && failed.iter().all(|engine| *engine == EngineName::Tract);
        let others = failed.len() < self.engines.len()
            && self.findings.iter().all(|one| one.severity != Severity::Error);
        (self.precision == Precision::Float16 && alone && others).then(|| {
            "\n  only tract fails this float16 file; if tract will not run it, leave tract out: `engines: [torch, ort-cpu]` of the \
             stage verify, or --engine ort-cpu"
                .to_string()
        })
    }
}

/// Where a failure begins.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Blame {
    /// The engine whose values differ from the file's; `None` if the file itself is wrong.
    pub engine: Option<String>,
    /// The inputs that were examined.
    pub set: String,
    pub samples: Vec<usize>,
    /// Number of nodes whose values could be compared.
    pub compared: usize,
    /// The first node that is wrong by itself; `None` if the error accumulates over many.
    pub node: Option<NodeError>,
    /// That node, or the one with the largest error, among its neighbours.
    pub around: Vec<NodeError>,
    /// The cause, where it is known.
    pub cause: Option<String>,
}

impl Blame {
    pub(super) fn nowhere(set: &str, samples: &[usize]) -> Self {
        let (set, samples) = (set.to_string(), samples.to_vec());
        Self { engine: None, set, samples, compared: 0, node: None, around: Vec::new(), cause: None }
    }

    /// The blame as a sentence.
    pub fn told(&self) -> String {
        let culprit = match &self.engine {
            Some(engine) => format!("{engine} deviates from the file"),
            None => "the file itself is wrong".into(),
        };
        let place = match &self.node {
            Some(node) => {
                let layer = node.layer.as_ref().filter(|layer| **layer != node.node);
                let layer = layer.map_or(String::new(), |layer| format!(", layer '{layer}'"));
                format!(", first at node '{}' ({}{layer})", node.node, node.operation)
            }
            None if self.compared > 0 && self.engine.is_none() => {
                format!("; none of {} shared nodes is wrong by itself", self.compared)
            }
            None if self.compared > 0 => {
                let builds_up = if self.cause.is_none() { ": rounding builds up" } else { "" };
                format!("; none of {} nodes is wrong by itself{builds_up}", self.compared)
            }
            None => String::new(),
        };
        let cause = self.cause.as_ref().map_or(String::new(), |cause| format!(": {cause}"));
        format!("{culprit}{place}{cause}")
    }
}

/// A node's part in a failure.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NodeError {
    /// The node's name in the file.
    pub node: String,
    /// The layer of the network that it stands for.
    pub layer: Option<String>,
    pub operation: String,
    /// Relative error that it adds on right inputs.
    pub isolated: f64,
    /// Relative error that has accumulated up to it.
    pub cumulative: f64,
}

/// One engine compared with the reference.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EngineReport {
    pub engine: EngineName,
    /// Whether the runtime was allowed to rewrite the graph.
    pub optimized: bool,
    /// Whether products were allowed to be rounded to TF32.
    pub tf32: bool,
    pub name: String,
    pub tolerance: Tolerance,
    /// Where its nodes run, for engines that have several places.
    #[serde(default)]
    pub placement: Placement,
    pub sets: Vec<SetReport>,
    pub accuracy: Option<ScoreReport>,
    /// What failed, as sentences.
    pub problems: Vec<String>,
    pub passed: bool,
}

impl EngineReport {
    /// The gating set whose error uses most of its tolerance.
    pub fn tightest(&self) -> Option<&SetReport> {
        let gating = self.sets.iter().filter(|set| set.gates);
        gating.max_by(|a, b| a.tolerance_used.total_cmp(&b.tolerance_used))
    }
}

/// Samples of a set on which rounding alone exceeds the fixed limits.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Rounded {
    pub samples: usize,
    /// The largest distance between two float32 evaluations on these samples.
    pub spread: f64,
    /// The largest error as a multiple of the fixed limits.
    pub fixed_limit_used: f64,
}

/// One engine on one set of inputs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SetReport {
    pub set: String,
    pub samples: usize,
    /// Whether its numbers decide; otherwise only NaN and infinity fail.
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
    /// The samples whose limit is wider because rounding alone exceeds the fixed one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rounding: Option<Rounded>,
    pub passed: bool,
}

/// The value whose error uses most of its tolerance.
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
    /// The reference's largest logit minus its second largest.
    pub margin: f64,
    /// Whether the margin is under twice the tolerance, so that the flip is excused.
    pub tie: bool,
}

/// Right decisions on a labelled split.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ScoreReport {
    /// `test`, or `validation` where there is no test split.
    pub split: String,
    pub images: usize,
    /// Share of right decisions.
    pub accuracy: f64,
    /// The score that the run reported, or the first engine's where that is not known.
    pub reference: Option<f64>,
    /// Comparison with the first engine, image by image.
    pub paired: Option<PairedScore>,
    pub passed: bool,
}

/// The file's own preprocessing compared with the data set's.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PreprocessingReport {
    /// Differences in what the file says, each with both values.
    pub differences: Vec<String>,
    /// Whether some engine reached the reported score with the file's preprocessing.
    pub passed: bool,
    /// Where none did, and the two differ: the first engine with the data set's own.
    pub restored: Option<Restored>,
}

/// An engine's score with the data set's own preprocessing.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Restored {
    pub engine: String,
    pub accuracy: f64,
    /// Whether that is the reported score.
    pub passed: bool,
}

impl PreprocessingReport {
    /// Why the score is off, as far as the preprocessing explains it.
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
                 with the data set's own the accuracy in {engine} is {accuracy:.4}, so it is not the only cause"
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

/// How two engines differ in their right decisions on the same images.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PairedScore {
    /// Name of the other engine.
    pub with: String,
    /// Images that only this engine decides rightly.
    pub only_here: usize,
    /// Images that only the other engine decides rightly.
    pub only_there: usize,
    /// This engine's share minus the other's.
    pub difference: f64,
    /// 95 % confidence interval of the difference.
    pub interval: [f64; 2],
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::EngineOptions;

    fn report(precision: Precision, engines: &[(EngineName, bool)]) -> VerifyReport {
        let engine = |&(engine, passed): &(EngineName, bool)| EngineReport {
            engine,
            optimized: true,
            tf32: false,
            name: engine.key().into(),
            tolerance: Tolerance::of(engine, &EngineOptions::default(), precision),
            placement: Placement::default(),
            sets: Vec::new(),
            accuracy: None,
            problems: Vec::new(),
            passed,
        };
        VerifyReport {
            model: "m".into(),
            truth: "t".into(),
            reference_kind: ReferenceKind::Checkpoint,
            verdict: "failed".into(),
            passed: false,
            precision,
            findings: Vec::new(),
            engines: engines.iter().map(engine).collect(),
            closest: None,
            distances: Distances { names: Vec::new(), relative_l2: Vec::new() },
            preprocessing: None,
            batches: vec![1],
            sizes: Vec::new(),
            blame: Vec::new(),
        }
    }

    #[test]
    fn only_a_half_file_that_tract_alone_fails_may_do_without_tract() {
        use EngineName::{OrtCpu, Torch, Tract};
        let advised = |precision, engines: &[(EngineName, bool)]| {
            report(precision, engines).problems().contains("engines: [torch, ort-cpu]")
        };
        assert!(advised(Precision::Float16, &[(OrtCpu, true), (Tract, false), (Tract, false)]));
        assert!(!advised(Precision::Float32, &[(OrtCpu, true), (Tract, false)]));
        assert!(!advised(Precision::Float16, &[(OrtCpu, false), (Tract, false)]));
        assert!(!advised(Precision::Float16, &[(Torch, true), (OrtCpu, false), (Tract, true)]));
        assert!(!advised(Precision::Float16, &[(Tract, false)]));
    }
}
