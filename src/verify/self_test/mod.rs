//! Negative controls: evidence that the verifier can fail.
//!
//! Faults of known kinds and fixed sizes are planted in copies of a network. Each copy is exported and
//! verified against the untouched network, and the report counts how many are caught and blamed on the right
//! node. Untouched copies must raise no alarm. Knows networks and engines; no pipeline.

mod faults;
mod report;
mod test;

pub use faults::FaultKind;
pub use report::{FaultReport, Outcome, SelfTestReport};
pub use test::{Specimen, self_test};
