//! How one array of weights was derived from another.

use half::{bf16, f16};
use ndarray::{ArrayD, ArrayViewD, Axis};

/// Values that differ by less than this share differ only by rounding.
const ROUNDING: f32 = 1e-6;

/// What was done to `expected` to obtain `found`, as far as it can be determined; `None` if they are the
/// same.
pub fn difference(name: &str, found: &ArrayD<f32>, expected: &ArrayD<f32>) -> Option<String> {
    if found.shape() != expected.shape() {
        return Some(format!("'{name}' is of shape {:?} instead of {:?}", found.shape(), expected.shape()));
    }
    let differing: Vec<(f32, f32)> =
        found.iter().copied().zip(expected.iter().copied()).filter(|(a, b)| !near(*a, *b)).collect();
    if differing.is_empty() {
        return None;
    }
    let (count, all) = (differing.len(), found.len());
    let order = |axis, what: &str| {
        reordered(found, expected, axis).then(|| format!("the {what} of '{name}' are in a different order"))
    };
    let rounded = |what: &str, round: fn(f32) -> f32| {
        let same = found.iter().zip(expected).all(|(&found, &expected)| found == round(expected));
        same.then(|| format!("'{name}' is rounded to {what}"))
    };
    let scaled =
        || channel_scales(found, expected).map(|_| format!("each output channel of '{name}' is scaled"));
    Some(if differing.iter().any(|(found, _)| !found.is_finite()) {
        format!("'{name}' holds values that are not finite")
    } else if found.iter().all(|&value| value == 0.0) {
        format!("'{name}' is all zeros, as if left out")
    } else if differing.iter().all(|(found, expected)| near(*found, -expected)) {
        format!("the sign of {count} of {all} values of '{name}' is flipped")
    } else {
        order(0, if found.ndim() == 2 { "outputs" } else { "output channels" })
            .or_else(|| order(1, if found.ndim() == 2 { "input features" } else { "input channels" }))
            .or_else(|| {
                turned(found, expected).then(|| {
                    format!("the kernels of '{name}' are flipped (convolution instead of cross-correlation)")
                })
            })
            .or_else(|| {
                transposed(found, expected).then(|| format!("height and width of '{name}' are swapped"))
            })
            .or_else(|| rounded("float16", |value| f16::from_f32(value).to_f32()))
            .or_else(|| rounded("bfloat16", |value| bf16::from_f32(value).to_f32()))
            .or_else(scaled)
            .unwrap_or_else(|| format!("{count} of {all} values of '{name}' differ"))
    })
}

/// The scale factor of each output channel, if each channel's values are all multiplied by one factor.
pub fn channel_scales(found: &ArrayD<f32>, expected: &ArrayD<f32>) -> Option<Vec<f64>> {
    if found.shape() != expected.shape() || found.ndim() < 2 {
        return None;
    }
    let channels = found.axis_iter(Axis(0)).zip(expected.axis_iter(Axis(0)));
    channels.map(|(found, expected)| scale(found, expected)).collect()
}

fn scale(found: ArrayViewD<'_, f32>, expected: ArrayViewD<'_, f32>) -> Option<f64> {
    let pairs = || found.iter().zip(&expected).map(|(&a, &b)| (f64::from(a), f64::from(b)));
    let square: f64 = pairs().map(|(_, expected)| expected * expected).sum();
    let scale = pairs().map(|(found, expected)| found * expected).sum::<f64>() / square;
    let largest = pairs().fold(0.0, |largest, (found, _)| f64::max(largest, found.abs()));
    let error =
        pairs().fold(0.0, |error, (found, expected)| f64::max(error, (found - scale * expected).abs()));
    (scale.is_finite() && error <= 1e-5 * largest).then_some(scale)
}

fn near(a: f32, b: f32) -> bool {
    (a - b).abs() <= ROUNDING * a.abs().max(b.abs())
}

fn same(a: &ArrayViewD<'_, f32>, b: &ArrayViewD<'_, f32>) -> bool {
    a.iter().zip(b).all(|(a, b)| near(*a, *b))
}

/// Whether the slices along an axis are the same in a different order.
fn reordered(found: &ArrayD<f32>, expected: &ArrayD<f32>, axis: usize) -> bool {
    if axis >= found.ndim() {
        return false;
    }
    let mut left: Vec<ArrayViewD<'_, f32>> = expected.axis_iter(Axis(axis)).collect();
    found.axis_iter(Axis(axis)).all(|slice| match left.iter().position(|other| same(&slice, other)) {
        Some(place) => {
            left.remove(place);
            true
        }
        None => false,
    })
}

fn turned(found: &ArrayD<f32>, expected: &ArrayD<f32>) -> bool {
    let mut turned = expected.view();
    if found.ndim() != 4 {
        return false;
    }
    turned.invert_axis(Axis(2));
    turned.invert_axis(Axis(3));
    same(&found.view(), &turned)
}

fn transposed(found: &ArrayD<f32>, expected: &ArrayD<f32>) -> bool {
    if found.ndim() != 4 || found.shape()[2] != found.shape()[3] {
        return false;
    }
    let mut swapped = expected.view();
    swapped.swap_axes(2, 3);
    same(&found.view(), &swapped)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn says(part: &str, spoil: impl Fn(&mut ArrayD<f32>)) {
        let whole = ArrayD::from_shape_fn(vec![4, 3, 3, 3], |at| {
            ((at[0] * 27 + at[1] * 9 + at[2] * 3 + at[3]) as f32 * 0.7).sin() + 0.1
        });
        let mut other = whole.clone();
        spoil(&mut other);
        let text = difference("w", &other, &whole).unwrap_or_default();
        assert!(text.contains(part) && part.is_empty() == text.is_empty(), "{text}");
    }

    #[test]
    fn what_was_done_is_told() {
        says("", |_| {});
        says("", |array| array.mapv_inplace(|value| value * (1.0 + 2e-7)));
        says("all zeros, as if left out", |array| array.fill(0.0));
        says("sign of 1 of 108", |array| array[[1, 2, 0, 1].as_slice()] *= -1.0);
        says("output channels of 'w' are in a different order", |array| array.invert_axis(Axis(0)));
        says("input channels of 'w' are in a different order", |array| array.invert_axis(Axis(1)));
        says("kernels of 'w' are flipped", |array| {
            array.invert_axis(Axis(2));
            array.invert_axis(Axis(3));
        });
        says("height and width", |array| array.swap_axes(2, 3));
        says("rounded to float16", |array| array.mapv_inplace(|value| f16::from_f32(value).to_f32()));
        says("rounded to bfloat16", |array| array.mapv_inplace(|value| bf16::from_f32(value).to_f32()));
        says("each output channel of 'w' is scaled", |array| {
            for (channel, mut slice) in array.outer_iter_mut().enumerate() {
                slice.mapv_inplace(|value| value * (1.0 + channel as f32));
            }
        });
        says("1 of 108 values", |array| array[[0, 0, 0, 0].as_slice()] += 1.0);
        says("not finite", |array| array[[0, 0, 0, 0].as_slice()] = f32::NAN);
    }
}
