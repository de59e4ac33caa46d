//! Parity: does an exported file compute what its checkpoint does?
//!
//! Inputs are made, the truth and every engine run on them, and what they give is compared by fixed
//! tolerances. Knows engines and arrays; knows no file format and no pipeline.

mod check;
mod compare;
mod inputs;
mod report;
mod tolerance;

pub use check::{Accuracy, Job, verify};
pub use compare::compare;
pub use inputs::{InputSet, input_sets};
pub use report::{AccuracyReport, EngineReport, Flip, SetReport, VerifyReport, Worst};
pub use tolerance::Tolerance;
