//! The complete record of a measurement.

use serde::{Deserialize, Serialize};

use crate::config::Bench;

use super::budgets::Verdict;
use super::cell::{CellId, CellResult, SpeedUp, Sweep};
use super::compare::{Comparison, Side};
use super::conditions::Conditions;
use super::environment::Environment;
use super::fresh::Fresh;
use super::profile::Profile;
use super::server::{Search, Trial};
use super::subject::ModelFacts;

/// Version of this record; records of other versions are not read.
pub const SCHEMA: u32 = 2;

/// Everything that was measured.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BenchReport {
    pub schema: u32,
    pub environment: Environment,
    pub conditions: Conditions,
    pub settings: Bench,
    pub models: Vec<ModelFacts>,
    /// Cells of the single-stream scenario.
    pub cells: Vec<CellResult>,
    pub speed_ups: Vec<SpeedUp>,
    pub sweeps: Vec<Sweep>,
    pub offline: Vec<Offline>,
    pub server: Vec<Served>,
    pub profiles: Vec<ModelProfile>,
    pub fresh: Vec<Fresh>,
    pub budgets: Vec<Verdict>,
    pub comparison: Option<Comparison>,
    /// Caveats that a reader must know besides the figures.
    pub warnings: Vec<String>,
}

impl BenchReport {
    /// The part that a comparison uses.
    pub fn side(&self) -> Side<'_> {
        let (environment, cuda) = (&self.environment, self.settings.cuda);
        Side { models: self.models.len(), environment, cuda, cells: &self.cells }
    }

    /// Reads the record of a measurement.
    ///
    /// # Errors
    /// A message that says what is wrong, if the text is not a record or has another schema.
    pub fn from_json(bytes: &[u8]) -> Result<Self, String> {
        let document: serde_json::Value = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
        if document.get("schema").and_then(serde_json::Value::as_u64) != Some(SCHEMA.into()) {
            return Err(format!("its schema is not {SCHEMA}, which this version reads"));
        }
        serde_json::from_value(document).map_err(|error| error.to_string())
    }
}

/// Throughput with all samples available at once ("offline-like"), at the batch size that gives the most.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Offline {
    /// The cell, with the best batch size.
    pub cell: CellId,
    /// Samples of the model per second.
    pub images_per_second: f64,
    /// 95 % bootstrap interval of the throughput, resampled by turns.
    pub interval: Option<[f64; 2]>,
    pub samples: usize,
    pub seconds: f64,
    /// Batch size and samples per second, from short measurements.
    pub sweep: Vec<(usize, f64)>,
}

/// A model's time, node by node.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ModelProfile {
    pub model: String,
    pub profile: Profile,
}

/// Latency of queries that arrive at random times ("server-like").
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Served {
    /// The cell; a query is one run of it.
    pub cell: CellId,
    /// Trials at the given rates.
    pub rates: Vec<Trial>,
    /// The search for the highest rate.
    pub search: Option<Search>,
}
