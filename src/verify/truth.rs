//! The truth that engines are compared with: logits in float64, and where they come from.

use anyhow::{Context, Result};
use ndarray::{Array2, ArrayD, ArrayViewD, Axis, Slice};
use serde::{Deserialize, Serialize};

use super::inputs::{InputSet, padded};

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
    /// If the network fails.
    pub fn of(
        name: &str,
        kind: ReferenceKind,
        inputs: &[InputSet],
        fixed_batch: Option<usize>,
        network: &mut dyn FnMut(ArrayViewD<'_, f32>) -> Result<ArrayD<f64>>,
    ) -> Result<Self> {
        let mut logits = Vec::with_capacity(inputs.len());
        for set in inputs {
            let mut rows = Vec::new();
            for images in set.images.axis_chunks_iter(Axis(0), fixed_batch.unwrap_or(BATCH)) {
                let found = match fixed_batch {
                    Some(size) => {
                        let all = network(padded(images.view(), size).view())?;
                        all.slice_axis(Axis(0), Slice::from(..images.shape()[0])).to_owned()
                    }
                    None => network(images)?,
                };
                rows.push(found);
            }
            let views: Vec<ArrayViewD<'_, f64>> = rows.iter().map(|rows| rows.view()).collect();
            let all = ndarray::concatenate(Axis(0), &views)?.into_dimensionality();
            logits
                .push(all.with_context(|| format!("the truth's logits on '{}' are not a matrix", set.name))?);
        }
        Ok(Self { name: name.to_string(), kind, logits })
    }
}
