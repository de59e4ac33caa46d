//! Resizing of images, as ONNX's operator Resize defines it: which input pixels make an output pixel, with which weights.
//!
//! Source: the ONNX operator specification, Resize, versions 10 to 19.

/// Settings of a resize. Pairs are `[vertical, horizontal]`.
#[derive(Debug, Clone, PartialEq)]
pub struct Resize {
    /// Size of the result.
    pub size: [usize; 2],
    /// Output pixels per input pixel. They place the pixels, and need not be the exact ratio of the sizes.
    pub scale: [f64; 2],
    pub filter: Filter,
    pub coordinates: Coordinates,
}

/// How an output pixel is made from the input pixels around its place.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Filter {
    Nearest(Rounding),
    /// The two nearest pixels along each axis, weighted by their distance.
    Linear,
    /// The four nearest pixels along each axis (Keys 1981) with this coefficient; with `exclude_outside`, pixels beyond
    /// the border have no weight, otherwise the border is repeated.
    Cubic {
        coefficient: f64,
        exclude_outside: bool,
    },
}

/// Which pixel is the nearest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rounding {
    /// Halves go down.
    PreferFloor,
    /// Halves go up.
    PreferCeil,
    Floor,
    Ceil,
}

/// Where an output pixel lies among the input pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Coordinates {
    /// Pixels have their centres at halves.
    HalfPixel,
    /// The same, and 0 for an output of one pixel.
    PytorchHalfPixel,
    /// The same as half pixels, with the image kept in the middle where the size was rounded down.
    HalfPixelSymmetric,
    /// The centres of the corner pixels lie on one another.
    AlignCorners,
    /// The upper left corners lie on one another.
    Asymmetric,
}

impl Resize {
    /// The weight of every input pixel in every output pixel along one axis, row by row: `[output, input]`. An axis of
    /// `input` pixels, at least one.
    pub fn weights(&self, axis: usize, input: usize) -> Vec<f64> {
        let output = self.size[axis];
        // A scale that is the ratio of the sizes in single precision stands for the ratio itself: runtimes divide by it in
        // single precision, which rounds to the place that the ratio gives.
        let scale = self.scale[axis];
        let is_ratio = scale == f64::from(output as f32 / input as f32);
        let step = |distance: f64| match is_ratio {
            true => distance * input as f64 / output as f64,
            false => distance / scale,
        };
        let mut weights = vec![0.0; output * input];
        for (place, row) in weights.chunks_exact_mut(input).enumerate() {
            let at = self.coordinates.of(place as f64, &step, input as f64, output as f64);
            self.filter.spread(at, row);
        }
        weights
    }
}

impl Coordinates {
    /// The place of an output pixel; `step` turns a distance in output pixels into one in input pixels.
    fn of(self, place: f64, step: &dyn Fn(f64) -> f64, input: f64, output: f64) -> f64 {
        let half = step(place + 0.5) - 0.5;
        match self {
            Coordinates::HalfPixel => half,
            Coordinates::PytorchHalfPixel => {
                if output > 1.0 {
                    half
                } else {
                    0.0
                }
            }
            Coordinates::HalfPixelSymmetric => (input - step(output)) / 2.0 + half,
            Coordinates::AlignCorners => {
                if output > 1.0 {
                    place * (input - 1.0) / (output - 1.0)
                } else {
                    0.0
                }
            }
            Coordinates::Asymmetric => step(place),
        }
    }
}

impl Filter {
    /// Adds the weights of an output pixel that lies at `at` to a row of input pixels.
    fn spread(self, at: f64, row: &mut [f64]) {
        let last = row.len() as f64 - 1.0;
        let pixel = |at: f64| at.clamp(0.0, last) as usize;
        let floor = at.floor();
        let share = at - floor;
        match self {
            Filter::Nearest(rounding) => {
                let nearest = match rounding {
                    Rounding::PreferFloor => (at - 0.5).ceil(),
                    Rounding::PreferCeil => (at + 0.5).floor(),
                    Rounding::Floor => floor,
                    Rounding::Ceil => at.ceil(),
                };
                row[pixel(nearest)] += 1.0;
            }
            Filter::Linear => {
                row[pixel(floor)] += 1.0 - share;
                row[pixel(floor + 1.0)] += share;
            }
            Filter::Cubic { coefficient, exclude_outside } => {
                let taps = [-1.0, 0.0, 1.0, 2.0].map(|tap| (floor + tap, keys(share - tap, coefficient)));
                let inside = |place: f64| !exclude_outside || (0.0..=last).contains(&place);
                let sum: f64 = taps.iter().filter(|tap| inside(tap.0)).map(|tap| tap.1).sum();
                for (place, weight) in taps.into_iter().filter(|tap| inside(tap.0)) {
                    row[pixel(place)] += weight / sum;
                }
            }
        }
    }
}

/// The cubic convolution kernel of Keys (1981) at a distance.
fn keys(distance: f64, a: f64) -> f64 {
    let d = distance.abs();
    if d <= 1.0 {
        ((a + 2.0) * d - (a + 3.0)) * d * d + 1.0
    } else if d < 2.0 {
        (((d - 5.0) * d + 8.0) * d - 4.0) * a
    } else {
        0.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A row of pixels resized along one axis.
    fn resized(filter: Filter, coordinates: Coordinates, scale: f64, size: usize, row: &[f64]) -> Vec<f64> {
        let resize = Resize { size: [size; 2], scale: [scale; 2], filter, coordinates };
        let weights = resize.weights(1, row.len());
        weights.chunks(row.len()).map(|weights| weights.iter().zip(row).map(|(w, x)| w * x).sum()).collect()
    }

    /// Values from the examples in the ONNX specification of Resize, along one axis.
    #[test]
    fn the_examples_of_the_specification() {
        use Coordinates::*;
        let near = |found: Vec<f64>, expected: &[f64]| {
            assert_eq!(found.len(), expected.len());
            for (a, b) in found.iter().zip(expected) {
                assert!((a - b).abs() < 1e-6, "{found:?} is not {expected:?}");
            }
        };
        let row = [1.0, 2.0, 3.0, 4.0];
        near(resized(Filter::Linear, HalfPixel, 2.0, 4, &row[..2]), &[1.0, 1.25, 1.75, 2.0]);
        near(resized(Filter::Linear, AlignCorners, 2.0, 4, &row[..2]), &[1.0, 4.0 / 3.0, 5.0 / 3.0, 2.0]);
        near(resized(Filter::Linear, HalfPixel, 0.6, 2, &row), &[4.0 / 3.0, 3.0]);
        near(resized(Filter::Linear, PytorchHalfPixel, 0.25, 1, &row), &[1.0]);
        let floor = Filter::Nearest(Rounding::Floor);
        near(resized(floor, Asymmetric, 2.0, 4, &row[..2]), &[1.0, 1.0, 2.0, 2.0]);
        let prefer = Filter::Nearest(Rounding::PreferFloor);
        near(resized(prefer, HalfPixel, 0.6, 2, &row), &[1.0, 3.0]);
        near(resized(prefer, HalfPixel, 2.0, 4, &row[..2]), &[1.0, 1.0, 2.0, 2.0]);
        let ceil = Filter::Nearest(Rounding::Ceil);
        near(resized(ceil, HalfPixel, 2.0, 8, &row), &[1.0, 2.0, 2.0, 3.0, 3.0, 4.0, 4.0, 4.0]);
        let cubic = Filter::Cubic { coefficient: -0.75, exclude_outside: false };
        near(resized(cubic, HalfPixel, 0.8, 3, &row), &[1.094_238_3, 2.404_296_9, 3.705_566_4]);
    }

    #[test]
    fn a_ratio_in_single_precision_stands_for_the_ratio() {
        // The third of four pixels lies at 5 of ten, though four tenths in single precision are a little more.
        let row: Vec<f64> = (0..10).map(f64::from).collect();
        let scale = f64::from(4.0f32 / 10.0);
        let floor = Filter::Nearest(Rounding::Floor);
        assert_eq!(resized(floor, Coordinates::Asymmetric, scale, 4, &row), [0.0, 2.0, 5.0, 7.0]);
    }

    #[test]
    fn weights_of_a_pixel_sum_to_one() {
        for filter in [
            Filter::Nearest(Rounding::PreferCeil),
            Filter::Linear,
            Filter::Cubic { coefficient: -0.5, exclude_outside: true },
        ] {
            for coordinates in
                [Coordinates::HalfPixel, Coordinates::HalfPixelSymmetric, Coordinates::Asymmetric]
            {
                for (scale, size, input) in [(3.5, 17, 5), (0.3, 1, 5), (1.0, 1, 1), (7.0, 7, 1)] {
                    let resize = Resize { size: [size; 2], scale: [scale; 2], filter, coordinates };
                    for row in resize.weights(0, input).chunks(input) {
                        assert!((row.iter().sum::<f64>() - 1.0).abs() < 1e-12, "{filter:?} {coordinates:?}");
                    }
                }
            }
        }
    }
}
