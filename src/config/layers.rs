//! A model file written as a plain list of layers.
//!
//! Each entry is a word (`relu`) or a map with one key (`conv: {out: 16}`). The list must end with `linear:
//! {out: classes}`; no layer is added implicitly. The input of the last layer is the network's embedding.

use std::fmt;

use serde::de::{Error, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// One layer of a list.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum LayerSpec {
    Conv(ConvSpec),
    /// Per channel, with eps 1e-5 and momentum 0.1.
    BatchNorm,
    Relu,
    Relu6,
    MaxPool(PoolSpec),
    /// Zero padding is included in the average.
    AvgPool(PoolSpec),
    GlobalAvgPool,
    Flatten,
    Linear(LinearSpec),
    ChannelShuffle(ShuffleSpec),
    Residual(ResidualSpec),
}

/// A square convolution.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ConvSpec {
    /// Output channels.
    pub out: usize,
    #[serde(default = "three")]
    pub kernel: usize,
    #[serde(default = "one")]
    pub stride: usize,
    /// Zero padding on every side; half of the kernel (rounded down) if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub padding: Option<usize>,
    #[serde(default = "one")]
    pub dilation: usize,
    /// Number of groups; as many as input channels make a depthwise convolution.
    #[serde(default = "one")]
    pub groups: usize,
    /// Off by default, since a following `batch_norm` has a bias.
    #[serde(default)]
    pub bias: bool,
}

/// A square pooling window.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PoolSpec {
    #[serde(default = "two")]
    pub kernel: usize,
    /// The size of the kernel if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stride: Option<usize>,
    #[serde(default)]
    pub padding: usize,
    /// Rounds the output size up.
    #[serde(default)]
    pub ceil: bool,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LinearSpec {
    /// Output features, or the word `classes`.
    pub out: Features,
    #[serde(default = "yes")]
    pub bias: bool,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ShuffleSpec {
    pub groups: usize,
}

/// The sum of two branches with the same input.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ResidualSpec {
    pub body: Vec<LayerSpec>,
    /// The other branch; if empty, the input itself.
    #[serde(default)]
    pub shortcut: Vec<LayerSpec>,
}

/// A number of features, or the number of classes in the data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Features {
    Count(usize),
    Classes,
}

impl Serialize for Features {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Features::Count(count) => serializer.serialize_u64(*count as u64),
            Features::Classes => serializer.serialize_str("classes"),
        }
    }
}

impl<'de> Deserialize<'de> for Features {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct FeaturesVisitor;
        impl Visitor<'_> for FeaturesVisitor {
            type Value = Features;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number of features or `classes`")
            }

            fn visit_u64<E: Error>(self, count: u64) -> Result<Features, E> {
                usize::try_from(count).map(Features::Count).map_err(E::custom)
            }

            fn visit_str<E: Error>(self, word: &str) -> Result<Features, E> {
                match word {
                    "classes" => Ok(Features::Classes),
                    other => Err(E::invalid_value(serde::de::Unexpected::Str(other), &self)),
                }
            }
        }
        deserializer.deserialize_any(FeaturesVisitor)
    }
}

fn one() -> usize {
    1
}

fn two() -> usize {
    2
}

fn three() -> usize {
    3
}

fn yes() -> bool {
    true
}
