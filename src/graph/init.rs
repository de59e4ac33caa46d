//! Initial weights from a seed: counter-based, so the same seed gives the same bits anywhere.

use ndarray::{ArrayD, IxDyn};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

use super::build::Graph;
use super::facts::Init;
use super::params::params;
use super::weights::Weights;

/// Initial values of every parameter and buffer of `graph`. Each parameter has a random stream of its own, so
/// that adding a layer does not change the initial values of other layers.
pub fn initial_weights(graph: &Graph, seed: u64) -> Weights {
    let mut weights = Weights::new();
    for (stream, spec) in params(graph).into_iter().enumerate() {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        rng.set_stream(stream as u64);
        let count = spec.shape.iter().product();
        let values = match spec.init {
            Init::KaimingFanOut { fan_out } => normals(&mut rng, count, (2.0 / fan_out as f64).sqrt()),
            Init::UniformFanIn { fan_in } => {
                let bound = 1.0 / (fan_in as f64).sqrt();
                (0..count).map(|_| ((2.0 * unit(&mut rng) - 1.0) * bound) as f32).collect()
            }
            Init::Zeros => vec![0.0; count],
            Init::Ones => vec![1.0; count],
        };
        let array = ArrayD::from_shape_vec(IxDyn(&spec.shape), values);
        weights.insert(spec.name, array.expect("as many values as the shape holds"));
    }
    weights
}

/// Uniform in `(0, 1)`, from 53 random bits.
fn unit(rng: &mut ChaCha8Rng) -> f64 {
    ((rng.next_u64() >> 11) as f64 + 0.5) / (1u64 << 53) as f64
}

/// Normal values by the Box–Muller transform.
fn normals(rng: &mut ChaCha8Rng, count: usize, deviation: f64) -> Vec<f32> {
    let mut values = Vec::with_capacity(count + 1);
    while values.len() < count {
        let radius = (-2.0 * unit(rng).ln()).sqrt() * deviation;
        let (sin, cos) = (std::f64::consts::TAU * unit(rng)).sin_cos();
        values.extend([(radius * cos) as f32, (radius * sin) as f32]);
    }
    values.truncate(count);
    values
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::{Builder, Conv2d, Op};

    #[test]
    fn kaiming_has_its_deviation_and_replays() {
        let (mut builder, image) = Builder::new(vec![16, 8, 8]).unwrap();
        let conv = builder.add("conv", Op::Conv2d(Conv2d::square(64, 3, 1)), &[image]).unwrap();
        let graph = builder.finish(&[("logits", conv)]);
        let weights = initial_weights(&graph, 7);
        let values = &weights.get("conv.weight").unwrap();
        let mean_square = values.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>() / values.len() as f64;
        let expected = 2.0 / (64.0 * 9.0);
        assert!((mean_square / expected - 1.0).abs() < 0.05, "{mean_square} against {expected}");
        assert_eq!(weights, initial_weights(&graph, 7));
        assert_ne!(weights, initial_weights(&graph, 8));
    }
}
