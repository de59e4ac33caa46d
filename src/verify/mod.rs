//! Parity: does an exported file compute what its checkpoint does?
//!
//! Inputs are made, the truth and every engine run on them, and what they give is compared by fixed
//! tolerances. Knows engines and arrays; of files what `onnx` found in them; no pipeline.

mod accuracy;
mod adversarial;
mod blame;
mod case;
mod check;
mod compare;
mod distances;
mod examine;
mod inputs;
mod report;
mod self_test;
mod tolerance;
mod truth;

pub use accuracy::Accuracy;
pub use blame::{Evidence, blame};
pub use case::save_case;
pub use check::{Candidate, Verification, verify};
pub use compare::compare;
pub use distances::Distances;
pub use examine::{Adversary, Examination, Examined, examine};
pub use inputs::{InputSet, images_of, input_sets, noise_pool, pool_size};
pub use report::{
    AccuracyReport, Blame, EngineReport, Flip, NodeError, PairedAccuracy, PreprocessingReport, Restored,
    SetReport, VerifyReport, Worst,
};
pub use self_test::{FaultKind, FaultReport, Outcome, SelfTestReport, Subject, self_test};
pub use tolerance::Tolerance;
pub use truth::{ReferenceKind, Truths};
