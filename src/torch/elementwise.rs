//! Elementwise functions, and constants, as libtorch computes them.

use ndarray::ArrayD;
use tch::{TchError, Tensor};

use crate::graph::{Binary, Unary};

/// A constant as a batch of one, with the kind and the device of another tensor.
///
/// # Errors
/// If libtorch fails.
pub(super) fn constant(values: &ArrayD<f32>, like: &Tensor) -> Result<Tensor, TchError> {
    let size: Vec<i64> = std::iter::once(1).chain(values.shape().iter().map(|&dim| dim as i64)).collect();
    let ordered: Vec<f32> = values.iter().copied().collect();
    Tensor::f_from_slice(&ordered)?
        .f_reshape(size.as_slice())?
        .f_to_device(like.device())?
        .f_to_kind(like.kind())
}

/// A function of each element.
///
/// # Errors
/// If libtorch fails.
pub(super) fn unary(function: Unary, x: &Tensor) -> Result<Tensor, TchError> {
    match function {
        Unary::LeakyRelu { slope } => x.f_relu()?.f_add(&x.f_clamp_max(0.0)?.f_mul_scalar(slope)?),
        Unary::Sigmoid => x.f_sigmoid(),
        Unary::HardSigmoid { alpha, beta } => x.f_mul_scalar(alpha)?.f_add_scalar(beta)?.f_clamp(0.0, 1.0),
        Unary::Tanh => x.f_tanh(),
        Unary::Erf => x.f_erf(),
        Unary::Exp => x.f_exp(),
        Unary::Log => x.f_log(),
        Unary::Sqrt => x.f_sqrt(),
        Unary::Abs => x.f_abs(),
        Unary::Neg => x.f_neg(),
        Unary::Reciprocal => x.f_reciprocal(),
        // libtorch's own softplus is the identity above 20.
        Unary::Softplus => x.f_clamp_min(0.0)?.f_add(&x.f_abs()?.f_neg()?.f_exp()?.f_log1p()?),
    }
}

/// A function of two elements.
///
/// # Errors
/// If libtorch fails.
pub(super) fn binary(function: Binary, x: &Tensor, y: &Tensor) -> Result<Tensor, TchError> {
    match function {
        Binary::Add => x.f_add(y),
        Binary::Sub => x.f_sub(y),
        Binary::Mul => x.f_mul(y),
        Binary::Div => x.f_div(y),
        Binary::Pow => x.f_pow(y),
        Binary::Max => x.f_maximum(y),
        Binary::Min => x.f_minimum(y),
    }
}
