//! A model file: a family and its numbers, or a list of layers.

use serde::{Deserialize, Serialize};

/// A model file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "family", rename_all = "snake_case", deny_unknown_fields)]
pub enum ModelSpec {
    /// CIFAR ResNet of basic blocks (He et al. 2016), depth `6n + 2`.
    ResnetCifar { depth: usize },
}

/// One entry of a plain list of layers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum LayerSpec {
    Relu,
}
