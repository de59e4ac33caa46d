//! Building blocks of every family: named layers on a graph under construction, and the common head.

use crate::config::Activation;
use crate::graph::{Builder, Conv2d, Graph, GraphError, NodeId, Op};

/// The settings of every BatchNorm, which are PyTorch's defaults.
pub(super) const BATCH_NORM: Op = Op::BatchNorm { eps: 1e-5, momentum: 0.1 };

/// A graph under construction.
pub(super) struct Net {
    builder: Builder,
}

/// A node, or the reason why it cannot be added.
pub(super) type Layer = Result<NodeId, GraphError>;

impl Net {
    /// Starts a graph with the image, `[channels, height, width]`.
    pub fn new(input: [usize; 3]) -> Result<(Self, NodeId), GraphError> {
        let (builder, image) = Builder::new(input.to_vec())?;
        Ok((Self { builder }, image))
    }

    /// Number of channels of an image node, or of features of a vector node.
    pub fn channels(&self, node: NodeId) -> usize {
        self.builder.shape(node)[0]
    }

    /// Refuses a linear layer on an image, which it would apply to single rows of pixels.
    pub fn flat(&self, name: &str, op: &Op, x: NodeId) -> Result<(), GraphError> {
        let shape = self.builder.shape(x);
        if shape.len() == 1 {
            return Ok(());
        }
        let problem = format!("a linear layer needs [features], found {shape:?}; flatten first");
        Err(GraphError { node: name.to_string(), op: op.kind(), problem })
    }

    pub fn add(&mut self, name: impl Into<String>, op: Op, inputs: &[NodeId]) -> Layer {
        self.builder.add(name, op, inputs)
    }

    pub fn conv(&mut self, name: impl Into<String>, conv: Conv2d, x: NodeId) -> Layer {
        self.add(name, Op::Conv2d(conv), &[x])
    }

    pub fn batch_norm(&mut self, name: impl Into<String>, x: NodeId) -> Layer {
        self.add(name, BATCH_NORM, &[x])
    }

    pub fn relu(&mut self, name: impl Into<String>, x: NodeId) -> Layer {
        self.add(name, Op::Relu, &[x])
    }

    pub fn activation(&mut self, name: impl Into<String>, kind: Activation, x: NodeId) -> Layer {
        match kind {
            Activation::Relu => self.relu(name, x),
            Activation::Relu6 => self.add(name, Op::Clip { min: 0.0, max: 6.0 }, &[x]),
        }
    }

    /// Adds `<scope>.conv<suffix>` and `<scope>.bn<suffix>`.
    pub fn conv_bn(&mut self, scope: &str, suffix: &str, conv: Conv2d, x: NodeId) -> Layer {
        let x = self.conv(format!("{scope}.conv{suffix}"), conv, x)?;
        self.batch_norm(format!("{scope}.bn{suffix}"), x)
    }

    /// [`Net::conv_bn`] followed by `<scope>.relu<suffix>`.
    pub fn conv_bn_relu(&mut self, scope: &str, suffix: &str, conv: Conv2d, x: NodeId) -> Layer {
        let x = self.conv_bn(scope, suffix, conv, x)?;
        self.relu(format!("{scope}.relu{suffix}"), x)
    }

    /// A residual block: `relu(bn(conv(relu(bn(conv(x))))) + shortcut(x))`.
    pub fn basic_block(&mut self, scope: &str, channels: usize, stride: usize, x: NodeId) -> Layer {
        let inner = self.conv_bn_relu(scope, "1", Conv2d::square(channels, 3, stride), x)?;
        let body = self.conv_bn(scope, "2", Conv2d::square(channels, 3, 1), inner)?;
        let shortcut = self.shortcut(scope, channels, stride, x)?;
        let sum = self.add(format!("{scope}.add"), Op::Add, &[body, shortcut])?;
        self.relu(format!("{scope}.relu2"), sum)
    }

    /// The input itself, or a 1×1 convolution with BatchNorm where the block changes its shape.
    pub fn shortcut(&mut self, scope: &str, channels: usize, stride: usize, x: NodeId) -> Layer {
        if stride == 1 && self.channels(x) == channels {
            return Ok(x);
        }
        self.conv_bn(&format!("{scope}.shortcut"), "", Conv2d::square(channels, 1, stride), x)
    }

    /// The common head: global average pooling to the embedding, then one linear layer to the logits.
    pub fn classify(mut self, x: NodeId, classes: usize) -> Result<Graph, GraphError> {
        let pooled = self.add("pool", Op::GlobalAvgPool, &[x])?;
        let embedding = self.add("flatten", Op::Flatten, &[pooled])?;
        let logits =
            self.add("classifier", Op::Linear { out_features: classes, bias: true }, &[embedding])?;
        Ok(self.finish(logits, embedding))
    }

    pub fn finish(self, logits: NodeId, embedding: NodeId) -> Graph {
        self.builder.finish(&[(Graph::LOGITS, logits), (Graph::EMBEDDING, embedding)])
    }
}
