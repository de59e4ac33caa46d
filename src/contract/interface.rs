//! The contract itself.

use super::normalization::Normalization;
use super::output::{Output, OutputKind};
use super::precision::Precision;
use super::preparation::{Fit, Layout, Preparation};
use super::tensor::{Dim, Element, TensorInfo};

/// The input of a network, the preparation of its images, and its outputs.
#[derive(Debug, Clone, PartialEq)]
pub struct Contract {
    /// The images: the batch first, the other axes in the order of `layout`.
    pub input: TensorInfo,
    pub layout: Layout,
    /// `None` if nothing says how images are prepared.
    pub preparation: Option<Preparation>,
    /// The outputs, at least one.
    pub outputs: Vec<Output>,
    /// Place of the output by which classes are decided.
    pub answer: usize,
    /// Class names in the order of the output's numbers; empty if they are not named.
    pub classes: Vec<String>,
    pub precision: Precision,
}

impl Contract {
    /// Name of the images in files whose contract is made here.
    pub const IMAGE: &'static str = "image";
    /// Name of the logits in files whose contract is made here.
    pub const LOGITS: &'static str = "logits";
    /// Name of the pooled features in files whose contract is made here.
    pub const EMBEDDING: &'static str = "embedding";

    /// The contract of files for which nobody asks for another one: images `[batch, channels, height, width]`
    /// of float32 under the name `image`, and `logits` `[batch, classes]`, with a free batch. The preparation
    /// of images is left open.
    pub fn classifier(image: [usize; 3], classes: Vec<String>) -> Self {
        let plain = Self::plain(&image, &[classes.len()]);
        Self { classes, ..plain }
    }

    /// The same for images and logits of any shape (for one image, without the batch), and without class names.
    pub fn plain(image: &[usize], logits: &[usize]) -> Self {
        let logits = TensorInfo::batched(Self::LOGITS, logits);
        Self {
            input: TensorInfo::batched(Self::IMAGE, image),
            layout: Layout::ChannelsFirst,
            preparation: None,
            outputs: vec![Output { tensor: logits, kind: OutputKind::Logits }],
            answer: 0,
            classes: Vec::new(),
            precision: Precision::default(),
        }
    }

    /// The same contract with an embedding of the given shape (for one image) as one more output.
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

    /// The sizes of one image's axes, in the order of `layout`, if the input is images of a fixed size.
    pub fn image_shape(&self) -> Option<[usize; 3]> {
        self.sample_shape()?.try_into().ok()
    }

    /// The output by which classes are decided.
    pub fn answer(&self) -> &Output {
        &self.outputs[self.answer]
    }

    /// The preparation of images, where `data` and `fit` are a data set's own: what the contract says; if it does
    /// not say, bytes for an integer input, and otherwise the data set's normalisation.
    pub fn preparation_or(&self, data: &Normalization, fit: Fit) -> Preparation {
        let own = match (&self.preparation, self.input.element) {
            (Some(preparation), _) => return preparation.clone(),
            (None, Element::Integer { .. }) => Preparation::bytes(data.mean.len(), self.layout),
            (None, Element::Float32 | Element::Float16 | Element::BFloat16 | Element::Float64) => {
                Preparation::of(data, self.layout)
            }
        };
        Preparation { fit, ..own }
    }
}
