//! One row of scores per image, from an engine whose file may fix its batch.

use anyhow::{Context, Result, anyhow};
use ndarray::{Array2, ArrayD, ArrayViewD, Axis, Slice};

use crate::contract::rows;

use super::Engine;

/// The scores that an engine gives as output number `answer` for images, one row per image. With a fixed batch there are at most
/// as many images; zeros fill it up.
///
/// # Errors
/// If the engine fails, or if its output is not a row of scores per image.
pub fn scores(
    engine: &mut dyn Engine,
    images: ArrayViewD<'_, f32>,
    fixed_batch: Option<usize>,
    answer: usize,
) -> Result<Array2<f32>> {
    let keep = images.shape()[0];
    let outputs = match fixed_batch {
        Some(size) => engine.run(padded(images, size).view())?,
        None => engine.run(images)?,
    };
    let scores = outputs.into_iter().nth(answer).context("the engine gives no output")?;
    let scores = rows(scores, fixed_batch.unwrap_or(keep)).map_err(|problem| anyhow!(problem))?;
    Ok(scores.slice_axis(Axis(0), Slice::from(..keep)).to_owned())
}

/// A batch filled up to `size` with zeros.
pub fn padded(images: ArrayViewD<'_, f32>, size: usize) -> ArrayD<f32> {
    let mut shape = images.shape().to_vec();
    let filled = shape[0];
    shape[0] = size;
    let mut all = ArrayD::zeros(shape);
    all.slice_axis_mut(Axis(0), Slice::from(..filled)).assign(&images);
    all
}
