//! How far an engine may be from the truth.

use serde::{Deserialize, Serialize};

use crate::config::EngineName;
use crate::engine::EngineOptions;

/// Limits for one engine. A logit may differ by `atol · s + rtol · |truth|`, with `s` the root mean
/// square of that sample's true logits.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Tolerance {
    pub atol: f64,
    pub rtol: f64,
    /// Share of samples whose top-1 class must agree; ties are excused.
    pub top1: f64,
    /// Samples by which the number of right answers may differ.
    pub accuracy_samples: f64,
    /// The same as a share of the split; the larger of both holds.
    pub accuracy_share: f64,
}

impl Tolerance {
    /// The limits of an engine in float32, or with products in TF32.
    pub fn of(engine: EngineName, options: &EngineOptions) -> Self {
        let exact = |atol, rtol, accuracy_samples| Self {
            atol,
            rtol,
            top1: 1.0,
            accuracy_samples,
            accuracy_share: 0.0,
        };
        match engine {
            EngineName::Torch | EngineName::OrtCpu => exact(1e-5, 1e-4, 0.0),
            EngineName::Tract => exact(1e-4, 5e-4, 1.0),
            EngineName::OrtCuda if options.tf32 => {
                Self { atol: 5e-3, rtol: 1e-2, top1: 0.995, accuracy_samples: 0.0, accuracy_share: 1e-3 }
            }
            EngineName::OrtCuda => {
                Self { atol: 1e-4, rtol: 1e-3, top1: 0.999, accuracy_samples: 0.0, accuracy_share: 5e-4 }
            }
        }
    }

    /// What a logit may differ by where the truth is `truth` and the sample's scale `scale`.
    pub fn allowed(&self, truth: f64, scale: f64) -> f64 {
        self.atol * scale + self.rtol * truth.abs()
    }
}
