//! The contract itself.

use super::normalization::Normalization;
use super::output::{Output, OutputKind};
use super::precision::Precision;
use super::preparation::{Layout, Preparation};
use super::tensor::{Dim, Element, TensorInfo};

/// What a network takes, how images are prepared for it, and what it answers.
#[derive(Debug, Clone, PartialEq)]
pub struct Contract {
    /// The images, the batch first, axes in the order of `layout`.
    pub input: TensorInfo,
    pub layout: Layout,
    /// `None` where nobody says how images are prepared.
    pub preparation: Option<Preparation>,
    /// At least one.
    pub outputs: Vec<Output>,
    /// Class names in the order of the answer's numbers; empty where nobody names them.
    pub classes: Vec<String>,
    pub precision: Precision,
}

impl Contract {
    /// Name of the images in files that this program defines.
    pub const IMAGE: &'static str = "image";
    /// Name of the logits in files that this program defines.
    pub const LOGITS: &'static str = "logits";
    /// Name of the pooled features in files that this program defines.
    pub const EMBEDDING: &'static str = "embedding";

    /// The contract of the files that this program defines: images `[batch, channels, height, width]` of float32 under
    /// the name `image`, and `logits` `[batch, classes]`, with a free batch. How images are prepared is left open.
    pub fn classifier(image: [usize; 3], classes: Vec<String>) -> Self {
        let logits = TensorInfo::batched(Self::LOGITS, &[classes.len()]);
        Self {
            input: TensorInfo::batched(Self::IMAGE, &image),
            layout: Layout::ChannelsFirst,
            preparation: None,
            outputs: vec![Output { tensor: logits, kind: OutputKind::Logits }],
            classes,
            precision: Precision::default(),
        }
    }

    /// The same with the embedding of so many features as one more output.
    pub fn with_embedding(mut self, features: &[usize]) -> Self {
        let tensor = TensorInfo::batched(Self::EMBEDDING, features);
        self.outputs.push(Output { tensor, kind: OutputKind::Embedding });
        self
    }

    /// The batch size, if it is fixed.
    pub fn batch(&self) -> Option<usize> {
        match self.input.dims.first() {
            Some(Dim::Fixed(size)) => Some(*size),
            Some(Dim::Symbolic(_)) | None => None,
        }
    }

    /// The sizes of one sample's axes, if they are fixed.
    pub fn sample_shape(&self) -> Option<Vec<usize>> {
        self.input.sample_shape()
    }

    /// The sizes of one image's axes, in the order of `layout`, if the input is images of fixed size.
    pub fn image_shape(&self) -> Option<[usize; 3]> {
        self.sample_shape()?.try_into().ok()
    }

    /// Place of the output that classes are decided by: the one that is called `logits`, else the first.
    pub fn answer_place(&self) -> usize {
        self.outputs.iter().position(|output| output.tensor.name == Self::LOGITS).unwrap_or(0)
    }

    /// The output that classes are decided by.
    pub fn answer(&self) -> &Output {
        &self.outputs[self.answer_place()]
    }

    /// How images are prepared where `data` says how a data set normalises its own: as the contract says; where it
    /// does not, bytes for an input of whole numbers, and otherwise as the data set has it.
    pub fn preparation_or(&self, data: &Normalization) -> Preparation {
        match (&self.preparation, self.input.element) {
            (Some(preparation), _) => preparation.clone(),
            (None, Element::Integer { .. }) => Preparation::bytes(data.mean.len(), self.layout),
            (None, Element::Float32 | Element::Float16 | Element::BFloat16 | Element::Float64) => {
                Preparation::of(data, self.layout)
            }
        }
    }
}
