//! Optimisers on a student's flat buffer: a few operations per step.

use anyhow::{Context, Result, ensure};
use tch::Tensor;

use crate::config::{AdamW, Optimizer, Sgd};
use crate::torch::Network;

use super::schedule::Iteration;

/// Added to a gradient's norm before dividing by it, as in PyTorch's clipping.
const CLIP_EPSILON: f64 = 1e-6;

/// One student's optimiser and its state.
pub struct OptimizerState {
    settings: Optimizer,
    /// Averages of gradients, laid out like [`Network::flat`], by name.
    averages: Vec<(&'static str, Tensor)>,
    /// 1 where a parameter decays, 0 elsewhere; `None` if all decay.
    decays: Option<Tensor>,
}

impl OptimizerState {
    /// Starts with averages of zero, so that the first step is PyTorch's.
    ///
    /// # Errors
    /// If memory runs out.
    pub fn new(network: &Network, settings: &Optimizer) -> Result<Self> {
        let (names, decay_norms): (&[&'static str], bool) = match settings {
            Optimizer::Sgd(sgd) => (&["velocity"], sgd.decay_norms),
            Optimizer::AdamW(adam) => (&["mean", "square"], adam.decay_norms),
        };
        let mut averages = Vec::with_capacity(names.len());
        for name in names {
            averages.push((*name, network.flat().f_zeros_like()?));
        }
        let decays = if decay_norms { None } else { Some(network.mask_of_weights()?) };
        Ok(Self { settings: settings.clone(), averages, decays })
    }

    /// The averages, by name.
    pub fn averages(&self) -> &[(&'static str, Tensor)] {
        &self.averages
    }

    /// Restores an average.
    ///
    /// # Errors
    /// If there is none with that name and length.
    pub fn restore(&mut self, name: &str, values: &Tensor) -> Result<()> {
        let own = self.averages.iter_mut().find(|(own, _)| *own == name);
        let (_, own) = own.with_context(|| format!("the optimiser keeps no '{name}'"))?;
        ensure!(values.size() == own.size(), "'{name}' has another length");
        own.f_copy_(values)?;
        Ok(())
    }

    /// Updates the weights by [`Network::gradient`].
    ///
    /// # Errors
    /// If libtorch fails.
    pub fn step(&mut self, network: &Network, iteration: Iteration) -> Result<()> {
        let _no_grad = tch::no_grad_guard();
        let clip = match &self.settings {
            Optimizer::Sgd(sgd) => sgd.clip,
            Optimizer::AdamW(adam) => adam.clip,
        };
        let mut gradient = network.gradient().shallow_clone();
        if let Some(most) = clip {
            let length = gradient.f_norm()? + CLIP_EPSILON;
            gradient = gradient.f_mul(&(length.f_reciprocal()? * most).f_clamp_max(1.0)?)?;
        }
        match self.settings.clone() {
            Optimizer::Sgd(sgd) => self.sgd(network, gradient, &sgd, iteration.lr),
            Optimizer::AdamW(adam) => self.adam_w(network, &gradient, &adam, iteration),
        }
    }

    /// The weights, with zeros in place of those that do not decay.
    fn decaying(&self, weights: &Tensor) -> Result<Tensor> {
        Ok(match &self.decays {
            Some(mask) => weights.f_mul(mask)?,
            None => weights.shallow_clone(),
        })
    }

    /// `g += decay·w; v = momentum·v + g; w -= lr·v` (with Nesterov `w -= lr·(g + momentum·v)`).
    fn sgd(&mut self, network: &Network, mut gradient: Tensor, settings: &Sgd, lr: f64) -> Result<()> {
        let mut weights = network.flat().shallow_clone();
        if settings.weight_decay > 0.0 {
            gradient = gradient.f_add(&(self.decaying(&weights)? * settings.weight_decay))?;
        }
        let velocity = &mut self.averages[0].1;
        *velocity = velocity.f_mul_scalar_(settings.momentum)?.f_add_(&gradient)?;
        let update = match settings.nesterov {
            true => gradient + &*velocity * settings.momentum,
            false => velocity.shallow_clone(),
        };
        let _ = weights.f_sub_(&(update * lr))?;
        Ok(())
    }

    /// `w -= lr·decay·w; m, s` are running means of `g` and `g²`; `w -= lr·m̂ / (√ŝ + eps)`, where m̂ and ŝ
    /// are corrected for their start at zero.
    fn adam_w(
        &mut self,
        network: &Network,
        gradient: &Tensor,
        settings: &AdamW,
        iteration: Iteration,
    ) -> Result<()> {
        let mut weights = network.flat().shallow_clone();
        if settings.weight_decay > 0.0 {
            let decay = self.decaying(&weights)? * (iteration.lr * settings.weight_decay);
            let _ = weights.f_sub_(&decay)?;
        }
        let [beta_mean, beta_square] = settings.betas;
        let steps = i32::try_from(iteration.step).unwrap_or(i32::MAX);
        let squared = gradient * gradient;
        for ((_, average), (value, beta)) in
            self.averages.iter_mut().zip([(gradient, beta_mean), (&squared, beta_square)])
        {
            *average = average.f_mul_scalar_(beta)?.f_add_(&(value * (1.0 - beta)))?;
        }
        let (mean, square) = (&self.averages[0].1, &self.averages[1].1);
        let scale = square.f_sqrt()? / (1.0 - beta_square.powi(steps)).sqrt() + settings.eps;
        let update = mean.f_div(&scale)? * (iteration.lr / (1.0 - beta_mean.powi(steps)));
        let _ = weights.f_sub_(&update)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::{Builder, Graph, Model, Op, initial_weights};
    use ndarray::ArrayD;
    use serde::Deserialize;
    use tch::{Device, Kind};

    /// Results of PyTorch's own optimisers for these gradients, made by `scripts/reference-optimizers.py`.
    const REFERENCE: &str = include_str!("../../tests/reference/optimizers.json");

    #[derive(Deserialize)]
    struct Case {
        optimizer: Optimizer,
        /// Weight `[2, 3]`, then bias `[2]`.
        start: Vec<f32>,
        /// Learning rate, gradient and resulting parameters, step by step.
        steps: Vec<(f64, Vec<f32>, Vec<f64>)>,
    }

    #[test]
    fn every_step_is_pytorchs() {
        let (mut builder, image) = Builder::new(vec![3, 1, 1]).unwrap();
        let flat = builder.add("flat", Op::Flatten, &[image]).unwrap();
        let fc = builder.add("fc", Op::Linear { out_features: 2, bias: true }, &[flat]).unwrap();
        let graph = builder.finish(&[(Graph::LOGITS, fc), (Graph::EMBEDDING, flat)]);
        let cases: Vec<Case> = serde_json::from_str(REFERENCE).unwrap();
        assert!(cases.len() >= 8);
        for case in cases {
            let mut weights = initial_weights(&graph, 1);
            let shaped =
                |shape: &[usize], values: &[f32]| ArrayD::from_shape_vec(shape, values.to_vec()).unwrap();
            weights.insert("fc.weight", shaped(&[2, 3], &case.start[..6]));
            weights.insert("fc.bias", shaped(&[2], &case.start[6..]));
            let mut network =
                Network::new(&Model::new(graph.clone(), weights).unwrap(), Device::Cpu, Kind::Float).unwrap();
            let mut state = OptimizerState::new(&network, &case.optimizer).unwrap();
            for (index, (lr, gradient, expected)) in case.steps.iter().enumerate() {
                network.set_gradient("fc.weight", &Tensor::from_slice(&gradient[..6]).view([2, 3])).unwrap();
                network.set_gradient("fc.bias", &Tensor::from_slice(&gradient[6..])).unwrap();
                state.step(&network, Iteration { step: index + 1, lr: *lr }).unwrap();
                let now = network.weights().unwrap();
                let found = now.get("fc.weight").unwrap().iter().chain(now.get("fc.bias").unwrap());
                for (found, expected) in found.zip(expected) {
                    let error = (f64::from(*found) - expected).abs();
                    assert!(
                        error < 1e-6,
                        "{:?}, step {}: {found}, not {expected}",
                        case.optimizer,
                        index + 1
                    );
                }
            }
        }
    }
}
