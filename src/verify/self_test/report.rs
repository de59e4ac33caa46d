//! What a self-test found.

use serde::{Deserialize, Serialize};

use super::faults::FaultKind;

/// Share of the observable faults that must be caught.
const MIN_CAUGHT: f64 = 0.95;

/// How often the verifier failed where it should, and where it should not.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SelfTestReport {
    pub model: String,
    /// The engine that ran the copies with a fault.
    pub engine: String,
    pub faults: Vec<FaultReport>,
    /// Kinds that the model has no place for.
    pub not_applicable: Vec<FaultKind>,
    /// Untouched copies that were verified.
    pub copies: usize,
    /// What failed on them.
    pub alarms: Vec<String>,
}

/// One planted fault.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FaultReport {
    pub kind: FaultKind,
    /// The layer it was planted in.
    pub layer: String,
    /// By how much it moves the output in float64, in tolerances, on the first inputs where that can be seen.
    pub moved: f64,
    pub outcome: Outcome,
    /// The layer that was blamed.
    pub blamed: Option<String>,
    /// Whether that is the right one.
    pub blamed_rightly: bool,
    pub cause: Option<String>,
}

/// What came of a fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    Caught,
    Missed,
    /// It moves the output in float64 by less than the tolerance.
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

    /// Whether nearly all that can be seen was, and nothing else.
    pub fn passed(&self) -> bool {
        self.alarms.is_empty() && self.caught() as f64 >= MIN_CAUGHT * self.observable() as f64
    }
}
