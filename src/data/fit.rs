//! Where an image of any size goes in an image of the network's size, along each of its two axes.

use crate::contract::Fit;

/// A centre cut keeps this much of a side, 0.875, as numerator and denominator.
const KEPT: [usize; 2] = [7, 8];

/// What is read of an image along one axis, and which pixels of the network's image it becomes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Span {
    /// Start of the part that is read, in pixels of the image.
    pub from: f64,
    /// Length of the part that is read, in pixels of the image.
    pub taken: f64,
    /// The first pixel that is filled.
    pub start: usize,
    /// How many pixels are filled.
    pub filled: usize,
}

impl Span {
    /// A side of `image` pixels, resized to `resized` and put in the middle of `wanted`: cut down where it is longer, and
    /// within a border where it is shorter.
    fn centred(image: usize, resized: usize, wanted: usize) -> Self {
        let Some(rest) = resized.checked_sub(wanted) else {
            return Self { from: 0.0, taken: image as f64, start: (wanted - resized) / 2, filled: resized };
        };
        let before = (rest as f64 / 2.0).round_ties_even();
        let unresized = |pixels: f64| pixels * image as f64 / resized as f64;
        Self { from: unresized(before), taken: unresized(wanted as f64), start: 0, filled: wanted }
    }
}

/// The spans of rows and of columns for an image `[height, width]` that becomes one of `wanted` `[height, width]`.
pub(super) fn spans(fit: Fit, image: [usize; 2], wanted: [usize; 2]) -> [Span; 2] {
    let resized = match fit {
        Fit::Stretch => wanted,
        Fit::Crop => resized(image, wanted.map(|side| side * KEPT[1] / KEPT[0]), true),
        Fit::Letterbox => resized(image, wanted, false),
    };
    [0, 1].map(|axis| Span::centred(image[axis], resized[axis], wanted[axis]))
}

/// The size, with the image's aspect ratio, that just covers a box or just fits in it.
fn resized([height, width]: [usize; 2], [box_height, box_width]: [usize; 2], covers: bool) -> [usize; 2] {
    let wider = width * box_height >= height * box_width;
    match wider == covers {
        true => [box_height, (width * box_height / height.max(1)).max(1)],
        false => [(height * box_width / width.max(1)).max(1), box_width],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The whole image's size once resized, and the first row and column that are kept, from what is read of it.
    fn cut(image: [usize; 2], wanted: [usize; 2]) -> ([f64; 2], [f64; 2]) {
        let spans = spans(Fit::Crop, image, wanted);
        let scale = |axis: usize| spans[axis].filled as f64 / spans[axis].taken;
        (
            [0, 1].map(|axis| (image[axis] as f64 * scale(axis) * 1e6).round() / 1e6),
            [0, 1].map(|axis| (spans[axis].from * scale(axis) * 1e6).round() / 1e6),
        )
    }

    /// Sizes and places of torchvision's `Resize(size / 0.875)` and `CenterCrop(size)`.
    #[test]
    fn a_crop_is_the_usual_one_of_image_net() {
        let square = [224, 224];
        assert_eq!(cut([375, 500], square), ([256.0, 341.0], [16.0, 58.0]));
        assert_eq!(cut([500, 375], square), ([341.0, 256.0], [58.0, 16.0]));
        assert_eq!(cut([224, 224], square), ([256.0, 256.0], [16.0, 16.0]));
        assert_eq!(cut([30, 40], square), ([256.0, 341.0], [16.0, 58.0]));
        // 31.5 and 32.5 rows before the cut both become 32.
        assert_eq!(cut([287, 256], square).1[0], 32.0);
        assert_eq!(cut([289, 256], square).1[0], 32.0);
        // A network that is not square: the box of 73 x 146 is covered.
        assert_eq!(cut([100, 300], [64, 128]), ([73.0, 219.0], [4.0, 46.0]));
        assert_eq!(cut([300, 100], [64, 128]), ([438.0, 146.0], [187.0, 9.0]));
    }

    #[test]
    fn a_letterbox_has_an_equal_border_on_both_sides() {
        let filled = |image, wanted| {
            let spans = spans(Fit::Letterbox, image, wanted);
            for (span, side) in spans.iter().zip(image) {
                assert_eq!((span.from, span.taken), (0.0, side as f64));
            }
            spans.map(|span| (span.start, span.filled))
        };
        assert_eq!(filled([375, 500], [224, 224]), [(28, 168), (0, 224)]);
        assert_eq!(filled([500, 375], [224, 224]), [(0, 224), (28, 168)]);
        assert_eq!(filled([3, 5], [10, 10]), [(2, 6), (0, 10)]);
        assert_eq!(filled([10, 10], [64, 129]), [(0, 64), (32, 64)]);
        assert_eq!(filled([7, 7], [7, 7]), [(0, 7), (0, 7)]);
        // A line keeps one pixel.
        assert_eq!(filled([1, 20_000], [8, 8]), [(3, 1), (0, 8)]);
    }

    #[test]
    fn what_is_read_lies_inside_the_image() {
        for height in [1, 2, 3, 7, 8, 9, 100, 20_000] {
            for width in [1, 2, 5, 8, 64, 19_999] {
                for wanted in [[1, 1], [6, 6], [7, 9], [32, 48], [224, 224]] {
                    for fit in Fit::ALL {
                        for ((span, side), wanted) in
                            spans(fit, [height, width], wanted).iter().zip([height, width]).zip(wanted)
                        {
                            let told = format!("{fit:?} {height} {width}: {span:?}");
                            assert!(span.from >= 0.0 && span.taken > 0.0, "{told}");
                            assert!(span.from + span.taken <= side as f64, "{told}");
                            assert!(span.filled > 0 && span.start + span.filled <= wanted, "{told}");
                        }
                    }
                }
            }
        }
    }
}
