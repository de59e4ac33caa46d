//! 3×3 convolutions with a quarter of the multiplications: Winograd's minimal filtering F(4×4, 3×3)
//! (Lavin & Gray 2016, arXiv 1509.09308), for stride 1 and padding 1.
//!
//! The image is divided into tiles of 4×4 outputs. The outputs of a tile with the 6×6 inputs `d` are
//! `Aᵀ[(G w Gᵀ) ⊙ (Bᵀ d B)]A`: products of 36 small matrices, one per position of the transformed
//! tile. The gradient of the input is the same with the filter rotated by 180°; the gradient of the
//! filter is `Gᵀ[Σ (Bᵀ d B) ⊙ (A dy Aᵀ)]G`. The results differ from a direct sum by a few tens of units in the
//! last place.

use std::sync::{Mutex, PoisonError};

use super::blocks::{AddFilterGradient, Epilogue, Outputs, TotalFilterGradient, TransformFilter, scratch};
use super::memory::{Lines, with_scratch};
use super::norm::Moments;
use super::pool::{Shared, parallel, parts, share};
use super::sizes::Convolution;
use super::tiles::PLACES;
use super::vector::Registers;

impl Convolution {
    /// `y = epilogue(x * w)`. `x` is `[batch, height, width, inputs]`, `weights` `[outputs, 3, 3,
    /// inputs]`, `y` `[batch, height, width, outputs]`. The moments are zero unless the epilogue asks for them.
    pub fn forward(&self, x: &[f32], weights: &[f32], epilogue: Epilogue<'_>, y: &mut [f32]) -> Moments {
        let filter = transposed(&self.transformed_filter(weights, false), self);
        self.run(x, &filter, epilogue, y)
    }

    /// The gradient of the input, `dx`, from that of the output, plus `other`, the gradient from other branches
    /// of the backward pass.
    pub fn input_gradient(&self, dy: &[f32], weights: &[f32], other: Option<&[f32]>, dx: &mut [f32]) {
        let turned = Self { inputs: self.outputs, outputs: self.inputs, ..*self };
        let filter = self.transformed_filter(weights, true);
        turned.run(dy, &filter, Epilogue { residual: other, ..Epilogue::default() }, dx);
    }

    /// The gradient of the weights, `[outputs, 3, 3, inputs]`.
    pub fn weight_gradient(&self, x: &[f32], dy: &[f32], dw: &mut [f32]) {
        let registers = self.registers();
        assert_eq!(x.len(), self.pixels() * self.inputs);
        assert_eq!(dy.len(), self.pixels() * self.outputs);
        assert_eq!(dw.len(), 9 * self.inputs * self.outputs);
        let size = PLACES * self.inputs * self.outputs;
        let parts = parts().min(self.tiles()).max(1);
        let mut sums = Lines::zeroed(parts * size);
        let shared = Shared::new(sums.floats());
        parallel(parts, &|part| {
            let tiles = share(self.tiles(), part, parts);
            let sums = shared.at(part * size);
            with_scratch(scratch(self), |scratch| {
                registers.run(AddFilterGradient { sizes: self, x, dy, tiles, scratch, sums });
            });
        });
        let sums = sums.as_floats();
        let target = Shared::new(dw);
        let threads = parts.min(self.outputs);
        parallel(threads, &|part| {
            for output in share(self.outputs, part, threads) {
                registers.run(TotalFilterGradient { sizes: self, sums, parts, output, dw: target });
            }
        });
    }

    fn registers(&self) -> Registers {
        assert!(self.supported());
        Registers::widest().expect("the sizes are supported only where there are registers")
    }

    /// Runs the convolution with a transformed filter `[36, inputs, outputs]`.
    fn run(&self, x: &[f32], filter: &Lines, epilogue: Epilogue<'_>, y: &mut [f32]) -> Moments {
        let registers = self.registers();
        assert_eq!(x.len(), self.pixels() * self.inputs);
        assert_eq!(y.len(), self.pixels() * self.outputs);
        assert!(epilogue.bias.is_none_or(|bias| bias.len() == self.outputs));
        assert!(epilogue.shift.is_none_or(|shift| shift.len() == self.outputs));
        assert!(epilogue.residual.is_none_or(|residual| residual.len() == y.len()));
        let parts = parts().min(self.tiles()).max(1);
        let (y, filter) = (Shared::new(y), filter.as_floats());
        let found: Vec<_> = (0..parts).map(|_| Mutex::new(Moments::zero(self.outputs))).collect();
        parallel(parts, &|part| {
            let tiles = share(self.tiles(), part, parts);
            let moments = with_scratch(scratch(self), |scratch| {
                registers.run(Outputs { sizes: self, x, filter, epilogue, tiles, scratch, y })
            });
            *found[part].lock().unwrap_or_else(PoisonError::into_inner) = moments;
        });
        let mut total = Moments::zero(self.outputs);
        for moments in found {
            total.add(&moments.into_inner().unwrap_or_else(PoisonError::into_inner));
        }
        total
    }

    /// `G w Gᵀ` of every filter, `[36, outputs, inputs]`, from weights `[outputs, 3, 3, inputs]`, which are rotated
    /// by 180° if `turned`.
    fn transformed_filter(&self, weights: &[f32], turned: bool) -> Lines {
        let registers = self.registers();
        let (outputs, inputs) = (self.outputs, self.inputs);
        assert_eq!(weights.len(), 9 * inputs * outputs);
        let mut filter = Lines::zeroed(PLACES * inputs * outputs);
        let into = Shared::new(filter.floats());
        let parts = parts().min(outputs);
        parallel(parts, &|part| {
            for output in share(outputs, part, parts) {
                let weights = &weights[output * 9 * inputs..][..9 * inputs];
                registers.run(TransformFilter { weights, output, outputs, turned, into });
            }
        });
        filter
    }
}

/// Transposes a filter from `[36, outputs, inputs]` to `[36, inputs, outputs]`.
fn transposed(filter: &Lines, sizes: &Convolution) -> Lines {
    let (inputs, outputs) = (sizes.inputs, sizes.outputs);
    let mut turned = Lines::zeroed(PLACES * inputs * outputs);
    let (source, target) = (filter.as_floats(), Shared::new(turned.floats()));
    let parts = parts().min(PLACES);
    parallel(parts, &|part| {
        for place in share(PLACES, part, parts) {
            let base = place * inputs * outputs;
            for input in 0..inputs {
                for output in 0..outputs {
                    // SAFETY: within the matrix of a position, which belongs to one part alone.
                    unsafe {
                        *target.at(base + input * outputs + output) = source[base + output * inputs + input]
                    }
                }
            }
        }
    });
    turned
}

#[cfg(test)]
mod tests {
    use super::super::noise;
    use super::super::vector::forced::on_each;
    use super::*;

    /// Visits every term of the convolution by its definition, as output pixel, input pixel and tap; the output and
    /// both gradients are sums over these terms.
    fn walk(sizes: &Convolution, mut visit: impl FnMut(usize, usize, usize)) {
        let Convolution { batch, height, width, .. } = *sizes;
        for image in 0..batch {
            for row in 0..height {
                for column in 0..width {
                    for tap in 0..9 {
                        let (from_row, from_column) = (row + tap / 3, column + tap % 3);
                        if (1..=height).contains(&from_row) && (1..=width).contains(&from_column) {
                            let target = (image * height + row) * width + column;
                            visit(target, (image * height + from_row - 1) * width + from_column - 1, tap);
                        }
                    }
                }
            }
        }
    }

    #[track_caller]
    fn close(found: &[f32], expected: &[f64]) {
        let scale = (expected.iter().map(|v| v * v).sum::<f64>() / expected.len() as f64).sqrt();
        for (index, (found, expected)) in found.iter().zip(expected).enumerate() {
            let error = (f64::from(*found) - expected).abs();
            assert!(error < 5e-5 * scale, "at {index}: {found} against {expected}, scale {scale}");
        }
    }

    #[test]
    fn all_three_directions_agree_with_the_definition() {
        on_each(all_three_directions);
    }

    fn all_three_directions() {
        for (height, width, inputs, outputs) in [
            (8, 8, 16, 16),
            (5, 7, 16, 32),
            (1, 9, 32, 16),
            (4, 4, 64, 128),
            (14, 3, 128, 64),
            (32, 9, 16, 16),
        ] {
            let sizes = Convolution { batch: 3, height, width, inputs, outputs };
            let pixels = sizes.pixels();
            let x = noise(pixels * inputs, 1);
            let w = noise(9 * inputs * outputs, 2);
            let dy = noise(pixels * outputs, 3);
            let mut expected_y = vec![0.0; pixels * outputs];
            let mut expected_dx = vec![0.0; pixels * inputs];
            let mut expected_dw = vec![0.0; w.len()];
            walk(&sizes, |target, source, tap| {
                for output in 0..outputs {
                    for input in 0..inputs {
                        let weight = (output * 9 + tap) * inputs + input;
                        let (into, from) = (target * outputs + output, source * inputs + input);
                        expected_y[into] += f64::from(x[from]) * f64::from(w[weight]);
                        expected_dx[from] += f64::from(dy[into]) * f64::from(w[weight]);
                        expected_dw[weight] += f64::from(dy[into]) * f64::from(x[from]);
                    }
                }
            });
            let (mut y, mut dx, mut dw) = (vec![9.0; dy.len()], vec![9.0; x.len()], vec![9.0; w.len()]);
            sizes.forward(&x, &w, Epilogue::default(), &mut y);
            sizes.input_gradient(&dy, &w, None, &mut dx);
            sizes.weight_gradient(&x, &dy, &mut dw);
            close(&y, &expected_y);
            close(&dx, &expected_dx);
            close(&dw, &expected_dw);
        }
    }

    #[test]
    fn the_epilogue_is_applied_before_the_moments() {
        on_each(epilogue_and_moments);
    }

    fn epilogue_and_moments() {
        let sizes = Convolution { batch: 2, height: 6, width: 5, inputs: 16, outputs: 32 };
        let (x, w) = (noise(sizes.pixels() * 16, 4), noise(9 * 16 * 32, 5));
        let (bias, shift, residual) = (noise(32, 6), noise(32, 7), noise(sizes.pixels() * 32, 8));
        let mut plain = vec![0.0; residual.len()];
        sizes.forward(&x, &w, Epilogue::default(), &mut plain);
        let mut y = plain.clone();
        let epilogue =
            Epilogue { bias: Some(&bias), residual: Some(&residual), relu: true, shift: Some(&shift) };
        let moments = sizes.forward(&x, &w, epilogue, &mut y);
        let (mut sums, mut squares) = (vec![0.0; 32], vec![0.0; 32]);
        for (index, (found, plain)) in y.iter().zip(&plain).enumerate() {
            let channel = index % 32;
            assert!((found - (plain + bias[channel] + residual[index]).max(0.0)).abs() < 1e-6);
            let centred = f64::from(found - shift[channel]);
            sums[channel] += centred;
            squares[channel] += centred * centred;
        }
        for (found, expected) in moments.sums.iter().chain(&moments.products).zip(sums.iter().chain(&squares))
        {
            assert!((found - expected).abs() < 1e-3, "{found} against {expected}");
        }
    }
}
