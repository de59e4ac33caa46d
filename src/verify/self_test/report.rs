//! The report of a self-test.

use serde::{Deserialize, Serialize};

use super::faults::FaultKind;

/// Minimum share of the observable faults that must be caught.
const MIN_CAUGHT: f64 = 0.95;

/// How often the verifier failed where it should, and where it should not.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SelfTestReport {
    pub model: String,
    /// The engine that ran the copies with a fault.
    pub engine: String,
    pub faults: Vec<FaultReport>,
    /// Kinds of faults for which the model has no place.
    pub not_applicable: Vec<FaultKind>,
    /// Number of verifications of untouched copies.
    pub copies: usize,
    /// Failures of those verifications.
    pub alarms: Vec<String>,
}

/// One planted fault.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FaultReport {
    pub kind: FaultKind,
    /// The layer it was planted in.
    pub layer: String,
    /// How far it moves the output in float64, in units of the tolerance, on the first inputs where it is
    /// observable.
    pub moved: f64,
    pub outcome: Outcome,
    /// The layer that was blamed.
    pub blamed: Option<String>,
    /// Whether that is the right layer.
    pub blamed_rightly: bool,
    pub cause: Option<String>,
}

/// Whether a fault was caught.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    Caught,
    Missed,
    /// The output in float64 moves by less than the tolerance.
    NotObservable,
}

impl SelfTestReport {
    fn count(&self, counts: impl Fn(&FaultReport) -> bool) -> usize {
        self.faults.iter().filter(|fault| counts(fault)).count()
    }

    pub fn caught(&self) -> usize {
        self.count(|fault| fault.outcome == Outcome::Caught)
    }

    /// Faults that were caught or missed.
    pub fn observable(&self) -> usize {
        self.count(|fault| fault.outcome != Outcome::NotObservable)
    }

    pub fn blamed_rightly(&self) -> usize {
        self.count(|fault| fault.blamed_rightly)
    }

    /// Whether nearly all observable faults were caught and no untouched copy failed.
    pub fn passed(&self) -> bool {
        self.alarms.is_empty() && self.caught() as f64 >= MIN_CAUGHT * self.observable() as f64
    }
}
