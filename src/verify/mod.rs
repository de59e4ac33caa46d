//! Parity: whether an exported file computes what its checkpoint computes.
//!
//! Inputs are made, the reference and every engine run on them, and the results are compared with fixed
//! tolerances. Knows engines and arrays, and the findings that `onnx` has on a file; no pipeline.

mod adversarial;
mod blame;
mod case;
mod check;
mod compare;
mod configured;
mod distances;
mod effort;
mod examine;
mod inputs;
mod report;
mod rounding;
mod scoring;
mod self_test;
mod tolerance;
mod truth;

pub use blame::{Evidence, blame};
pub use case::save_case;
pub use check::{Verification, verify};
pub use compare::compare;
pub use configured::ConfiguredEngine;
pub use distances::Distances;
pub use effort::{Amount, Effort};
pub use examine::{Adversary, Examination, Examined, examine};
pub use inputs::{InputSet, images_of, input_sets, noise_pool, pool_size};
pub use report::{
    Blame, EngineReport, Flip, NodeError, PairedScore, PreprocessingReport, Restored, Rounded, ScoreReport,
    SetReport, SizeReport, VerifyReport, Worst,
};
pub use rounding::{Evaluations, evaluations};
pub use scoring::Scoring;
pub use self_test::{FaultKind, FaultReport, Outcome, SelfTestReport, Specimen, self_test};
pub use tolerance::Tolerance;
pub use truth::{ReferenceKind, Truths};
