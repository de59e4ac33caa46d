//! A model file: a family with its numbers, or a list of layers. What the numbers build, and which of them fit
//! together, is decided in `zoo`.

use std::fmt;

use serde::de::value::MapAccessDeserializer;
use serde::de::{Error, MapAccess, Visitor};
use serde::ser::SerializeMap;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::layers::LayerSpec;

/// A model file. It either starts with the key `family`, followed by the family's numbers, or has the single key
/// `layers`.
#[derive(Debug, Clone, PartialEq)]
pub enum ModelSpec {
    Family(Family),
    /// One layer after another; the last is `linear: {out: classes}`.
    Layers(Vec<LayerSpec>),
}

/// A family of networks, with the numbers that select one of its members.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "family", rename_all = "snake_case")]
pub enum Family {
    ResnetCifar(ResnetCifar),
    Wrn(Wrn),
    Vgg(Vgg),
    MobilenetV2(MobilenetV2),
    ShufflenetV2(ShufflenetV2),
    Resnet(Resnet),
    Alexnet(Alexnet),
    Squeezenet(Squeezenet),
}

impl Family {
    /// The values that `family` may have.
    pub const NAMES: [&'static str; 8] =
        ["resnet_cifar", "wrn", "vgg", "mobilenet_v2", "shufflenet_v2", "resnet", "alexnet", "squeezenet"];

    /// The value of the key `family`.
    pub fn name(&self) -> &'static str {
        match self {
            Family::ResnetCifar(_) => "resnet_cifar",
            Family::Wrn(_) => "wrn",
            Family::Vgg(_) => "vgg",
            Family::MobilenetV2(_) => "mobilenet_v2",
            Family::ShufflenetV2(_) => "shufflenet_v2",
            Family::Resnet(_) => "resnet",
            Family::Alexnet(_) => "alexnet",
            Family::Squeezenet(_) => "squeezenet",
        }
    }
}

/// ResNet for small images (He et al. 2016, arXiv 1512.03385, section 4.2): three stages of basic
/// blocks.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ResnetCifar {
    /// Weighted layers, `6n + 2`.
    pub depth: usize,
    /// Channels of the first stage; each later stage doubles them.
    #[serde(default = "channels_16")]
    pub width: usize,
    /// Channels of the first convolution; the same as `width` if it is not written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stem: Option<usize>,
}

/// Wide ResNet (Zagoruyko & Komodakis 2016, arXiv 1605.07146): pre-activation basic blocks.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Wrn {
    /// Weighted layers, `6n + 4`.
    pub depth: usize,
    /// Widening factor k: the stages have `k`, `2k` and `4k` times the stem's channels.
    #[serde(default = "one")]
    pub widen: usize,
    /// Channels of the first convolution.
    #[serde(default = "channels_16")]
    pub stem: usize,
}

/// VGG with batch normalisation and one linear layer (Simonyan & Zisserman 2015, arXiv 1409.1556).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Vgg {
    /// 8, 11, 13, 16 or 19.
    pub depth: usize,
    /// Channels of the first stage; the others have 2, 4, 8 and 8 times as many.
    #[serde(default = "channels_64")]
    pub width: usize,
}

/// MobileNetV2 (Sandler et al. 2018, arXiv 1801.04381), downsampling by 16 instead of 32.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MobilenetV2 {
    /// Factor on every stage's channels, rounded down.
    #[serde(default = "factor_1")]
    pub width: f64,
    /// Expansion factor of a block's inner channels.
    #[serde(default = "six")]
    pub expansion: usize,
    /// Stride of the first convolution; 1 suits images well below 32×32.
    #[serde(default = "two")]
    pub stem_stride: usize,
    /// Channels of the last convolution; if it is not written, 1280, times `width` where that is above 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last: Option<usize>,
    #[serde(default)]
    pub activation: Activation,
}

/// What follows a normalisation.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Activation {
    /// The form that distillation benchmarks on CIFAR use.
    #[default]
    Relu,
    /// The form in the paper.
    Relu6,
}

/// ShuffleNetV2 (Ma et al. 2018, arXiv 1807.11164) with a 1×1 stem and no first pooling.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ShufflenetV2 {
    /// 0.5, 1, 1.5 or 2: the paper's four sizes.
    #[serde(default = "factor_1")]
    pub width: f64,
}

/// ResNet with four stages (He et al. 2016, table 1), with a 3×3 stem and no first pooling.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Resnet {
    /// 18 or 34 with basic blocks, 50 with bottlenecks.
    pub depth: usize,
    /// Channels of the first stage; each later stage doubles them.
    #[serde(default = "channels_64")]
    pub width: usize,
}

/// AlexNet (Krizhevsky et al. 2012) in its form for small images: five convolutions, one linear layer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Alexnet {
    /// Channels of the first convolution; the others have 3, 6, 4 and 4 times as many.
    #[serde(default = "channels_64")]
    pub width: usize,
}

/// SqueezeNet (Iandola et al. 2016, arXiv 1602.07360) with simple bypass and BatchNorm.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Squeezenet {
    /// Factor on all channels.
    #[serde(default = "factor_1")]
    pub width: f64,
}

fn one() -> usize {
    1
}

fn two() -> usize {
    2
}

fn six() -> usize {
    6
}

fn channels_16() -> usize {
    16
}

fn channels_64() -> usize {
    64
}

fn factor_1() -> f64 {
    1.0
}

impl Serialize for ModelSpec {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            ModelSpec::Family(family) => family.serialize(serializer),
            ModelSpec::Layers(layers) => {
                let mut map = serializer.serialize_map(Some(1))?;
                map.serialize_entry("layers", layers)?;
                map.end()
            }
        }
    }
}

/// Written by hand, because serde's internal tagging first reads the whole map into a buffer, which loses the
/// line and column of every error below the tag.
impl<'de> Deserialize<'de> for ModelSpec {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(ModelVisitor)
    }
}

struct ModelVisitor;

impl<'de> Visitor<'de> for ModelVisitor {
    type Value = ModelSpec;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a model: `family` and its numbers, or `layers`")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<ModelSpec, A::Error> {
        const KEYS: [&str; 2] = ["family", "layers"];
        let first: Option<String> = map.next_key()?;
        match first.as_deref() {
            Some("family") => read_family(map).map(ModelSpec::Family),
            Some("layers") => {
                let layers = map.next_value()?;
                match map.next_key::<String>()? {
                    Some(other) => Err(A::Error::unknown_field(&other, &["layers"])),
                    None => Ok(ModelSpec::Layers(layers)),
                }
            }
            Some(
                "depth" | "width" | "widen" | "stem" | "expansion" | "stem_stride" | "last" | "activation",
            ) => Err(A::Error::custom(
                "the first key of a model must be `family`: it decides which others there are",
            )),
            Some(other) => Err(A::Error::unknown_field(other, &KEYS)),
            None => Err(A::Error::missing_field("family")),
        }
    }
}

fn read_family<'de, A: MapAccess<'de>>(mut map: A) -> Result<Family, A::Error> {
    let name: String = map.next_value()?;
    let numbers = MapAccessDeserializer::new(map);
    match name.as_str() {
        "resnet_cifar" => ResnetCifar::deserialize(numbers).map(Family::ResnetCifar),
        "wrn" => Wrn::deserialize(numbers).map(Family::Wrn),
        "vgg" => Vgg::deserialize(numbers).map(Family::Vgg),
        "mobilenet_v2" => MobilenetV2::deserialize(numbers).map(Family::MobilenetV2),
        "shufflenet_v2" => ShufflenetV2::deserialize(numbers).map(Family::ShufflenetV2),
        "resnet" => Resnet::deserialize(numbers).map(Family::Resnet),
        "alexnet" => Alexnet::deserialize(numbers).map(Family::Alexnet),
        "squeezenet" => Squeezenet::deserialize(numbers).map(Family::Squeezenet),
        other => Err(A::Error::unknown_variant(other, &Family::NAMES)),
    }
}
