//! The report as data. Its JSON form is printed by `run --json` and stored in `report.json`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::bench::{Environment, Ratio, Verdict};
use crate::config::{EngineName, Mode};
use crate::engine::Placement;
use crate::folder::AgainstOriginal;
use crate::onnx::Finding;
use crate::verify::{Blame, Distances, SizeReport};

/// Everything a person wants to know about a finished run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Report {
    pub name: String,
    pub run_dir: String,
    /// The chosen student's file; `null` if nothing was exported.
    pub onnx: Option<String>,
    /// An image of the data that the file can be tried on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sample: Option<String>,
    pub student: String,
    /// The peer with the most parameters, with which the student is compared.
    pub largest: String,
    /// Why this student was chosen.
    pub reason: String,
    pub accuracy: SplitAccuracy,
    pub params: u64,
    pub macs: u64,
    pub onnx_bytes: u64,
    pub compression: Compression,
    pub students: Vec<StudentRow>,
    /// The teacher's file, which the students are to replace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub original: Option<OriginalRow>,
    /// The original and the students, with what each costs; empty without an original.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub front: Vec<FrontRow>,
    pub verify: Option<VerifyRow>,
    pub bench: Vec<BenchRow>,
    /// Latency budgets, judged on the student.
    pub budgets: Vec<Verdict>,
    pub environment: Option<Environment>,
    /// Device used for training.
    pub device: String,
    /// Caveats that a reader must know besides the figures.
    pub notes: Vec<String>,
    /// What the stages warned of.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
}

/// The original or a student.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FrontRow {
    /// A student's name, or [`super::ORIGINAL`].
    pub model: String,
    /// Share of right decisions on the split that was opened last.
    pub accuracy: f64,
    pub params: u64,
    /// Multiply-accumulates of one image; `null` for an original that cannot be imported.
    pub macs: Option<u64>,
    /// Bytes of the ONNX file.
    pub onnx_bytes: u64,
    /// Median milliseconds of one run, for each engine in which it was measured.
    pub latency_ms: BTreeMap<EngineName, f64>,
    /// Whether it is on the Pareto front: no other row is at least as good in everything and better in something. A
    /// latency counts if every row has it.
    pub on_front: bool,
}

/// Shares of correct decisions.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct SplitAccuracy {
    pub validation: f64,
    /// `null` without a test split.
    pub test: Option<f64>,
}

impl SplitAccuracy {
    /// The share on the split that was opened last.
    pub fn last(&self) -> f64 {
        self.test.unwrap_or(self.validation)
    }
}

/// The largest peer's cost divided by the student's.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Compression {
    pub params: f64,
    pub macs: f64,
    pub onnx_bytes: f64,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StudentRow {
    pub name: String,
    /// Validation accuracy after its own training, before the students trained together; `null` without `pretrain`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub alone: Option<f64>,
    pub accuracy: SplitAccuracy,
    pub params: u64,
    pub macs: u64,
    pub onnx_bytes: u64,
    pub chosen: bool,
    /// Its decisions compared with the original's, image by image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub against_original: Option<AgainstOriginal>,
}

/// The teacher's file beside the students.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct OriginalRow {
    pub accuracy: SplitAccuracy,
    pub params: u64,
    /// `null` if its file cannot be imported.
    pub macs: Option<u64>,
    pub onnx_bytes: u64,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct VerifyRow {
    pub passed: bool,
    pub verdict: String,
    pub truth: String,
    pub closest: Option<String>,
    pub engines: Vec<EngineRow>,
    pub findings: Vec<Finding>,
    /// Other sizes of image at which the file was checked.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sizes: Vec<SizeReport>,
    pub distances: Distances,
    /// The nodes at which failures begin.
    pub blame: Vec<Blame>,
}

/// One engine compared with the reference, on the inputs where it is farthest from the reference.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EngineRow {
    pub engine: EngineName,
    pub name: String,
    /// Number of nodes by execution provider and operator, for engines that have several providers.
    #[serde(default)]
    pub placement: Placement,
    pub passed: bool,
    pub max_abs_error: Option<f64>,
    /// Largest error as a share of the tolerance.
    pub tolerance_used: Option<f64>,
    /// Agreement of the top-1 class on images.
    pub top1_agreement: Option<f64>,
    /// Number of samples of the gating inputs, and how many of them cannot flip because their error is under
    /// half their margin.
    pub samples: usize,
    pub certified: usize,
    /// Number of decisions that changed, except for ties within the tolerance.
    pub flips: usize,
    /// Share of correct decisions on the split that was opened last.
    pub accuracy: Option<f64>,
    pub problems: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BenchRow {
    pub model: String,
    pub engine: EngineName,
    pub name: String,
    /// Images per run.
    pub batch: usize,
    /// Intra-op threads.
    pub threads: usize,
    pub mode: Mode,
    pub samples: usize,
    pub p50_ms: Option<f64>,
    pub p90_ms: Option<f64>,
    pub p95_ms: Option<f64>,
    pub p99_ms: Option<f64>,
    pub images_per_second: f64,
    pub stable: bool,
    /// How many times faster than the original, or than the largest peer where there is none, paired by rounds.
    pub speed_up: Option<Ratio>,
}
