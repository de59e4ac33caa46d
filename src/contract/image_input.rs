//! The images that a network takes, as arrays: their shape, and the values of black and white.

use ndarray::{ArrayD, IxDyn};

use super::interface::Contract;
use super::precision::Precision;
use super::preparation::{Layout, Preparation};
use super::tensor::Element;

/// The image input of a network.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ImageInput {
    /// Sizes of the axes in the order of `layout`, without the batch.
    pub shape: [usize; 3],
    pub layout: Layout,
    pub pixels: Pixels,
}

/// The pixel values a network takes, with those of a black and of a white pixel.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Pixels {
    Single {
        black: f32,
        white: f32,
    },
    /// Float16, whose largest value is 65,504.
    Half {
        black: f32,
        white: f32,
    },
    /// Whole numbers only.
    Whole {
        black: f32,
        white: f32,
    },
}

impl ImageInput {
    /// A batch drawn pixel by pixel; `pixel` receives the sample and its row and column.
    pub fn drawn(&self, samples: usize, pixel: impl Fn(usize, (usize, usize)) -> f32) -> ArrayD<f32> {
        ArrayD::from_shape_fn(self.batch(samples), |at| match self.layout {
            Layout::ChannelsFirst => pixel(at[0], (at[2], at[3])),
            Layout::ChannelsLast => pixel(at[0], (at[1], at[2])),
        })
    }

    /// The shape `[samples, …]` of a batch.
    pub fn batch(&self, samples: usize) -> IxDyn {
        let [first, second, third] = self.shape;
        IxDyn(&[samples, first, second, third])
    }
}

impl Contract {
    /// The images this contract takes: pixels as `preparation` yields them, or from 0 to 1 without one. Whole
    /// numbers are bytes, or all values of the type if there are fewer. `None` if the size of the images is
    /// not fixed.
    pub fn image_input(&self, preparation: Option<&Preparation>) -> Option<ImageInput> {
        let (black, white) = preparation.map_or((0.0, 1.0), Preparation::black_and_white);
        let pixels = match self.input.element {
            Element::Integer { least, most } if least <= 0 && most >= 255 => {
                Pixels::Whole { black: 0.0, white: 255.0 }
            }
            Element::Integer { least, most } => Pixels::Whole { black: least as f32, white: most as f32 },
            Element::Float32 | Element::Float16 | Element::BFloat16 | Element::Float64 => {
                match self.precision {
                    Precision::Float16 => Pixels::Half { black, white },
                    Precision::Float32 | Precision::Int8 => Pixels::Single { black, white },
                }
            }
        };
        Some(ImageInput { shape: self.image_shape()?, layout: self.layout, pixels })
    }
}
