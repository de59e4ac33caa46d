//! The options by which a user says how a file's images are prepared and what its classes are, where the file does not.

use std::path::{Path, PathBuf};

use anyhow::Result;

use crate::contract::{ChannelOrder, Dim, Fit, Layout, PixelRange};
use crate::error::InputError;
use crate::onnx::OnnxFile;

use super::common::{Shape, choice};

#[derive(Debug, Clone, Default, clap::Args)]
pub struct Preparing {
    /// Size of one image: 224, 224x320, or all axes in the file's order, such as 3x224x224
    #[arg(long, alias = "size", value_name = "SIZES", value_parser = Shape::parse)]
    pub shape: Option<Shape>,
    /// Mean of each channel, in the file's order and range [default: that in the file, or tried]
    #[arg(long, value_name = "M,…", value_delimiter = ',', allow_hyphen_values = true)]
    pub mean: Option<Vec<f32>>,
    /// Standard deviation of each channel [default: as for the mean]
    #[arg(long, value_name = "S,…", value_delimiter = ',')]
    pub std: Option<Vec<f32>>,
    /// Scale of a pixel before that: 0..1 or 0..255
    #[arg(long, value_parser = range)]
    pub range: Option<PixelRange>,
    /// Channel that comes first: rgb, bgr or gray
    #[arg(long, value_parser = order)]
    pub channel_order: Option<ChannelOrder>,
    /// How images come to the file's size: stretch, crop or letterbox
    #[arg(long, value_parser = fit)]
    pub fit: Option<Fit>,
    /// Names of the file's classes in the order of its scores, one a line
    #[arg(long, value_name = "FILE")]
    pub labels: Option<PathBuf>,
}

fn range(text: &str) -> Result<PixelRange, String> {
    choice(text, &PixelRange::ALL, PixelRange::name)
}

fn order(text: &str) -> Result<ChannelOrder, String> {
    choice(text, &ChannelOrder::ALL, ChannelOrder::name)
}

fn fit(text: &str) -> Result<Fit, String> {
    choice(text, &Fit::ALL, Fit::name)
}

impl Preparing {
    /// The names in the file of `--labels`; none without it.
    ///
    /// # Errors
    /// [`InputError`] if it cannot be read.
    pub fn classes(&self) -> Result<Vec<String>, InputError> {
        let Some(path) = &self.labels else { return Ok(Vec::new()) };
        let text = std::fs::read_to_string(path).map_err(|error| {
            InputError::new(format!("cannot read --labels {}: {error}", path.display()))
                .hint("give a text file with the name of one class in each line")
        })?;
        Ok(text.lines().map(|line| line.trim().to_string()).filter(|line| !line.is_empty()).collect())
    }

    /// The size of one image in the file's order of axes, if it is given. Height and width alone are completed by the
    /// file's channels, or three where it leaves them free.
    ///
    /// # Errors
    /// [`InputError`] if that is no size of an image, or if the file cannot be read.
    pub fn sizes(&self, model: &Path) -> Result<Option<[usize; 3]>> {
        let [height, width] = match self.shape.as_ref().map(|Shape(sizes)| sizes.as_slice()) {
            None => return Ok(None),
            Some([first, second, third]) => return Ok(Some([*first, *second, *third])),
            Some([height, width]) => [*height, *width],
            Some([side]) => [*side, *side],
            Some(sizes) => {
                let problem = format!("--shape has {} sizes, an image has three", sizes.len());
                return Err(InputError::new(problem)
                    .hint("give them in the file's order of axes, such as 3x224x224, or height and width")
                    .into());
            }
        };
        let contract = OnnxFile::load(model)?.contract;
        let place = match contract.layout {
            Layout::ChannelsFirst => 1,
            Layout::ChannelsLast => 3,
        };
        let channels = match contract.input.dims.get(place) {
            Some(Dim::Fixed(channels)) => *channels,
            Some(Dim::Symbolic(_)) | None => 3,
        };
        Ok(Some(contract.layout.ordered([channels, height, width])))
    }
}
