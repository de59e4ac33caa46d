//! The metadata of an exported file: classes, preprocessing, score, and where it comes from.

use serde::{Deserialize, Serialize};
use tract_onnx::pb::{ModelProto, StringStringEntryProto};

use crate::contract::{ChannelOrder, Fit, Layout, Normalization, PixelRange, Preparation, Resize};
use crate::task::Score;

/// Key of the JSON document in the file's `metadata_props`.
const KEY: &str = "cohort";

/// Stored as one JSON document under the key `cohort`. An image is brought to `input` as `fit` says, with the
/// filter `resize`; its pixels are scaled to `range` and normalised per channel, with channels in `channel_order`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Written")]
pub struct Metadata {
    /// Class names in the order of the logits.
    pub classes: Vec<String>,
    /// `[channels, height, width]`.
    pub input: [usize; 3],
    pub channel_order: ChannelOrder,
    pub resize: Resize,
    #[serde(skip_serializing_if = "Fit::is_stretch")]
    pub fit: Fit,
    pub range: PixelRange,
    /// Per channel, on the scale of `range`.
    pub mean: Vec<f32>,
    /// Per channel, on the scale of `range`.
    pub std: Vec<f32>,
    /// The normalisation that the file does by itself; `mean` is then 0 and `std` is 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub normalizes: Option<Normalization>,
    /// The score of the file in the run that exported it.
    #[serde(rename = "accuracy", skip_serializing_if = "Option::is_none")]
    pub score: Option<Scored>,
    /// The student's name in its cohort.
    pub student: String,
    /// The pipeline's name.
    pub run: String,
}

/// Right decisions on a labelled split.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Scored {
    pub split: ScoredSplit,
    pub images: usize,
    pub right: usize,
}

/// The split on which a score was taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ScoredSplit {
    Test,
    /// The split on which the choice was made, where there is no test split.
    Validation,
}

impl ScoredSplit {
    pub fn name(self) -> &'static str {
        match self {
            ScoredSplit::Test => "test",
            ScoredSplit::Validation => "validation",
        }
    }
}

impl Scored {
    pub fn of(split: ScoredSplit, score: &Score) -> Self {
        Self { split, images: score.images, right: score.right() }
    }

    /// Share of right decisions.
    pub fn share(&self) -> f64 {
        self.right as f64 / self.images.max(1) as f64
    }
}

/// The document as it may be found. Files of earlier versions leave out what had only one possible value then.
#[derive(Deserialize)]
struct Written {
    classes: Vec<String>,
    input: [usize; 3],
    channel_order: Option<ChannelOrder>,
    #[serde(default)]
    resize: Resize,
    #[serde(default)]
    fit: Fit,
    #[serde(default)]
    range: PixelRange,
    mean: Vec<f32>,
    std: Vec<f32>,
    normalizes: Option<Normalization>,
    #[serde(rename = "accuracy")]
    score: Option<Scored>,
    student: String,
    run: String,
}

impl TryFrom<Written> for Metadata {
    type Error = String;

    fn try_from(written: Written) -> Result<Self, String> {
        let Written { classes, input, channel_order, resize, fit, range, mean, std, .. } = written;
        let Written { normalizes, score, student, run, .. } = written;
        let channels = input[0];
        let channel_order = channel_order.unwrap_or(ChannelOrder::decoded(channels));
        match channel_order {
            ChannelOrder::Gray if channels != 1 => return Err(format!("{channels} channels are not gray")),
            ChannelOrder::Bgr if channels != 3 => return Err(format!("{channels} channels are not bgr")),
            ChannelOrder::Gray | ChannelOrder::Rgb | ChannelOrder::Bgr => {}
        }
        let inside = normalizes.iter().map(|inside| (&inside.mean, &inside.std));
        for (mean, std) in std::iter::once((&mean, &std)).chain(inside) {
            can_normalize(channels, mean, std)?;
        }
        if score.is_some_and(|scored| scored.right > scored.images) {
            return Err("more images are answered rightly than there are".into());
        }
        Ok(Self {
            classes,
            input,
            channel_order,
            resize,
            fit,
            range,
            mean,
            std,
            normalizes,
            score,
            student,
            run,
        })
    }
}

fn can_normalize(channels: usize, mean: &[f32], std: &[f32]) -> Result<(), String> {
    if mean.len() != channels || std.len() != channels {
        return Err(format!("mean {mean:?} and std {std:?} for {channels} channels"));
    }
    if !mean.iter().all(|mean| mean.is_finite()) || !std.iter().all(|std| std.is_finite() && *std > 0.0) {
        return Err(format!("nothing can be normalised with mean {mean:?} and std {std:?}"));
    }
    Ok(())
}

impl Metadata {
    /// The preparation of the file's images, whose axes the file takes in this order.
    pub fn preparation(&self, layout: Layout) -> Preparation {
        Preparation {
            resize: self.resize,
            fit: self.fit,
            order: self.channel_order,
            range: self.range,
            normalization: Normalization { mean: self.mean.clone(), std: self.std.clone() },
            layout,
        }
    }

    pub(super) fn to_props(&self) -> Result<Vec<StringStringEntryProto>, serde_json::Error> {
        Ok(vec![StringStringEntryProto { key: KEY.into(), value: serde_json::to_string(self)? }])
    }

    /// Reads a file's own metadata; `None` if it has none.
    ///
    /// # Errors
    /// If it asks for something that is not possible.
    pub(super) fn from_model(model: &ModelProto) -> Result<Option<Self>, String> {
        let entry = model.metadata_props.iter().find(|entry| entry.key == KEY);
        let read = entry.map(|entry| serde_json::from_str(&entry.value)).transpose();
        read.map_err(|error| format!("its metadata under '{KEY}' cannot be used: {error}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EARLIER: &str = r#"{"classes": ["a"], "input": [3, 8, 8], "mean": [0.5, 0.5, 0.5], "std": [0.2, 0.2, 0.2],
        "student": "one", "run": "test"}"#;

    #[test]
    fn files_of_earlier_versions_say_what_was_true_then() {
        let read: Metadata = serde_json::from_str(EARLIER).unwrap();
        assert_eq!((read.channel_order, read.range), (ChannelOrder::Rgb, PixelRange::Unit));
        assert_eq!((read.resize, read.fit, read.score), (Resize::BilinearAntialiased, Fit::Stretch, None));
        let written = serde_json::to_value(&read).unwrap();
        assert_eq!(written["channel_order"], "rgb");
        assert_eq!(written["range"], "0..1");
        assert_eq!(written["resize"], "bilinear-antialiased");
        assert_eq!(written.get("fit"), None);
        assert_eq!(serde_json::from_value::<Metadata>(written).unwrap(), read);
    }

    #[test]
    fn the_fit_is_read_as_it_was_written() {
        for fit in Fit::ALL {
            let metadata = Metadata { fit, ..serde_json::from_str(EARLIER).unwrap() };
            let written = serde_json::to_string(&metadata).unwrap();
            let read: Metadata = serde_json::from_str(&written).unwrap();
            assert_eq!((&read, read.preparation(Layout::ChannelsFirst).fit), (&metadata, fit), "{written}");
        }
    }

    #[test]
    fn what_cannot_be_followed_is_named() {
        let cases = [
            (r#""run": "test""#, r#""run": "test", "resize": "nearest""#, "unknown variant `nearest`"),
            (r#""run": "test""#, r#""run": "test", "fit": "pad""#, "unknown variant `pad`"),
            (r#""run": "test""#, r#""run": "test", "channel_order": "gray""#, "3 channels are not gray"),
            (r#""run": "test""#, r#""run": "test", "range": "0..7""#, "unknown variant `0..7`"),
            ("[0.5, 0.5, 0.5]", "[0.5]", "mean [0.5] and std [0.2, 0.2, 0.2] for 3 channels"),
            ("[0.2, 0.2, 0.2]", "[0.2, 0.0, 0.2]", "nothing can be normalised"),
            (
                r#""run": "test""#,
                r#""run": "test", "normalizes": {"mean": [0.5], "std": [0.2]}"#,
                "mean [0.5] and std [0.2] for 3 channels",
            ),
            (
                r#""run": "test""#,
                r#""run": "test", "accuracy": {"split": "test", "images": 3, "right": 4}"#,
                "more images are answered rightly",
            ),
        ];
        for (from, to, problem) in cases {
            let error = serde_json::from_str::<Metadata>(&EARLIER.replace(from, to)).unwrap_err().to_string();
            assert!(error.contains(problem), "{error} should say {problem}");
        }
    }
}
