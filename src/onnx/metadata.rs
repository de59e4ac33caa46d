//! What an exported file says about itself: classes, preprocessing, where it comes from.

use serde::{Deserialize, Serialize};
use tract_onnx::pb::{ModelProto, StringStringEntryProto};

/// Key of the JSON document in the file's `metadata_props`.
const KEY: &str = "cohort";

/// Kept as one JSON document under the key `cohort`. A pixel is divided by 255, then normalised by
/// channel; images are stretched to `input` with a bilinear, antialiased filter; three channels are
/// RGB.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Metadata {
    /// Class names in the order of the logits.
    pub classes: Vec<String>,
    /// `[channels, height, width]`.
    pub input: [usize; 3],
    /// Per channel, on the scale 0 to 1.
    pub mean: Vec<f32>,
    /// Per channel, on the scale 0 to 1.
    pub std: Vec<f32>,
    /// The student's name in its cohort.
    pub student: String,
    /// The pipeline's name.
    pub run: String,
}

impl Metadata {
    pub(super) fn to_props(&self) -> Result<Vec<StringStringEntryProto>, serde_json::Error> {
        Ok(vec![StringStringEntryProto { key: KEY.into(), value: serde_json::to_string(self)? }])
    }

    /// Reads a file's own word; `None` if it says nothing, or nothing that fits together.
    pub(super) fn from_model(model: &ModelProto) -> Option<Self> {
        let entry = model.metadata_props.iter().find(|entry| entry.key == KEY)?;
        let metadata: Self = serde_json::from_str(&entry.value).ok()?;
        let channels = metadata.input[0];
        let whole = metadata.mean.len() == channels && metadata.std.len() == channels;
        let usable = metadata.std.iter().chain(&metadata.mean).all(|value| value.is_finite());
        (whole && usable && metadata.std.iter().all(|&std| std > 0.0)).then_some(metadata)
    }
}
