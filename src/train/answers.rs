//! A network that answers and is not trained: computed by libtorch, or run as a file by ONNX Runtime.
//!
//! Owns how tensors reach such a file and its scores come back. Knows neither losses nor labels.

use std::cell::RefCell;

use anyhow::Result;
use ndarray::{Axis, concatenate};
use tch::{Device, Kind, Tensor};

use crate::config::EngineName;
use crate::contract::{Element, Layout, OutputKind};
use crate::engine::{Engine, EngineOptions, open, scores};
use crate::graph::{Model, fold_batch_norm};
use crate::plan::{Known, Opaque};
use crate::torch::{Answer, Network, batch_tensor, threads, to_f32};

/// Images per run of a file that leaves its batch free.
const BATCH: usize = 64;

/// A network that answers, before it is loaded.
#[derive(Clone, Copy)]
pub enum Answering<'a> {
    Network(&'a Model),
    File(&'a Opaque),
}

impl<'a> From<&'a Model> for Answering<'a> {
    fn from(model: &'a Model) -> Self {
        Answering::Network(model)
    }
}

impl<'a> From<&'a Known> for Answering<'a> {
    fn from(known: &'a Known) -> Self {
        match known {
            Known::Network(model) => Answering::Network(model),
            Known::File(opaque) => Answering::File(opaque),
        }
    }
}

/// The same, ready to answer.
pub enum Answerer<'a> {
    Network(Network),
    File(FileAnswers<'a>),
}

/// A file in ONNX Runtime.
pub struct FileAnswers<'a> {
    opaque: &'a Opaque,
    /// Engines keep buffers, so that a run changes them.
    engine: RefCell<Box<dyn Engine>>,
    device: Device,
}

impl<'a> Answerer<'a> {
    /// Loads it in float32 on `device`.
    ///
    /// # Errors
    /// [`crate::error::InputError`] if ONNX Runtime is missing or refuses the file; otherwise if memory runs out.
    pub fn new(answering: impl Into<Answering<'a>>, device: Device) -> Result<Self> {
        match answering.into() {
            Answering::Network(model) => Ok(Answerer::Network(Network::new(model, device, Kind::Float)?)),
            Answering::File(opaque) => {
                let engine = match device {
                    Device::Cuda(_) => EngineName::OrtCuda,
                    Device::Cpu | Device::Mps | Device::Vulkan => EngineName::OrtCpu,
                };
                let options = EngineOptions { threads: threads(), ..EngineOptions::default() };
                let engine = RefCell::new(open(&opaque.file, engine, &options)?);
                Ok(Answerer::File(FileAnswers { opaque, engine, device }))
            }
        }
    }

    /// Loads it for a training: a network is folded and computes in `kind`.
    ///
    /// # Errors
    /// As [`Answerer::new`].
    pub fn frozen(answering: impl Into<Answering<'a>>, device: Device, kind: Kind) -> Result<Self> {
        match answering.into() {
            Answering::Network(model) => {
                let network = Network::new(&fold_batch_norm(model)?, device, Kind::Float)?;
                Ok(Answerer::Network(network.computing_in(kind)))
            }
            file @ Answering::File(_) => Answerer::new(file, device),
        }
    }

    pub(super) fn device(&self) -> Device {
        match self {
            Answerer::Network(network) => network.device(),
            Answerer::File(file) => file.device,
        }
    }

    /// The outputs for images `[batch, channels, height, width]`. A file shows no features, and its scores take their place.
    pub(super) fn answer(&self, images: &Tensor) -> Result<Answer> {
        match self {
            Answerer::Network(network) => network.infer(images),
            Answerer::File(file) => {
                let logits = file.logits(images)?;
                Ok(Answer { embedding: logits.shallow_clone(), logits, features: None })
            }
        }
    }
}

impl FileAnswers<'_> {
    /// Logits `[batch, classes]`; of probabilities, their logarithms, which have the same softmax.
    fn logits(&self, images: &Tensor) -> Result<Tensor> {
        let contract = &self.opaque.file.contract;
        let images = if self.opaque.reversed { images.f_flip([1])? } else { images.shallow_clone() };
        let images = match contract.layout {
            Layout::ChannelsFirst => images,
            Layout::ChannelsLast => images.f_permute([0, 2, 3, 1])?,
        };
        let mut images = to_f32(&images)?;
        if let Element::Integer { .. } = contract.input.element {
            images.mapv_inplace(f32::round);
        }
        let mut parts = Vec::new();
        for part in images.axis_chunks_iter(Axis(0), contract.batch().unwrap_or(BATCH)) {
            parts.push(scores(self.engine.borrow_mut().as_mut(), part, contract.batch(), contract.answer)?);
        }
        let views: Vec<_> = parts.iter().map(|part| part.view()).collect();
        let mut scores = concatenate(Axis(0), &views)?;
        if contract.answer().kind == OutputKind::Probabilities {
            scores.mapv_inplace(|probability| probability.max(f32::MIN_POSITIVE).ln());
        }
        batch_tensor(scores.view().into_dyn(), self.device)
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::contract::{Dim, Preparation};
    use crate::graph::{Builder, Conv2d, Graph, Op, with_channels_last};
    use crate::onnx::{OnnxFile, emit, plain_contract};

    /// A file that takes channels last and first-to-last reversed, three images at a time, and gives probabilities, answers as
    /// its network does.
    #[test]
    fn a_file_answers_as_its_network_does() {
        let (mut builder, image) = Builder::new(vec![3, 4, 4]).unwrap();
        let conv = builder.add("conv", Op::Conv2d(Conv2d::square(6, 3, 1)), &[image]).unwrap();
        let flat = builder.add("flat", Op::Flatten, &[conv]).unwrap();
        let logits = builder.add("logits", Op::Linear { out_features: 5, bias: true }, &[flat]).unwrap();
        let model = Model::untrained(builder.finish(&[(Graph::LOGITS, logits)]), 3);
        let mut contract = plain_contract(model.graph());
        contract.input.dims = [3, 4, 4, 3].map(Dim::Fixed).to_vec();
        contract.layout = Layout::ChannelsLast;
        contract.outputs[0].tensor.dims[0] = Dim::Fixed(3);
        contract.outputs[0].kind = OutputKind::Probabilities;
        let bytes = emit(&with_channels_last(&model).unwrap(), &contract, None).unwrap();
        let file = OnnxFile::from_bytes(bytes, Path::new("m.onnx")).unwrap();
        let opaque = Opaque { file, shape: [3, 4, 4], classes: 5, reversed: true, reason: String::new() };
        let bgr = Preparation {
            order: crate::contract::ChannelOrder::Bgr,
            ..Preparation::bytes(3, Layout::ChannelsFirst)
        };
        let known = Known::Network(std::sync::Arc::new(model)).in_other_order(&bgr).unwrap();
        let images = Tensor::randn([7, 3, 4, 4], (Kind::Float, Device::Cpu));
        let network = Answerer::new(&known, Device::Cpu).unwrap();
        let file = Answerer::new(Answering::File(&opaque), Device::Cpu).unwrap();
        let [ours, theirs] =
            [network, file].map(|one| one.answer(&images).unwrap().logits.log_softmax(-1, Kind::Float));
        assert_eq!(theirs.size(), [7, 5]);
        let error = (ours - theirs).abs().max().double_value(&[]);
        assert!(error < 1e-5, "{error}");
    }
}
