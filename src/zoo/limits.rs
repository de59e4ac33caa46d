//! Which numbers a family accepts, and the errors for the others.

use crate::error::InputError;

/// Maximum number of channels per layer, and of weighted layers: far above any published network, and low
/// enough that no count overflows.
const MOST_CHANNELS: usize = 65_536;
const MOST_LAYERS: usize = 2_000;
const MOST_PIXELS: usize = 1_024;

/// Checks a layer's number of channels, `key` of `family`.
pub(super) fn channels(family: &str, key: &str, value: usize) -> Result<(), InputError> {
    between(family, key, value, 1, MOST_CHANNELS)
}

/// Checks that a whole number is within bounds, both included.
pub(super) fn between(
    family: &str,
    key: &str,
    value: usize,
    low: usize,
    high: usize,
) -> Result<(), InputError> {
    if (low..=high).contains(&value) {
        return Ok(());
    }
    Err(InputError::new(format!("{family}: {key} must be from {low} to {high}, found {value}")))
}

/// Checks a size of a window in pixels: kernel, stride, padding or dilation.
pub(super) fn side(family: &str, key: &str, value: usize, least: usize) -> Result<(), InputError> {
    between(family, key, value, least, MOST_PIXELS)
}

/// The `n >= 1` for which `depth = 6n + rest`.
pub(super) fn blocks(family: &str, depth: usize, rest: usize) -> Result<usize, InputError> {
    let fits = |depth: usize| depth >= 6 + rest && (depth - rest).is_multiple_of(6);
    if fits(depth) && depth <= MOST_LAYERS {
        return Ok((depth - rest) / 6);
    }
    let below = (6 + rest..=depth.min(MOST_LAYERS)).rev().find(|depth| fits(*depth));
    let above = (depth..=MOST_LAYERS).find(|depth| fits(*depth));
    let nearest: Vec<String> = [below, above].into_iter().flatten().map(|depth| depth.to_string()).collect();
    Err(InputError::new(format!(
        "{family}: depth must be 6n + {rest}, from {} to {MOST_LAYERS}, found {depth}",
        6 + rest
    ))
    .hint(format!("the nearest allowed depth: {}", nearest.join(" or "))))
}

/// Checks a factor on the number of channels.
pub(super) fn factor(family: &str, key: &str, value: f64) -> Result<(), InputError> {
    if value.is_finite() && value > 0.0 && value <= 32.0 {
        return Ok(());
    }
    Err(InputError::new(format!("{family}: {key} must be above 0 and at most 32, found {value}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nearest_depths_are_named() {
        assert_eq!(blocks("f", 20, 2), Ok(3));
        for (depth, hint) in [(21, "20 or 26"), (0, "8"), (7, "8"), (5_000, "2000"), (usize::MAX, "2000")] {
            let error = blocks("f", depth, 2).unwrap_err();
            assert!(error.message.contains(&format!("found {depth}")), "{error}");
            assert_eq!(error.hint.unwrap(), format!("the nearest allowed depth: {hint}"));
        }
        assert_eq!(blocks("f", 18, 4).unwrap_err().hint.unwrap(), "the nearest allowed depth: 16 or 22");
    }
}
