//! Batch normalisation with the batch's own statistics, forward and backward: by our kernels where they are
//! suitable, by libtorch elsewhere.

use anyhow::{Context, Result, bail};
use tch::Tensor;

use crate::kernels::{self, Affine, Moments};

use super::images::{channels_last, empty_like, filled_like, floats, floats_mut, suits};
use super::shim;

/// A normalisation's parameters: weight, bias, running mean, running variance.
pub(super) struct Norm<'a> {
    pub params: &'a [Tensor],
    pub eps: f64,
    pub momentum: f64,
}

/// What the backward pass needs.
pub(super) enum Statistics {
    /// Mean and inverse standard deviation, per channel.
    Ours {
        mean: Vec<f32>,
        inverse: Vec<f32>,
    },
    Torch([Tensor; 2]),
}

/// The result of a normalisation's forward pass.
pub(super) struct Normalised {
    pub y: Tensor,
    pub statistics: Statistics,
    /// `None` where libtorch has updated the running statistics itself.
    pub running: Option<Running>,
}

/// Running statistics after a batch, per channel.
pub(super) struct Running {
    mean: Vec<f32>,
    variance: Vec<f32>,
}

impl Running {
    /// Replaces the old running statistics among a normalisation's parameters.
    ///
    /// # Errors
    /// If these are not the parameters of a normalisation.
    pub fn store(&self, params: &mut [Tensor]) -> Result<()> {
        let [_, _, mean, variance] = params else { bail!("a normalisation has four parameters") };
        for (target, values) in [(mean, &self.mean), (variance, &self.variance)] {
            // SAFETY: until the copy is done nothing else runs.
            unsafe { floats_mut(target) }.copy_from_slice(values);
        }
        Ok(())
    }
}

/// Gradients of a normalisation: of its input, and of the shortcut that was added.
pub(super) struct Gradients {
    pub input: Tensor,
    pub shortcut: Option<Tensor>,
}

impl Norm<'_> {
    /// `relu?(norm(x) + shortcut?)`, and the new running statistics. `moments` are those of `x` minus the
    /// running mean, if they are known.
    ///
    /// # Errors
    /// If libtorch fails.
    pub fn forward(
        &self,
        x: &Tensor,
        shortcut: Option<&Tensor>,
        relu: bool,
        moments: Option<Moments>,
    ) -> Result<Normalised> {
        if !suits(x) {
            return self.forward_in_torch(x, shortcut, relu);
        }
        let x = channels_last(x)?;
        let shortcut = shortcut.map(channels_last).transpose()?;
        // SAFETY: until this returns, only kernels run, which write to the new tensor alone, and libtorch makes that.
        let read = |tensor| unsafe { floats(tensor) };
        let [weight, bias, shift, old_variance] = [0, 1, 2, 3].map(|index| read(&self.params[index]));
        let moments = moments.unwrap_or_else(|| kernels::moments(read(&x), shift));
        let rows = (x.numel() / shift.len()) as f64;
        let blend =
            |old: f32, new: f64| ((1.0 - self.momentum) * f64::from(old) + self.momentum * new) as f32;
        let mut mean = Vec::with_capacity(shift.len());
        let mut inverse = Vec::with_capacity(shift.len());
        let mut running = Running { mean: Vec::new(), variance: Vec::new() };
        let (mut scale, mut offset) = (Vec::new(), Vec::new());
        for (channel, &shift) in shift.iter().enumerate() {
            let centred = moments.sums[channel] / rows;
            let centre = f64::from(shift) + centred;
            let variance = (moments.products[channel] / rows - centred * centred).max(0.0);
            let over_deviation = 1.0 / (variance + self.eps).sqrt();
            let unbiased = variance * rows / (rows - 1.0).max(1.0);
            running.mean.push(blend(shift, centre));
            running.variance.push(blend(old_variance[channel], unbiased));
            mean.push(centre as f32);
            inverse.push(over_deviation as f32);
            scale.push((f64::from(weight[channel]) * over_deviation) as f32);
            offset.push(
                (f64::from(bias[channel]) - centre * f64::from(weight[channel]) * over_deviation) as f32,
            );
        }
        let map = Affine { scale: &scale, offset: &offset, residual: shortcut.as_ref().map(read), relu };
        let (y, ()) = filled_like(&x, shift.len() as i64, |y| kernels::apply(read(&x), map, y))?;
        Ok(Normalised { y, statistics: Statistics::Ours { mean, inverse }, running: Some(running) })
    }

    fn forward_in_torch(&self, x: &Tensor, shortcut: Option<&Tensor>, relu: bool) -> Result<Normalised> {
        let [weight, bias, mean, variance] = [0, 1, 2, 3].map(|index| Some(&self.params[index]));
        let (mut y, mean, inverse) =
            x.f_native_batch_norm(weight, bias, mean, variance, true, self.momentum, self.eps)?;
        if let Some(shortcut) = shortcut {
            y = y.f_add_(shortcut)?;
        }
        if relu {
            y = y.f_relu_()?;
        }
        Ok(Normalised { y, statistics: Statistics::Torch([mean, inverse]), running: None })
    }

    /// The backward pass from `dy`, the gradient of `y`; the gradients of weight and bias are copied to
    /// `own`.
    ///
    /// # Errors
    /// If libtorch fails.
    pub fn backward(
        &self,
        dy: &Tensor,
        x: &Tensor,
        relu_of: Option<&Tensor>,
        has_shortcut: bool,
        statistics: &Statistics,
        own: &mut [Tensor],
    ) -> Result<Gradients> {
        match statistics {
            Statistics::Ours { mean, inverse } => {
                self.backward_ours(dy, x, relu_of, has_shortcut, [mean, inverse], own)
            }
            Statistics::Torch([mean, inverse]) => {
                let gradient = match relu_of {
                    Some(y) => y.f_threshold_backward(dy, 0.0)?,
                    None => dy.shallow_clone(),
                };
                let [input, weight, bias] =
                    shim::batch_norm_backward(&gradient, x, &self.params[0], [mean, inverse], self.eps)?;
                own[0].f_copy_(&weight.context("a gradient of the weight")?)?;
                own[1].f_copy_(&bias.context("a gradient of the bias")?)?;
                let input = input.context("a gradient of the input")?;
                Ok(Gradients { input, shortcut: has_shortcut.then_some(gradient) })
            }
        }
    }

    fn backward_ours(
        &self,
        dy: &Tensor,
        x: &Tensor,
        relu_of: Option<&Tensor>,
        has_shortcut: bool,
        [mean, inverse]: [&[f32]; 2],
        own: &mut [Tensor],
    ) -> Result<Gradients> {
        let [of_weight, of_bias] = own else { bail!("a normalisation has two gradients") };
        let (dy, x) = (channels_last(dy)?, channels_last(x)?);
        // SAFETY: until this returns, only kernels and the loop below run, which write to `own` and to new tensors, and
        // libtorch makes those. Neither shares storage with what is read.
        let read = |tensor| unsafe { floats(tensor) };
        let output = relu_of.map(read);
        let channels = mean.len();
        let mut masked = match (has_shortcut, relu_of) {
            (true, Some(_)) => Some(empty_like(&dy, channels as i64)?),
            (true, None) | (false, _) => None,
        };
        // SAFETY: the tensor is new, and is read only when this slice is gone.
        let target = masked.as_mut().map(|masked| unsafe { floats_mut(masked) });
        let sums = kernels::gradient_moments(read(&dy), read(&x), mean, output, target);
        let rows = (x.numel() / channels) as f64;
        let weight = read(&self.params[0]);
        // SAFETY: two parameters' places in the flat gradient, which do not overlap; nothing here reads it.
        let [of_weight, of_bias] = [of_weight, of_bias].map(|place| unsafe { floats_mut(place) });
        let (mut scale, mut slope, mut offset) = (Vec::new(), Vec::new(), Vec::new());
        for channel in 0..channels {
            let (mean, inverse) = (f64::from(mean[channel]), f64::from(inverse[channel]));
            let (sum, product) = (sums.sums[channel], sums.products[channel]);
            of_weight[channel] = (product * inverse) as f32;
            of_bias[channel] = sum as f32;
            let factor = f64::from(weight[channel]) * inverse;
            let by_x = -factor * inverse * inverse * product / rows;
            scale.push(factor as f32);
            slope.push(by_x as f32);
            offset.push((-factor * sum / rows - by_x * mean) as f32);
        }
        // A gradient that is already masked needs no mask.
        let (gradient, output) = match &masked {
            Some(masked) => (masked, None),
            None => (&dy, output),
        };
        let maps = [&scale[..], &slope, &offset];
        let fill = |dx: &mut [f32]| kernels::input_gradient(read(gradient), read(&x), output, maps, dx);
        let (dx, ()) = filled_like(&x, channels as i64, fill)?;
        let shortcut = has_shortcut.then(|| masked.unwrap_or(dy));
        Ok(Gradients { input: dx, shortcut })
    }
}
