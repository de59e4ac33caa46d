//! Forward passes of a network in float64, compared node by node with other values of the same nodes.

use std::collections::HashMap;

use anyhow::{Context, Result};
use ndarray::{ArrayD, ArrayViewD, Axis};

use crate::engine::torch::Truth;

/// Values of nodes by index in the graph, `[samples, …]`.
pub type Values = HashMap<usize, ArrayD<f64>>;

/// Relative errors of a node, the maximum over all samples.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct NodeErrors {
    /// Error the node itself adds on inputs that both sides share.
    pub isolated: f64,
    /// Error accumulated up to and including the node.
    pub cumulative: f64,
}

/// The errors of every node for which another value is given.
///
/// # Errors
/// If libtorch fails.
pub fn errors(
    network: &Truth,
    images: ArrayViewD<'_, f32>,
    others: &Values,
) -> Result<HashMap<usize, NodeErrors>> {
    let mut found: HashMap<usize, NodeErrors> = HashMap::new();
    network.logits_through(images.view(), &mut |place, value| {
        if let Some(other) = others.get(&place) {
            found.entry(place).or_default().cumulative = distance(&value, other);
        }
        Ok(None)
    })?;
    network.logits_through(images, &mut |place, value| {
        let Some(other) = others.get(&place) else { return Ok(None) };
        found.entry(place).or_default().isolated = distance(&value, other);
        Ok(Some(other.clone()))
    })?;
    Ok(found)
}

/// The values of the `wanted` nodes when `others` replace the network's own values.
///
/// # Errors
/// If libtorch fails or there is no such node.
pub fn values(
    network: &Truth,
    images: ArrayViewD<'_, f32>,
    others: &Values,
    wanted: &[usize],
) -> Result<Vec<ArrayD<f64>>> {
    let mut kept = Values::new();
    network.logits_through(images, &mut |place, value| {
        let other = others.get(&place).cloned();
        if wanted.contains(&place) {
            kept.insert(place, other.clone().unwrap_or(value));
        }
        Ok(other)
    })?;
    wanted.iter().map(|place| kept.get(place).cloned().context("the network has the node")).collect()
}

/// `‖a − b‖ / max(‖a‖, ‖b‖)` of the sample where it is largest; infinite if the shapes differ or a value is
/// not finite, except for equal infinities.
pub fn distance(a: &ArrayD<f64>, b: &ArrayD<f64>) -> f64 {
    if a.shape() != b.shape() {
        return f64::INFINITY;
    }
    let samples = a.axis_iter(Axis(0)).zip(b.axis_iter(Axis(0)));
    let of_sample = |(a, b): (ArrayViewD<'_, f64>, ArrayViewD<'_, f64>)| {
        let (mut difference, mut one, mut other) = (0.0, 0.0, 0.0);
        // The padding of a max pooling is minus infinity on both sides.
        for (a, b) in a.iter().zip(&b).filter(|(a, b)| a.is_finite() || a != b) {
            difference += (a - b) * (a - b);
            one += a * a;
            other += b * b;
        }
        let length = f64::max(one, other).sqrt();
        match difference.sqrt() {
            error if !error.is_finite() || !length.is_finite() => f64::INFINITY,
            0.0 => 0.0,
            error => error / length,
        }
    };
    samples.map(of_sample).fold(0.0, f64::max)
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::array;

    #[test]
    fn the_worst_sample_counts() {
        let a = array![[3.0, 4.0], [0.0, 0.0]].into_dyn();
        assert!(
            (distance(&a, &array![[3.0, 4.5], [0.0, 0.0]].into_dyn()) - 0.5 / 5.408_326_913).abs() < 1e-9
        );
        assert_eq!(distance(&a, &array![[3.0, 4.0], [0.0, 1e-9]].into_dyn()), 1.0);
        assert_eq!(distance(&a, &array![[3.0, f64::NAN], [0.0, 0.0]].into_dyn()), f64::INFINITY);
        assert_eq!(distance(&a, &a), 0.0);
        let padded = array![[f64::NEG_INFINITY, 2.0]].into_dyn();
        assert_eq!(distance(&padded, &padded), 0.0);
        assert_eq!(distance(&padded, &array![[f64::INFINITY, 2.0]].into_dyn()), f64::INFINITY);
        assert_eq!(distance(&padded, &array![[0.0, 2.0]].into_dyn()), f64::INFINITY);
    }
}
