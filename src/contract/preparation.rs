//! How a network wants its images prepared: fit, filter, channel order, range, mean, deviation and order of axes,
//! as a file declares them.

use ndarray::{ArrayD, Axis};
use serde::{Deserialize, Serialize};

use super::normalization::{Normalization, Table};

/// Tolerated difference of a mean, in standard deviations, or of a deviation, as a share. Another split of
/// the same images may differ by as much.
const SAME: f32 = 0.02;

/// Meaning and order of the channels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ChannelOrder {
    Gray,
    /// Red first, as images are decoded.
    Rgb,
    /// Blue first.
    Bgr,
}

impl ChannelOrder {
    pub const ALL: [Self; 3] = [Self::Gray, Self::Rgb, Self::Bgr];

    /// The order in which images with this many channels are decoded.
    pub fn decoded(channels: usize) -> Self {
        if channels == 1 { ChannelOrder::Gray } else { ChannelOrder::Rgb }
    }

    /// The value in a file.
    pub fn name(self) -> &'static str {
        match self {
            ChannelOrder::Gray => "gray",
            ChannelOrder::Rgb => "rgb",
            ChannelOrder::Bgr => "bgr",
        }
    }
}

/// How an image file is resized to the network's input size.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Resize {
    /// A triangle filter whose width follows the scale, like Pillow's `BILINEAR`.
    #[default]
    #[serde(rename = "bilinear-antialiased")]
    BilinearAntialiased,
}

/// How an image of any size comes to the network's height and width. Sizes are in pixels; the filter is [`Resize`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Fit {
    /// Resized to that size, whatever its aspect ratio is.
    #[default]
    Stretch,
    /// Resized with its aspect ratio until it just covers a box of height / 0.875 and width / 0.875, and cut down to
    /// the network's size around its centre. For a square network the shorter side becomes size / 0.875, 256 for 224, as
    /// in the usual evaluation on ImageNet (torchvision's `Resize(256)` and `CenterCrop(224)`). All sizes are rounded
    /// down, and half a pixel before the cut is rounded to an even number, as there.
    Crop,
    /// Resized with its aspect ratio until it just fits in, and put in the middle of a black image, as TensorFlow's
    /// `resize_with_pad` does. Sizes are rounded down, and half a pixel goes below or to the right.
    Letterbox,
}

impl Fit {
    pub const ALL: [Self; 3] = [Self::Stretch, Self::Crop, Self::Letterbox];

    /// The value in a file.
    pub fn name(self) -> &'static str {
        match self {
            Fit::Stretch => "stretch",
            Fit::Crop => "crop",
            Fit::Letterbox => "letterbox",
        }
    }

    /// Whether it is the one that files do not write.
    pub fn is_stretch(&self) -> bool {
        *self == Fit::Stretch
    }
}

/// The scale of a pixel before it is normalised.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum PixelRange {
    /// The byte divided by 255.
    #[default]
    #[serde(rename = "0..1")]
    Unit,
    /// The byte itself.
    #[serde(rename = "0..255")]
    Byte,
}

impl PixelRange {
    pub const ALL: [Self; 2] = [Self::Unit, Self::Byte];

    /// The value of a white pixel.
    pub fn white(self) -> f64 {
        match self {
            PixelRange::Unit => 1.0,
            PixelRange::Byte => 255.0,
        }
    }

    /// The value in a file.
    pub fn name(self) -> &'static str {
        match self {
            PixelRange::Unit => "0..1",
            PixelRange::Byte => "0..255",
        }
    }
}

/// The order of a batch's axes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layout {
    /// `[batch, channels, height, width]`.
    ChannelsFirst,
    /// `[batch, height, width, channels]`.
    ChannelsLast,
}

impl Layout {
    /// `[channels, height, width]` of an image whose axes are in this order.
    pub fn planar(self, [first, second, third]: [usize; 3]) -> [usize; 3] {
        match self {
            Layout::ChannelsFirst => [first, second, third],
            Layout::ChannelsLast => [third, first, second],
        }
    }

    /// `[channels, height, width]` in this order of axes.
    pub fn ordered(self, [channels, height, width]: [usize; 3]) -> [usize; 3] {
        match self {
            Layout::ChannelsFirst => [channels, height, width],
            Layout::ChannelsLast => [height, width, channels],
        }
    }

    /// Places of height and width among an image's axes.
    pub fn height_and_width(self) -> [usize; 2] {
        match self {
            Layout::ChannelsFirst => [1, 2],
            Layout::ChannelsLast => [0, 1],
        }
    }
}

/// Every step between an image's bytes and the values a network reads.
#[derive(Debug, Clone, PartialEq)]
pub struct Preparation {
    pub resize: Resize,
    pub fit: Fit,
    pub order: ChannelOrder,
    pub range: PixelRange,
    /// Per channel in the network's order, on the scale of `range`.
    pub normalization: Normalization,
    pub layout: Layout,
}

impl Preparation {
    /// The preparation of a run's own data, for images that are stretched to the network's size.
    pub fn of(normalization: &Normalization, layout: Layout) -> Self {
        Self {
            resize: Resize::default(),
            fit: Fit::default(),
            order: ChannelOrder::decoded(normalization.mean.len()),
            range: PixelRange::default(),
            normalization: normalization.clone(),
            layout,
        }
    }

    /// Scales to the range from 0 to 1 only, for networks whose preparation is not known.
    pub fn unit(channels: usize, layout: Layout) -> Self {
        Self::of(&Normalization::none(channels), layout)
    }

    /// Passes bytes through, for networks that take whole numbers and normalise by themselves.
    pub fn bytes(channels: usize, layout: Layout) -> Self {
        Self { range: PixelRange::Byte, ..Self::unit(channels, layout) }
    }

    /// The values of a black and of a white pixel: the minimum and the maximum over all channels.
    pub fn black_and_white(&self) -> (f32, f32) {
        let white = self.range.white() as f32;
        let channels = self.normalization.mean.iter().zip(&self.normalization.std);
        channels.fold((f32::INFINITY, f32::NEG_INFINITY), |(low, high), (mean, std)| {
            (low.min(-mean / std), high.max((white - mean) / std))
        })
    }

    /// The normalisation on the scale from 0 to 1, for channels in the order in which images are decoded.
    pub fn decoded(&self) -> Normalization {
        let white = self.range.white() as f32;
        let scaled = |values: &[f32]| {
            let mut values: Vec<f32> = values.iter().map(|value| value / white).collect();
            if self.order == ChannelOrder::Bgr {
                values.reverse();
            }
            values
        };
        Normalization { mean: scaled(&self.normalization.mean), std: scaled(&self.normalization.std) }
    }

    /// The settings in which this differs from `other`, with both values.
    pub fn differences(&self, other: &Self) -> Vec<String> {
        let mut found = Vec::new();
        let mut differ = |what: &str, here: String, there: String| {
            found.push(format!("{what} {here} where the data set's is {there}"));
        };
        if self.fit != other.fit {
            differ("fit", self.fit.name().into(), other.fit.name().into());
        }
        if self.order != other.order {
            differ("channel order", self.order.name().into(), other.order.name().into());
        }
        if self.range != other.range {
            differ("pixel range", self.range.name().into(), other.range.name().into());
        }
        let (here, there) = (&self.normalization, &other.normalization);
        let apart = |a: &[f32], b: &[f32]| {
            let channels = a.iter().zip(b).zip(&there.std);
            a.len() != b.len() || channels.into_iter().any(|((a, b), std)| (a - b).abs() > SAME * std)
        };
        if apart(&here.mean, &there.mean) {
            differ("mean", format!("{:?}", here.mean), format!("{:?}", there.mean));
        }
        if apart(&here.std, &there.std) {
            differ("std", format!("{:?}", here.std), format!("{:?}", there.std));
        }
        found
    }

    /// The value of every byte, per channel in the order in which images are decoded.
    pub fn table(&self) -> Table {
        let Normalization { mean, std } = &self.normalization;
        let value = |byte: usize, channel: usize| {
            let pixel = byte as f64 * self.range.white() / 255.0;
            ((pixel - f64::from(mean[channel])) / f64::from(std[channel])) as f32
        };
        let mut table: Table =
            (0..mean.len()).map(|channel| std::array::from_fn(|byte| value(byte, channel))).collect();
        if self.order == ChannelOrder::Bgr {
            table.reverse();
        }
        table
    }

    /// Rearranges a batch `[batch, channels, height, width]`, with channels as decoded, to the network's
    /// channel order and layout.
    pub fn arranged(&self, mut images: ArrayD<f32>) -> ArrayD<f32> {
        if self.order == ChannelOrder::Bgr {
            images.invert_axis(Axis(1));
        }
        match self.layout {
            Layout::ChannelsFirst => {}
            Layout::ChannelsLast => images = images.permuted_axes(vec![0, 2, 3, 1]),
        }
        images.as_standard_layout().into_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn preparation(order: ChannelOrder, range: PixelRange, layout: Layout) -> Preparation {
        let normalization = Normalization { mean: vec![0.1, 0.2, 0.3], std: vec![0.5, 0.25, 1.0] };
        Preparation { order, range, ..Preparation::of(&normalization, layout) }
    }

    #[test]
    fn the_normalisation_of_decoded_pixels_gives_the_same_values() {
        for (order, range) in [(ChannelOrder::Bgr, PixelRange::Byte), (ChannelOrder::Rgb, PixelRange::Unit)] {
            let one = preparation(order, range, Layout::ChannelsFirst);
            for (a, b) in one.decoded().table().iter().flatten().zip(one.table().iter().flatten()) {
                assert!((a - b).abs() <= 1e-4 * b.abs().max(1.0), "{a} and {b}");
            }
        }
    }

    #[test]
    fn differences_name_both_values() {
        let one = preparation(ChannelOrder::Bgr, PixelRange::Unit, Layout::ChannelsFirst);
        let mut other = preparation(ChannelOrder::Rgb, PixelRange::Byte, Layout::ChannelsFirst);
        other.normalization.mean[1] += 0.001;
        let found = one.differences(&other);
        assert_eq!(found[0], "channel order bgr where the data set's is rgb");
        assert_eq!(found[1], "pixel range 0..1 where the data set's is 0..255");
        assert_eq!(found.len(), 2, "{found:?}");
        other.normalization.mean[1] += 0.1;
        other.normalization.std[0] *= 2.0;
        assert!(
            one.differences(&other)[2].starts_with("mean [0.1, 0.2, 0.3] where the data set's is [0.1, 0.3")
        );
        assert!(one.differences(&other)[3].starts_with("std [0.5, 0.25, 1.0] where"));
        assert!(one.differences(&one).is_empty());
        let cropped = Preparation { fit: Fit::Crop, ..one.clone() };
        assert_eq!(cropped.differences(&one), ["fit crop where the data set's is stretch"]);
    }
}
