//! The top level of a pipeline file: data, cohort, device.

use std::fmt;
use std::path::PathBuf;

use serde::de::{Error, Unexpected, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

use crate::contract::Fit;
use crate::stage::StageKind;

use super::networks::{Student, TeacherSpec};
use super::stages::{Export, Stage};

/// Whether a name can be that of a file or folder: letters, digits, `-`, `_` and `.`, no `.` at the start, at
/// most 100 characters.
pub fn names_a_file(name: &str) -> bool {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    !name.is_empty() && !name.starts_with('.') && name.len() <= 100 && name.chars().all(allowed)
}

/// A pipeline file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pipeline {
    /// Version of this format; 1.
    pub version: u32,
    /// Names the run folder: `runs/<name>`.
    pub name: String,
    /// Seed of everything random.
    #[serde(default)]
    pub seed: u64,
    #[serde(default)]
    pub device: Device,
    #[serde(default)]
    pub precision: TrainingPrecision,
    pub data: Data,
    /// The students, two or more; their order does not matter.
    pub cohort: Vec<Student>,
    /// A frozen network that teaches all students, for methods with a teacher.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub teacher: Option<TeacherSpec>,
    pub stages: Vec<Stage>,
}

impl Pipeline {
    /// The stage of that kind, if the pipeline has one.
    pub fn stage(&self, kind: StageKind) -> Option<&Stage> {
        self.stages.iter().find(|stage| stage.kind() == kind)
    }

    /// The export's settings, or the defaults if nothing is exported.
    pub fn export(&self) -> Export {
        let settings = self.stages.iter().find_map(|stage| match stage {
            Stage::Export(settings) => Some(settings.clone()),
            Stage::Slim(_)
            | Stage::Pretrain(_)
            | Stage::Collaborate(_)
            | Stage::Select(_)
            | Stage::Verify(_)
            | Stage::Bench(_)
            | Stage::Report(_) => None,
        });
        settings.unwrap_or_default()
    }
}

/// The device on which libtorch trains: `auto`, `cpu`, `cuda` or `cuda:<index>`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(into = "String")]
pub enum Device {
    /// CUDA where libtorch sees it, else the CPU.
    #[default]
    Auto,
    Cpu,
    Cuda(usize),
}

/// Written by hand, because serde's `try_from` would lose the place of the error.
impl<'de> Deserialize<'de> for Device {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct DeviceVisitor;
        impl Visitor<'_> for DeviceVisitor {
            type Value = Device;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("auto, cpu, cuda or cuda:<index>")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Device, E> {
                let index = |text: &str| text.strip_prefix("cuda:").and_then(|index| index.parse().ok());
                match text {
                    "auto" => Ok(Device::Auto),
                    "cpu" => Ok(Device::Cpu),
                    "cuda" => Ok(Device::Cuda(0)),
                    other => index(other)
                        .map(Device::Cuda)
                        .ok_or_else(|| E::invalid_value(Unexpected::Str(other), &self)),
                }
            }
        }
        deserializer.deserialize_str(DeviceVisitor)
    }
}

impl From<Device> for String {
    fn from(device: Device) -> Self {
        match device {
            Device::Auto => "auto".into(),
            Device::Cpu => "cpu".into(),
            Device::Cuda(index) => format!("cuda:{index}"),
        }
    }
}

/// The precision of images and activations in training; weights are always float32.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TrainingPrecision {
    #[default]
    Float32,
    /// Convolutions multiply with 10-bit mantissas and sum in float32; everything else is float32. GPU only.
    Tf32,
    /// GPU only.
    Bfloat16,
}

impl TrainingPrecision {
    /// The value in a pipeline file.
    pub fn key(self) -> &'static str {
        match self {
            TrainingPrecision::Float32 => "float32",
            TrainingPrecision::Tf32 => "tf32",
            TrainingPrecision::Bfloat16 => "bfloat16",
        }
    }
}

/// The images.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Data {
    pub source: Source,
    /// Whose decisions the labels are.
    #[serde(default, skip_serializing_if = "Labels::are_own")]
    pub labels: Labels,
    /// Share of the training images, stratified by class, held out for selection.
    #[serde(default = "default_validation")]
    pub validation: f64,
    /// Takes only this many training images, including validation, stratified by class; the same ones for
    /// every seed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub images: Option<usize>,
    /// Applied to training images in this order.
    #[serde(default)]
    pub augment: Vec<Augment>,
    /// Threads that decode and augment ahead of training; 0 takes half of the cores, at least one.
    #[serde(default)]
    pub workers: usize,
}

/// Whose decisions an image's label is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Labels {
    /// The data's own.
    #[default]
    Own,
    /// The decision of the teacher's file: every score is then the share of images that are decided as it decides. A folder
    /// needs no classes, and its images are taken at any depth.
    Teacher,
}

impl Labels {
    /// Whether they are the data's own.
    pub fn are_own(&self) -> bool {
        *self == Labels::Own
    }
}

fn default_validation() -> f64 {
    0.1
}

/// The source of the images. Relative paths start at the pipeline file; `${NAME}` is taken from the environment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Source {
    /// The 8×8 handwritten digits that come with the program.
    Digits(Digits),
    /// MNIST's format: `{train,t10k}-{images-idx3,labels-idx1}-ubyte`, plain or `.gz`.
    Idx(IdxSource),
    /// CIFAR-10's binary version: `data_batch_{1..5}.bin`, `test_batch.bin`.
    Cifar10(Cifar10Source),
    /// CIFAR-100's binary version: `train.bin`, `test.bin`.
    Cifar100(Cifar100Source),
    /// One folder per class, under `train/` (and `val/`, `test/`) or directly under the root.
    Folder(FolderSource),
}

impl Source {
    /// The folder that it reads, if it reads one.
    pub fn root_mut(&mut self) -> Option<&mut PathBuf> {
        match self {
            Source::Digits(_) => None,
            Source::Idx(source) => Some(&mut source.root),
            Source::Cifar10(source) => Some(&mut source.root),
            Source::Cifar100(source) => Some(&mut source.root),
            Source::Folder(source) => Some(&mut source.root),
        }
    }

    /// How its images come to the network's size; `None` where all have one size from the start.
    pub fn fit(&self) -> Option<Fit> {
        match self {
            Source::Digits(_) | Source::Idx(_) | Source::Cifar10(_) | Source::Cifar100(_) => None,
            Source::Folder(source) => Some(source.fit),
        }
    }

    /// Its key in a pipeline file.
    pub fn name(&self) -> &'static str {
        match self {
            Source::Digits(_) => "digits",
            Source::Idx(_) => "idx",
            Source::Cifar10(_) => "cifar10",
            Source::Cifar100(_) => "cifar100",
            Source::Folder(_) => "folder",
        }
    }
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Digits {}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IdxSource {
    pub root: PathBuf,
    /// Class names in the order of the labels; without them, the labels' numbers.
    #[serde(default)]
    pub classes: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cifar10Source {
    pub root: PathBuf,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cifar100Source {
    pub root: PathBuf,
    #[serde(default)]
    pub labels: Cifar100Labels,
}

/// Which of CIFAR-100's two labels is learned.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Cifar100Labels {
    /// 20 superclasses.
    Coarse,
    /// 100 classes.
    #[default]
    Fine,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FolderSource {
    pub root: PathBuf,
    /// Height and width of every image once read, in pixels.
    pub size: [usize; 2],
    /// How an image of another size comes to that size.
    #[serde(default, skip_serializing_if = "Fit::is_stretch")]
    pub fit: Fit,
    /// 1 for grey, 3 for RGB; every image is converted.
    #[serde(default = "default_channels")]
    pub channels: usize,
    /// Share of images that is held out as the test split, stratified, where the tree has no `test/`; 0 for
    /// none.
    #[serde(default)]
    pub test: f64,
    /// What is done with JPEG files whose end is missing.
    #[serde(default, skip_serializing_if = "Truncated::is_refuse")]
    pub truncated: Truncated,
}

impl FolderSource {
    /// A folder of RGB images of that height and width, with every other key at its default.
    pub fn new(root: PathBuf, size: [usize; 2]) -> Self {
        let (fit, truncated) = (Fit::default(), Truncated::default());
        Self { root, size, fit, channels: default_channels(), test: 0.0, truncated }
    }
}

/// What is done with JPEG files whose end is missing; truncated files of other formats are always refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Truncated {
    /// An error.
    #[default]
    Refuse,
    /// What is missing becomes grey.
    Allow,
}

impl Truncated {
    fn is_refuse(&self) -> bool {
        *self == Truncated::Refuse
    }
}

fn default_channels() -> usize {
    3
}

/// One augmentation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Augment {
    /// Zero padding on every side, then a random crop of the original size.
    Crop(CropSpec),
    /// Mirror left and right.
    Flip(FlipSpec),
    /// Rotate about the centre by a random angle; uncovered pixels are black.
    Rotate(RotateSpec),
    /// Set a square at a random place to grey (DeVries & Taylor 2017).
    Cutout(CutoutSpec),
    /// Mix each image of a batch and its label with another's (Zhang et al. 2018).
    Mixup(MixSpec),
    /// Paste a rectangle of another image into each, and mix the labels by area (Yun et al. 2019).
    Cutmix(MixSpec),
}

impl Augment {
    /// Its key in a pipeline file.
    pub fn name(&self) -> &'static str {
        match self {
            Augment::Crop(_) => "crop",
            Augment::Flip(_) => "flip",
            Augment::Rotate(_) => "rotate",
            Augment::Cutout(_) => "cutout",
            Augment::Mixup(_) => "mixup",
            Augment::Cutmix(_) => "cutmix",
        }
    }

    /// Whether it needs a whole batch.
    pub fn mixes(&self) -> bool {
        match self {
            Augment::Mixup(_) | Augment::Cutmix(_) => true,
            Augment::Crop(_) | Augment::Flip(_) | Augment::Rotate(_) | Augment::Cutout(_) => false,
        }
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RotateSpec {
    /// Maximum degrees in either direction.
    pub degrees: f64,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CutoutSpec {
    /// Pixels along a side; the square's centre may be anywhere in the image.
    pub size: usize,
}

/// Settings of mixing; where a pipeline has both kinds, each batch uses one of them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MixSpec {
    /// The share is drawn from Beta(alpha, alpha), once per batch.
    pub alpha: f64,
}

impl Default for MixSpec {
    fn default() -> Self {
        Self { alpha: 1.0 }
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CropSpec {
    /// Pixels.
    pub padding: usize,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct FlipSpec {
    pub probability: f64,
}

impl Default for FlipSpec {
    fn default() -> Self {
        Self { probability: 0.5 }
    }
}
