//! Elementwise functions, constants, resizing and quantisation, as libtorch computes them.

use ndarray::ArrayD;
use tch::{TchError, Tensor};

use crate::graph::{Binary, Quantize, Resize, Unary};

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

/// An image resized along both axes by matrices of weights.
///
/// # Errors
/// If libtorch fails.
pub(super) fn resize(settings: &Resize, x: &Tensor) -> Result<Tensor, TchError> {
    let size = x.size();
    let matrix = |axis: usize| -> Result<Tensor, TchError> {
        let input = size[2 + axis];
        let weights = Tensor::f_from_slice(&settings.weights(axis, input as usize))?;
        weights.f_reshape([-1, input])?.f_to_device(x.device())?.f_to_kind(x.kind())
    };
    matrix(0)?.f_matmul(&x.f_matmul(&matrix(1)?.f_transpose(0, 1)?)?)
}

/// A tensor as it is after quantisation. The gradient is that of the identity within the range of the integers and zero
/// outside (straight-through estimator, Bengio et al. 2013).
///
/// # Errors
/// If libtorch fails.
pub(super) fn quantize_dequantize(settings: &Quantize, x: &Tensor) -> Result<Tensor, TchError> {
    let mut shape = vec![1i64; x.dim()];
    if let Some(axis) = settings.axis {
        shape[axis + 1] = settings.scales.len() as i64;
    }
    let spread = |values: &[f64]| -> Result<Tensor, TchError> {
        Tensor::f_from_slice(values)?
            .f_reshape(shape.as_slice())?
            .f_to_device(x.device())?
            .f_to_kind(x.kind())
    };
    let scales = spread(&settings.scales.iter().map(|&scale| f64::from(scale)).collect::<Vec<_>>())?;
    let zeros = spread(&settings.zeros.iter().map(|&zero| f64::from(zero)).collect::<Vec<_>>())?;
    let (least, most) = (f64::from(settings.least), f64::from(settings.most));
    let places = x.f_div(&scales)?;
    let rounded = places.f_round()?.f_add(&zeros)?.f_clamp(least, most)?;
    let exact = places.f_add(&zeros)?.f_clamp(least, most)?;
    // Only the exact places have a gradient.
    let through = exact.f_add(&rounded.f_sub(&exact)?.f_detach()?)?;
    through.f_sub(&zeros)?.f_mul(&scales)
}
