//! Where the networks of a pipeline come from: students, and the frozen teacher.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use serde::de::{Error, MapAccess, Visitor};
use serde::ser::SerializeMap;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::contract::{ChannelOrder, PixelRange};

/// One peer of the cohort.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Student {
    /// Names the student's files; letters, digits, `-`, `_` and `.`.
    pub name: String,
    pub model: StudentModel,
    /// Factor on the stages' learning rates.
    #[serde(default = "whole")]
    pub lr_factor: f64,
    /// The network whose last layer it reuses in the place of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub head: Option<HeadOf>,
}

/// The network whose last layer a student reuses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum HeadOf {
    /// The teacher's, frozen, behind a projector of the student's feature maps to the teacher's channels (Chen et al. 2022).
    Teacher,
}

fn whole() -> f64 {
    1.0
}

/// The network of a student.
#[derive(Debug, Clone, PartialEq)]
pub enum StudentModel {
    /// A ready architecture (`resnet20`) or the path of a model file, relative to the pipeline file.
    Named(String),
    /// A trained classifier in an ONNX file, with its weights.
    Onnx(PathBuf),
    /// A part of a trained network, with the weights of that part.
    Slim(Slim),
}

impl fmt::Display for StudentModel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StudentModel::Named(name) => f.write_str(name),
            StudentModel::Onnx(path) => write!(f, "{}", path.display()),
            StudentModel::Slim(slim) => write!(f, "{slim}"),
        }
    }
}

/// Which part of a trained network a student is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Slim {
    /// The trained network.
    pub of: SlimOf,
    /// Share of the channels of each group of coupled channels that stay.
    #[serde(default = "whole")]
    pub width: f64,
    /// How many of a group's units stay, where that is not by `width`; groups are named after their first layer.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub units: BTreeMap<String, usize>,
    /// Residual blocks that go, named after their sums.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub without: Vec<String>,
    /// Puts a BatchNorm behind each convolution from which it was folded away.
    #[serde(default = "yes")]
    pub batch_norm: bool,
    /// New weights instead of the trained ones: the same network from nothing.
    #[serde(default, skip_serializing_if = "is_false")]
    pub fresh: bool,
}

fn yes() -> bool {
    true
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde gives a reference")]
fn is_false(value: &bool) -> bool {
    !value
}

impl fmt::Display for Slim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let SlimOf::Teacher = self.of;
        write!(f, "teacher at width {}", self.width)?;
        if !self.units.is_empty() {
            write!(f, ", {} groups by count", self.units.len())?;
        }
        if !self.without.is_empty() {
            write!(f, ", without {}", self.without.join(", "))?;
        }
        if self.fresh {
            f.write_str(", with new weights")?;
        }
        Ok(())
    }
}

/// The network of which a student is a part.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SlimOf {
    Teacher,
}

impl Serialize for StudentModel {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = match self {
            StudentModel::Named(name) => return serializer.serialize_str(name),
            StudentModel::Onnx(_) | StudentModel::Slim(_) => serializer.serialize_map(Some(1))?,
        };
        match self {
            StudentModel::Named(_) => {}
            StudentModel::Onnx(path) => map.serialize_entry("onnx", path)?,
            StudentModel::Slim(slim) => map.serialize_entry("slim", slim)?,
        }
        map.end()
    }
}

/// Written by hand, because serde's untagged enums lose the place of every error.
impl<'de> Deserialize<'de> for StudentModel {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ModelVisitor;
        impl<'de> Visitor<'de> for ModelVisitor {
            type Value = StudentModel;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a ready architecture, the path of a model file, `{onnx: FILE}` or `{slim: {of: teacher, …}}`")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<StudentModel, E> {
                Ok(StudentModel::Named(text.into()))
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<StudentModel, A::Error> {
                const KEYS: [&str; 2] = ["onnx", "slim"];
                let model = match map.next_key::<String>()?.as_deref() {
                    Some("onnx") => StudentModel::Onnx(map.next_value()?),
                    Some("slim") => StudentModel::Slim(map.next_value()?),
                    Some(other) => return Err(A::Error::unknown_field(other, &KEYS)),
                    None => return Err(A::Error::missing_field("slim")),
                };
                match map.next_key::<String>()? {
                    Some(other) => {
                        Err(A::Error::custom(format!("`{other}` beside another key; a model has one")))
                    }
                    None => Ok(model),
                }
            }
        }
        deserializer.deserialize_any(ModelVisitor)
    }
}

/// A frozen teacher: `model` and `weights`, or `onnx`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TeacherSpec {
    /// A ready architecture or the path of a model file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// A safetensors file or a run folder; relative to the pipeline file, `${NAME}` is taken from the
    /// environment.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub weights: Option<PathBuf>,
    /// Which student of the run folder; if it is not written, the one that fits the model.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub student: Option<String>,
    /// A trained classifier as an ONNX file. Students are exported with its names, types and outputs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub onnx: Option<PathBuf>,
    /// The size of one image in the file's order of axes, where the file leaves it free.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shape: Option<[usize; 3]>,
    /// How the file wants its images prepared, if its metadata does not say.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prepare: Option<Prepare>,
    /// The names of the file's classes in the order of its scores, if its metadata does not say. The data's classes are
    /// found among them by name.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub classes: Vec<String>,
}

/// How pixels become the values that a file reads: `(pixel − mean) / std` per channel.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Prepare {
    /// Per channel in the file's order, on the scale of `range`.
    pub mean: Vec<f32>,
    pub std: Vec<f32>,
    /// The scale of a pixel before that.
    #[serde(default)]
    pub range: PixelRange,
    /// Which channel is first; the default is `rgb`, or `gray` for one channel.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub order: Option<ChannelOrder>,
}
