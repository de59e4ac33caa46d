//! Elementwise functions, constants, resizing and quantisation, as libtorch computes them.

use ndarray::ArrayD;
use tch::{Kind, TchError, Tensor};

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
        Unary::Floor => x.f_floor(),
        Unary::Ceil => x.f_ceil(),
        Unary::Round => x.f_round(),
        Unary::Sign => x.f_sign(),
        Unary::Sin => x.f_sin(),
        Unary::Cos => x.f_cos(),
        Unary::Tan => x.f_tan(),
        Unary::Asin => x.f_asin(),
        Unary::Acos => x.f_acos(),
        Unary::Atan => x.f_atan(),
        Unary::Sinh => x.f_sinh(),
        Unary::Cosh => x.f_cosh(),
        Unary::Asinh => x.f_asinh(),
        Unary::Acosh => x.f_acosh(),
        Unary::Atanh => x.f_atanh(),
        Unary::Not => truth(&x.f_eq(0.0)?, &[x]),
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
        Binary::Equal => truth(&x.f_eq_tensor(y)?, &[x, y]),
        Binary::Less => truth(&x.f_less_tensor(y)?, &[x, y]),
        Binary::LessOrEqual => truth(&x.f_less_equal_tensor(y)?, &[x, y]),
        Binary::And => truth(&x.f_logical_and(y)?, &[x, y]),
        Binary::Or => truth(&x.f_logical_or(y)?, &[x, y]),
    }
}

/// `then` where `condition` is not 0, else `other`. A value that is not chosen has no gradient, whatever it is.
///
/// # Errors
/// If libtorch fails.
pub(super) fn choose(condition: &Tensor, then: &Tensor, other: &Tensor) -> Result<Tensor, TchError> {
    then.f_where_self(&condition.f_ne(0.0)?, other)?.f_add(&nothing(condition)?)
}

/// Booleans as 0 and 1, in the kind of the values that they were computed from. Their gradient with respect to those is
/// zero, and defined, so that autograd can pass them.
fn truth(booleans: &Tensor, from: &[&Tensor]) -> Result<Tensor, TchError> {
    from.iter().try_fold(booleans.f_to_kind(from[0].kind())?, |sum, x| sum.f_add(&nothing(x)?))
}

/// Zeros in the shape of a tensor, whatever that holds, with a gradient of zero.
fn nothing(x: &Tensor) -> Result<Tensor, TchError> {
    x.f_masked_fill(&x.f_ones_like()?.f_to_kind(Kind::Bool)?, 0.0)
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
