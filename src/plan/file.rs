//! A trained classifier in an ONNX file: its network for images as they are decoded, and its interface.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use anyhow::Result;

use crate::contract::{ChannelOrder, Contract, Dim, Layout, OutputKind, Preparation};
use crate::error::InputError;
use crate::graph::{Model, cost, with_channels_first, with_channels_last, with_reversed_channels};
use crate::onnx::{OnnxFile, Totals, dims_text, import};

/// A trained network that answers for images `[channels, height, width]`.
#[derive(Debug, Clone, PartialEq)]
pub enum Known {
    /// Its nodes are known: libtorch computes it, and parts of it can be taken.
    Network(Arc<Model>),
    /// Its file cannot be imported: ONNX Runtime runs it, and it can only answer.
    File(Arc<Opaque>),
}

/// A file that is run as it is.
#[derive(Debug, Clone)]
pub struct Opaque {
    /// With fixed sizes of images.
    pub file: OnnxFile,
    /// Of one image, `[channels, height, width]`.
    pub shape: [usize; 3],
    pub classes: usize,
    /// Whether the file takes the channels in the opposite order to the images it is given.
    pub reversed: bool,
    /// Why it cannot be imported.
    pub reason: String,
}

/// The same bytes and the same channels.
impl PartialEq for Opaque {
    fn eq(&self, other: &Self) -> bool {
        (&self.file.bytes, self.reversed) == (&other.file.bytes, other.reversed)
    }
}

impl Known {
    /// The shape of one image.
    pub fn shape(&self) -> Result<[usize; 3], InputError> {
        match self {
            Known::Network(model) => model.graph().input_shape().as_slice().try_into().map_err(|_| {
                let shape = model.graph().input_shape();
                InputError::new(format!("the network takes {shape:?}, and an image has three axes"))
                    .hint("give a classifier of images")
            }),
            Known::File(opaque) => Ok(opaque.shape),
        }
    }

    /// How many scores an answer has.
    pub fn classes(&self) -> usize {
        match self {
            Known::Network(model) => model.graph().classes(),
            Known::File(opaque) => opaque.classes,
        }
    }

    /// Trainable numbers, or stored ones if its nodes are not known.
    pub fn params(&self) -> u64 {
        match self {
            Known::Network(model) => cost(model.graph()).params,
            Known::File(opaque) => Totals::of(&opaque.file.rows(&HashMap::new())).params,
        }
    }

    /// Multiply-accumulates of one image, if its nodes are known.
    pub fn macs(&self) -> Option<u64> {
        self.network().map(|model| cost(model.graph()).macs)
    }

    /// The network, if its nodes are known.
    pub fn network(&self) -> Option<&Arc<Model>> {
        match self {
            Known::Network(model) => Some(model),
            Known::File(_) => None,
        }
    }

    /// The network.
    ///
    /// # Errors
    /// [`InputError`] if its nodes are not known, with the reason.
    pub fn imported(&self) -> Result<&Arc<Model>, InputError> {
        match self {
            Known::Network(model) => Ok(model),
            Known::File(opaque) => Err(InputError::new(opaque.reason.clone())
                .hint("it can be a teacher, which ONNX Runtime runs; take students from the zoo")),
        }
    }

    /// The same for channels as images are decoded, from one for the order of a preparation, and the other way round.
    ///
    /// # Errors
    /// As [`as_file_takes`].
    pub fn in_other_order(&self, preparation: &Preparation) -> Result<Self> {
        Ok(match (self, preparation.order) {
            (_, ChannelOrder::Gray | ChannelOrder::Rgb) => self.clone(),
            (Known::Network(model), ChannelOrder::Bgr) => {
                Known::Network(Arc::new(with_reversed_channels(model)?))
            }
            (Known::File(opaque), ChannelOrder::Bgr) => {
                Known::File(Arc::new(Opaque { reversed: !opaque.reversed, ..(**opaque).clone() }))
            }
        })
    }
}

/// What a file holds.
#[derive(Debug, Clone, PartialEq)]
pub struct Classifier {
    /// For images with channels in the file's order.
    pub network: Known,
    pub contract: Contract,
}

impl Classifier {
    /// Reads a file, and imports it if it can be imported; `shape` is the size of one image in the file's order of axes, if
    /// the file leaves it free.
    ///
    /// # Errors
    /// [`InputError`] if the file cannot be read, does not say the size of its images, or can neither be imported nor be run
    /// as it is, because it does not say how many scores it gives.
    pub fn open(path: &Path, shape: Option<[usize; 3]>) -> Result<Self> {
        let mut file = OnnxFile::load(path)?;
        let own = file.metadata.as_ref().map(|metadata| file.contract.layout.ordered(metadata.input));
        match (shape, file.contract.sample_shape(), own) {
            (Some(shape), ..) => file = file.with_sizes(None, &shape)?,
            (None, Some(_), _) => {}
            (None, None, Some(shape)) => file = file.with_sizes(None, &shape)?,
            (None, None, None) => {
                let dims = dims_text(&file.contract.input.dims);
                return Err(InputError::new(format!("{}: the file leaves sizes of its input free: {dims}", path.display()))
                    .hint("give the size of one image: `shape: [3, 224, 224]` in the pipeline, --shape 3x224x224 on the command line")
                    .into());
            }
        }
        let imported = match import(&file) {
            Ok(imported) => imported,
            Err(error) => {
                let contract = file.contract.clone();
                let opaque = opaque(file, &error).ok_or(error)?;
                return Ok(Self { network: Known::File(Arc::new(opaque)), contract });
            }
        };
        let network = match imported.contract.layout {
            Layout::ChannelsFirst => imported.model,
            Layout::ChannelsLast => with_channels_first(&imported.model)?,
        };
        Ok(Self { network: Known::Network(Arc::new(network)), contract: imported.contract })
    }
}

/// The file as it is, if its interface alone says that it is a classifier of images.
fn opaque(file: OnnxFile, error: &anyhow::Error) -> Option<Opaque> {
    let contract = &file.contract;
    let scores = match contract.answer().kind {
        OutputKind::Logits | OutputKind::Probabilities | OutputKind::LogProbabilities => contract.answer(),
        OutputKind::Decision | OutputKind::Embedding => return None,
    };
    let Dim::Fixed(classes) = scores.tensor.dims.get(1)? else { return None };
    let shape = contract.layout.planar(contract.image_shape()?);
    let classifies = scores.tensor.dims.len() == 2 && *classes > 1 && matches!(shape[0], 1 | 3);
    let (classes, reason) = (*classes, format!("{error:#}"));
    classifies.then_some(Opaque { file, shape, classes, reversed: false, reason })
}

/// A network for images as a file takes them, from one for `[channels, height, width]` with channels as they are decoded.
///
/// # Errors
/// If the network does not take images.
pub fn as_file_takes(network: Model, contract: &Contract) -> Result<Model> {
    let network = match &contract.preparation {
        Some(preparation) => in_other_order(network, preparation)?,
        None => network,
    };
    Ok(match contract.layout {
        Layout::ChannelsFirst => network,
        Layout::ChannelsLast => with_channels_last(&network)?,
    })
}

/// A network for the order of a preparation, from one for channels as images are decoded.
fn in_other_order(network: Model, preparation: &Preparation) -> Result<Model> {
    match preparation.order {
        ChannelOrder::Gray | ChannelOrder::Rgb => Ok(network),
        ChannelOrder::Bgr => Ok(with_reversed_channels(&network)?),
    }
}
