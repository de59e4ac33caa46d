//! The names of what is measured: engines, timed regions, percentiles.

use serde::{Deserialize, Serialize};

/// An engine that runs a network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EngineName {
    Torch,
    OrtCpu,
    OrtCuda,
    Tract,
}

impl EngineName {
    pub const ALL: [Self; 4] = [Self::Torch, Self::OrtCpu, Self::OrtCuda, Self::Tract];

    /// Name in a pipeline and on the command line.
    pub fn key(self) -> &'static str {
        match self {
            EngineName::Torch => "torch",
            EngineName::OrtCpu => "ort-cpu",
            EngineName::OrtCuda => "ort-cuda",
            EngineName::Tract => "tract",
        }
    }
}

/// The timed region. Times of different modes must not be compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// The run up to its completion; input and output stay where the engine keeps them.
    Device,
    /// Copy in, run, copy out.
    Host,
    /// Decode, resize, normalise, copy in, run, copy out, arg-max.
    EndToEnd,
}

impl Mode {
    pub const ALL: [Self; 3] = [Self::Device, Self::Host, Self::EndToEnd];

    /// Name in a pipeline and on the command line.
    pub fn key(self) -> &'static str {
        match self {
            Mode::Device => "device",
            Mode::Host => "host",
            Mode::EndToEnd => "end-to-end",
        }
    }

    /// Description of the timed region.
    pub fn region(self) -> &'static str {
        match self {
            Mode::Device => "the run, with input and output bound beforehand",
            Mode::Host => "copy in, run, copy out",
            Mode::EndToEnd => "decode, resize, normalise, copy in, run, copy out, arg-max",
        }
    }
}

/// A percentile of a cell's samples.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Quantile {
    P50,
    P90,
    P95,
    P99,
    #[serde(rename = "p99.9")]
    P999,
}

impl Quantile {
    pub const ALL: [Self; 5] = [Self::P50, Self::P90, Self::P95, Self::P99, Self::P999];

    pub fn key(self) -> &'static str {
        match self {
            Quantile::P50 => "p50",
            Quantile::P90 => "p90",
            Quantile::P95 => "p95",
            Quantile::P99 => "p99",
            Quantile::P999 => "p99.9",
        }
    }

    /// The share of samples below it.
    pub fn share(self) -> f64 {
        match self {
            Quantile::P50 => 0.5,
            Quantile::P90 => 0.9,
            Quantile::P95 => 0.95,
            Quantile::P99 => 0.99,
            Quantile::P999 => 0.999,
        }
    }
}
