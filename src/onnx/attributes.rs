//! Operators and attributes of emitted nodes, for operations that are one node of ONNX.

use anyhow::Result;
use tract_onnx::pb::AttributeProto;

use crate::graph::{Binary, Coordinates, Filter, Pool, Resize, Rounding, Unary};

use super::proto::{float, int, ints, text};

/// Operator set of emitted files, which ONNX Runtime from 1.12 on and tract read.
pub const OPSET: i64 = 17;

/// Whether a Resize has the scales of its sizes, which then say the same.
pub fn is_exact(resize: &Resize, image: [usize; 2]) -> bool {
    let ratio = |axis: usize| f64::from(resize.size[axis] as f32 / image[axis] as f32);
    (0..2).all(|axis| resize.scale[axis] == ratio(axis))
}

/// The scales of a Resize for a batch of images, if they give its size, multiplied in single precision as runtimes do, and
/// with `also_in_double` in double precision as well.
pub fn resize_scales(resize: &Resize, image: [usize; 2], also_in_double: bool) -> Option<Vec<f32>> {
    let mut scales = vec![1f32, 1.0];
    for ((from, to), scale) in image.into_iter().zip(resize.size).zip(resize.scale) {
        let scale = scale as f32;
        let single = (from as f32 * scale).floor() as usize;
        let double = (from as f64 * f64::from(scale)).floor() as usize;
        if single != to || (also_in_double && double != to) {
            return None;
        }
        scales.push(scale);
    }
    Some(scales)
}

pub fn resize_attributes(resize: &Resize) -> Result<Vec<AttributeProto>> {
    let coordinates = match resize.coordinates {
        Coordinates::HalfPixel => "half_pixel",
        Coordinates::PytorchHalfPixel => "pytorch_half_pixel",
        Coordinates::HalfPixelSymmetric => {
            anyhow::bail!(
                "coordinates half_pixel_symmetric need operator set 19, and files are written with {OPSET}"
            )
        }
        Coordinates::AlignCorners => "align_corners",
        Coordinates::Asymmetric => "asymmetric",
    };
    let mut attributes = vec![text("coordinate_transformation_mode", coordinates)];
    match resize.filter {
        Filter::Nearest(rounding) => {
            let rounding = match rounding {
                Rounding::PreferFloor => "round_prefer_floor",
                Rounding::PreferCeil => "round_prefer_ceil",
                Rounding::Floor => "floor",
                Rounding::Ceil => "ceil",
            };
            attributes.extend([text("mode", "nearest"), text("nearest_mode", rounding)]);
        }
        Filter::Linear => attributes.push(text("mode", "linear")),
        Filter::Cubic { coefficient, exclude_outside } => attributes.extend([
            text("mode", "cubic"),
            float("cubic_coeff_a", coefficient),
            int("exclude_outside", i64::from(exclude_outside)),
        ]),
    }
    Ok(attributes)
}

pub fn unary(function: Unary) -> (&'static str, Vec<AttributeProto>) {
    match function {
        Unary::LeakyRelu { slope } => ("LeakyRelu", vec![float("alpha", slope)]),
        Unary::Sigmoid => ("Sigmoid", vec![]),
        Unary::HardSigmoid { alpha, beta } => {
            ("HardSigmoid", vec![float("alpha", alpha), float("beta", beta)])
        }
        Unary::Tanh => ("Tanh", vec![]),
        Unary::Erf => ("Erf", vec![]),
        Unary::Exp => ("Exp", vec![]),
        Unary::Log => ("Log", vec![]),
        Unary::Sqrt => ("Sqrt", vec![]),
        Unary::Abs => ("Abs", vec![]),
        Unary::Neg => ("Neg", vec![]),
        Unary::Reciprocal => ("Reciprocal", vec![]),
        Unary::Softplus => ("Softplus", vec![]),
        Unary::Floor => ("Floor", vec![]),
        Unary::Ceil => ("Ceil", vec![]),
        Unary::Round => ("Round", vec![]),
        Unary::Sign => ("Sign", vec![]),
        Unary::Sin => ("Sin", vec![]),
        Unary::Cos => ("Cos", vec![]),
        Unary::Tan => ("Tan", vec![]),
        Unary::Asin => ("Asin", vec![]),
        Unary::Acos => ("Acos", vec![]),
        Unary::Atan => ("Atan", vec![]),
        Unary::Sinh => ("Sinh", vec![]),
        Unary::Cosh => ("Cosh", vec![]),
        Unary::Asinh => ("Asinh", vec![]),
        Unary::Acosh => ("Acosh", vec![]),
        Unary::Atanh => ("Atanh", vec![]),
        Unary::Not => ("Not", vec![]),
    }
}

pub fn binary(function: Binary) -> &'static str {
    match function {
        Binary::Add => "Add",
        Binary::Sub => "Sub",
        Binary::Mul => "Mul",
        Binary::Div => "Div",
        Binary::Pow => "Pow",
        Binary::Max => "Max",
        Binary::Min => "Min",
        Binary::Equal => "Equal",
        Binary::Less => "Less",
        Binary::LessOrEqual => "LessOrEqual",
        Binary::And => "And",
        Binary::Or => "Or",
    }
}

/// Axes of a sample as axes of a batch.
pub fn batched_axes(axes: &[usize]) -> impl Iterator<Item = i64> {
    axes.iter().map(|&axis| axis as i64 + 1)
}

pub fn pair(name: &str, [vertical, horizontal]: [usize; 2]) -> AttributeProto {
    ints(name, [vertical as i64, horizontal as i64])
}

pub fn pads([vertical, horizontal]: [usize; 2]) -> AttributeProto {
    ints("pads", [vertical, horizontal, vertical, horizontal].map(|value| value as i64))
}

pub fn window(pool: &Pool) -> Vec<AttributeProto> {
    vec![
        pair("kernel_shape", pool.kernel),
        pair("strides", pool.stride),
        pads(pool.padding),
        int("ceil_mode", i64::from(pool.ceil_mode)),
    ]
}
