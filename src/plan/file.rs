//! A trained classifier in an ONNX file: its network for images as they are decoded, and its interface.

use std::path::Path;

use anyhow::Result;

use crate::contract::{ChannelOrder, Contract, Layout, Preparation};
use crate::error::InputError;
use crate::graph::{Model, with_channels_first, with_channels_last, with_reversed_channels};
use crate::onnx::{OnnxFile, dims_text, import};

/// What a file holds.
#[derive(Debug, Clone, PartialEq)]
pub struct Classifier {
    /// The network for images `[channels, height, width]` with channels in the file's order.
    pub network: Model,
    pub contract: Contract,
}

/// Reads and imports a file; `shape` is the size of one image in the file's order of axes, if the file leaves it free.
///
/// # Errors
/// [`InputError`] if the file cannot be read or imported, or does not say the size of its images.
pub fn import_classifier(path: &Path, shape: Option<[usize; 3]>) -> Result<Classifier> {
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
    let imported = import(&file)?;
    let network = match imported.contract.layout {
        Layout::ChannelsFirst => imported.model,
        Layout::ChannelsLast => with_channels_first(&imported.model)?,
    };
    Ok(Classifier { network, contract: imported.contract })
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

/// A network for channels as images are decoded, from one for the order of a preparation, and the other way round.
///
/// # Errors
/// As [`as_file_takes`].
pub fn in_other_order(network: Model, preparation: &Preparation) -> Result<Model> {
    match preparation.order {
        ChannelOrder::Gray | ChannelOrder::Rgb => Ok(network),
        ChannelOrder::Bgr => Ok(with_reversed_channels(&network)?),
    }
}
