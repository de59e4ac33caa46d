//! How far an engine may be from the reference.

use serde::{Deserialize, Serialize};

use crate::config::EngineName;
use crate::contract::Precision;
use crate::engine::EngineOptions;

/// Limits for one engine. A logit may differ by `atol · s + rtol · |truth|`, where `s` is the root mean square of
/// that sample's reference logits.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Tolerance {
    pub atol: f64,
    pub rtol: f64,
    /// Share of samples whose top-1 class must agree.
    pub top1: f64,
    /// Whether a changed decision is excused where the reference's margin is under twice the tolerance.
    #[serde(default = "excused")]
    pub ties_excused: bool,
    /// Samples by which the number of right decisions may differ.
    #[serde(rename = "accuracy_samples")]
    pub score_samples: f64,
    /// The same as a share of the split; the larger of the two applies.
    #[serde(rename = "accuracy_share")]
    pub score_share: f64,
}

impl Tolerance {
    /// The limits of an engine for a file of a precision. libtorch runs a graph in float32, whatever the file
    /// computes in, so it keeps its own limits.
    pub fn of(engine: EngineName, options: &EngineOptions, precision: Precision) -> Self {
        match (engine, precision) {
            (EngineName::Torch, _) | (_, Precision::Float32) => Self::single(engine, options),
            (EngineName::OrtCpu | EngineName::OrtCuda | EngineName::Tract, Precision::Float16) => {
                Self::half()
            }
            (EngineName::OrtCpu | EngineName::OrtCuda | EngineName::Tract, Precision::Int8) => {
                Self::quantised()
            }
        }
    }

    /// The limits of an engine in float32, or with products in TF32.
    fn single(engine: EngineName, options: &EngineOptions) -> Self {
        let exact = |atol, rtol, score_samples| Self {
            atol,
            rtol,
            top1: 1.0,
            ties_excused: true,
            score_samples,
            score_share: 0.0,
        };
        match engine {
            EngineName::Torch | EngineName::OrtCpu => exact(1e-5, 1e-4, 0.0),
            EngineName::Tract => exact(1e-4, 5e-4, 1.0),
            EngineName::OrtCuda if options.cuda.tf32 => {
                Self { top1: 0.995, score_share: 1e-3, ..exact(5e-3, 1e-2, 0.0) }
            }
            EngineName::OrtCuda => Self { top1: 0.999, score_share: 5e-4, ..exact(1e-4, 1e-3, 0.0) },
        }
    }

    /// The limits of any engine that runs a file in half precision.
    pub fn half() -> Self {
        Self {
            atol: 5e-3,
            rtol: 1e-2,
            top1: 0.995,
            ties_excused: false,
            score_samples: 0.0,
            score_share: 2e-3,
        }
    }

    /// The limits of any engine that runs a quantised file. Its values in float64 are exact up to the rounding of each
    /// quantisation, where a value next to a border may fall to either side: one step of one of many values.
    pub fn quantised() -> Self {
        Self { atol: 2e-2, rtol: 2e-2, top1: 0.95, ties_excused: true, score_samples: 1.0, score_share: 5e-3 }
    }

    /// The limits of a quantised file against the one that it was made from: its numbers are not those of the other, but
    /// of its decisions at least the share `top1` should be.
    pub fn decisions(top1: f64) -> Self {
        Self { atol: 1e6, rtol: 1e6, top1, ties_excused: false, score_samples: 0.0, score_share: 1e-2 }
    }

    /// Whether two numbers of right decisions on the same images may differ by so many. Reported shares are rounded, so
    /// half a sample does not count as a difference.
    pub fn excuses(&self, difference: f64, images: usize) -> bool {
        difference <= self.score_samples.max(self.score_share * images as f64) + 0.5
    }

    /// How much a logit may differ where the reference is `truth` and the sample's scale is `scale`.
    pub fn allowed(&self, truth: f64, scale: f64) -> f64 {
        self.atol * scale + self.rtol * truth.abs()
    }
}

/// Reports of earlier versions excused ties everywhere.
fn excused() -> bool {
    true
}
