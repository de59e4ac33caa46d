//! Stochastic gradient descent on a student's flat buffer: a handful of operations a step.

use anyhow::Result;
use tch::Tensor;

use crate::config::Sgd;
use crate::torch::Network;

/// One student's optimiser state.
pub struct SgdState {
    /// Momentum buffer, laid out like [`Network::flat`].
    velocity: Tensor,
    settings: Sgd,
}

impl SgdState {
    /// Starts with zero velocity, which makes PyTorch's first step (velocity = gradient) the same.
    ///
    /// # Errors
    /// If memory runs out.
    pub fn new(network: &Network, settings: &Sgd) -> Result<Self> {
        Ok(Self { velocity: network.flat().f_zeros_like()?, settings: settings.clone() })
    }

    /// The momentum buffer.
    pub fn velocity(&self) -> &Tensor {
        &self.velocity
    }

    /// Puts a momentum buffer back.
    ///
    /// # Errors
    /// If its length is another.
    pub fn restore(&mut self, velocity: &Tensor) -> Result<()> {
        anyhow::ensure!(velocity.size() == self.velocity.size(), "the momentum buffer has another length");
        self.velocity.f_copy_(velocity)?;
        Ok(())
    }

    /// One step: `g += decay·w; v = momentum·v + g; w -= lr·v` (with Nesterov `w -= lr·(g + momentum·v)`).
    ///
    /// # Errors
    /// If libtorch fails.
    pub fn step(&mut self, network: &Network, gradient: Tensor, lr: f64) -> Result<()> {
        let _no_grad = tch::no_grad_guard();
        let mut weights = network.flat().shallow_clone();
        let Sgd { momentum, nesterov, weight_decay, lr: _ } = self.settings;
        let mut gradient = gradient;
        if weight_decay > 0.0 {
            gradient = gradient.f_add_(&(&weights * weight_decay))?;
        }
        self.velocity = self.velocity.f_mul_scalar_(momentum)?.f_add_(&gradient)?;
        let update =
            if nesterov { gradient + &self.velocity * momentum } else { self.velocity.shallow_clone() };
        let _ = weights.f_sub_(&(update * lr))?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::{Builder, Graph, Op, initial_weights};
    use tch::{Device, Kind};

    /// Velocity and weight after two steps with gradient 0.5, then 0.25, by PyTorch's formulas.
    fn by_hand(settings: &Sgd) -> f64 {
        let (mut weight, mut velocity) = (1.0, 0.0);
        for gradient in [0.5, 0.25] {
            let gradient = gradient + settings.weight_decay * weight;
            velocity = settings.momentum * velocity + gradient;
            let update = if settings.nesterov { gradient + settings.momentum * velocity } else { velocity };
            weight -= 0.1 * update;
        }
        weight
    }

    #[test]
    fn two_steps_follow_the_formula() {
        let (mut builder, image) = Builder::new(vec![1, 1, 1]).unwrap();
        let flat = builder.add("flat", Op::Flatten, &[image]).unwrap();
        let fc = builder.add("fc", Op::Linear { out_features: 1, bias: false }, &[flat]).unwrap();
        let graph = builder.finish(&[(Graph::LOGITS, fc)]);
        for nesterov in [false, true] {
            let mut weights = initial_weights(&graph, 1);
            weights.insert("fc.weight", ndarray::ArrayD::from_elem(vec![1, 1], 1.0));
            let network = Network::new(&graph, &weights, Device::Cpu, Kind::Float).unwrap();
            let settings = Sgd { lr: 0.1, momentum: 0.9, nesterov, weight_decay: 0.01 };
            let mut state = SgdState::new(&network, &settings).unwrap();
            for gradient in [0.5f32, 0.25] {
                let gradient =
                    network.flatten_gradients(&[Tensor::from_slice(&[gradient]).view([1, 1])]).unwrap();
                state.step(&network, gradient, 0.1).unwrap();
            }
            let found = f64::from(network.weights().unwrap().get("fc.weight").unwrap()[[0, 0].as_slice()]);
            assert!((found - by_hand(&settings)).abs() < 1e-6, "nesterov {nesterov}: {found}");
        }
    }
}
