//! The truth that engines are compared with: logits in float64, and where they come from.

use anyhow::{Result, anyhow};
use ndarray::{Array2, ArrayD, ArrayView2, ArrayViewD, Axis, Slice};
use serde::{Deserialize, Serialize};

use crate::contract::rows;
use crate::engine::padded;

use super::inputs::InputSet;

/// Samples per forward pass of the truth. Convolutions in float64 unfold a whole batch, so peak memory grows
/// with the batch while the time hardly falls.
const BATCH: usize = 8;

/// Where the truth comes from, and therefore what a pass shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ReferenceKind {
    /// The checkpoint, evaluated through its training graph.
    Checkpoint,
    /// The verified file itself, evaluated without any runtime.
    File,
    /// Another file given as the reference.
    Reference,
    /// A file in floats given as the reference for a quantised one, with which only its decisions can agree.
    Unquantized,
    /// Outputs that were recorded elsewhere.
    Recorded,
    /// One of the engines, so that a pass shows agreement only.
    Engine,
}

impl ReferenceKind {
    /// What a pass shows.
    pub fn verdict(self) -> &'static str {
        match self {
            ReferenceKind::Checkpoint => "export correct",
            ReferenceKind::File => "engines compute what the file says",
            ReferenceKind::Reference => "files agree",
            ReferenceKind::Unquantized => "decisions compared with the file in floats",
            ReferenceKind::Recorded => "recorded outputs met",
            ReferenceKind::Engine => "engines agree",
        }
    }
}

/// True logits for every set of inputs.
#[derive(Debug, Clone, PartialEq)]
pub struct Truths {
    pub name: String,
    pub kind: ReferenceKind,
    /// One array of `[samples, classes]` per set.
    pub logits: Vec<Array2<f64>>,
}

impl Truths {
    /// Computes them with a network, `BATCH` samples at a time, or in batches of the fixed size if it takes
    /// only one.
    ///
    /// # Errors
    /// If the network fails, or does not give one row of scores per image.
    pub fn of(
        name: &str,
        kind: ReferenceKind,
        inputs: &[InputSet],
        fixed_batch: Option<usize>,
        network: &mut dyn FnMut(ArrayViewD<'_, f32>) -> Result<ArrayD<f64>>,
    ) -> Result<Self> {
        let mut logits = Vec::with_capacity(inputs.len());
        for set in inputs {
            let mut scores = Vec::new();
            for images in set.images.axis_chunks_iter(Axis(0), fixed_batch.unwrap_or(BATCH)) {
                let keep = images.shape()[0];
                let found = match fixed_batch {
                    Some(size) => network(padded(images, size).view())?,
                    None => network(images)?,
                };
                let found = rows(found, fixed_batch.unwrap_or(keep))
                    .map_err(|problem| anyhow!("the reference gives {problem}"))?;
                scores.push(found.slice_axis(Axis(0), Slice::from(..keep)).to_owned());
            }
            let views: Vec<ArrayView2<'_, f64>> = scores.iter().map(|scores| scores.view()).collect();
            logits.push(ndarray::concatenate(Axis(0), &views)?);
        }
        Ok(Self { name: name.to_string(), kind, logits })
    }
}
