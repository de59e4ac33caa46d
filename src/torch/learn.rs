//! The forward pass of training, which keeps what the backward pass needs, and the forward pass of evaluation
//! with the same kernels. No autograd: `backward.rs` is its counterpart.

use anyhow::{Context, Result};
use tch::Tensor;

use crate::graph::{Conv2d, Graph, Head, Op};
use crate::kernels::{Convolution, Epilogue, Moments};

use super::elementwise::constant;
use super::forward::apply;
use super::images::{channels_last, filled_like, floats, suits};
use super::network::Network;
use super::norm::{Norm, Normalised, Running, Statistics};
use super::steps::Step;

/// The values of a forward pass, by node; nodes that were fused into a later node's step have none.
pub struct Pass {
    pub(super) values: Vec<Option<Tensor>>,
    pub(super) kept: Vec<Option<Kept>>,
    /// New running statistics, by node, where libtorch has not updated them itself.
    running: Vec<(usize, Running)>,
    pub(super) logits: usize,
    pub(super) embedding: usize,
    pub(super) features: Option<usize>,
}

/// What a node keeps for the backward pass, besides its value.
pub(super) enum Kept {
    Statistics(Statistics),
    /// The position of each maximum.
    Indices(Tensor),
}

impl Pass {
    /// `[batch, classes]`.
    pub fn logits(&self) -> Option<&Tensor> {
        self.values[self.logits].as_ref()
    }

    /// `[batch, features]`.
    pub fn embedding(&self) -> Option<&Tensor> {
        self.values[self.embedding].as_ref()
    }

    /// The feature maps before pooling, `[batch, channels, height, width]`, of a network that ends in a linear layer on them.
    pub fn features(&self) -> Option<&Tensor> {
        self.values[self.features?].as_ref()
    }
}

/// What a network answers for a batch, with the running statistics.
pub struct Answer {
    /// `[batch, classes]`.
    pub logits: Tensor,
    /// `[batch, features]`.
    pub embedding: Tensor,
    /// As [`Pass::features`].
    pub features: Option<Tensor>,
}

/// What a pass is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Purpose {
    /// Training: the batch's statistics, which update the running ones; everything is kept.
    Learn,
    /// A second look: the batch's statistics, which update nothing.
    Look,
    /// Inference: the running statistics.
    Infer,
}

impl Network {
    /// Runs a batch as in training: BatchNorm uses the batch's statistics and updates the running ones.
    ///
    /// # Errors
    /// If libtorch refuses a node, which the error names, or if an output is missing.
    pub fn learn(&mut self, images: &Tensor) -> Result<Pass> {
        let mut pass = self.pass(images, Purpose::Learn)?;
        for (node, running) in pass.running.drain(..) {
            running.store(self.params_mut(node))?;
        }
        Ok(pass)
    }

    /// As [`Network::learn`], for a batch that was already learned from: the running statistics stay.
    ///
    /// # Errors
    /// As [`Network::learn`].
    pub fn look_again(&self, images: &Tensor) -> Result<Pass> {
        self.pass(images, Purpose::Look)
    }

    /// Runs a batch as in inference.
    ///
    /// # Errors
    /// As [`Network::learn`].
    pub fn infer(&self, images: &Tensor) -> Result<Answer> {
        let pass = self.pass(images, Purpose::Infer)?;
        let logits = pass.logits().context("the pass kept its logits")?.f_flatten(1, -1)?;
        let embedding = pass.embedding().context("the pass kept its embedding")?.f_flatten(1, -1)?;
        Ok(Answer { logits, embedding, features: pass.features().map(Tensor::shallow_clone) })
    }

    fn pass(&self, images: &Tensor, purpose: Purpose) -> Result<Pass> {
        let _no_grad = tch::no_grad_guard();
        let graph = self.graph();
        let named =
            |name: &str| graph.output(name).with_context(|| format!("the graph has no output '{name}'"));
        let logits = named(Graph::LOGITS)?.index();
        // An imported network may have nothing that could be its features.
        let embedding = graph.output(Graph::EMBEDDING).map_or(logits, |id| id.index());
        let features = Head::of(graph).map(|head| head.features.index());
        let count = graph.nodes().len();
        let mut pass = Pass {
            values: (0..count).map(|_| None).collect(),
            kept: (0..count).map(|_| None).collect(),
            running: Vec::new(),
            logits,
            embedding,
            features,
        };
        let mut moments: Vec<Option<Moments>> = (0..count).map(|_| None).collect();
        let mut uses = graph.uses();
        // Kept to the end, as the outputs are.
        features.into_iter().for_each(|node| uses[node] += 1);
        for step in self.steps() {
            let node = &graph.nodes()[step.body];
            let named = || format!("node '{}'", node.name);
            let value = self.run(step, images, purpose, &mut pass, &mut moments).with_context(named)?;
            pass.values[step.output] = Some(value);
            if purpose != Purpose::Learn {
                let read = node.inputs.iter().map(|id| id.index()).chain(step.shortcut);
                for other in read {
                    uses[other] -= 1;
                    if uses[other] == 0 {
                        pass.values[other] = None;
                    }
                }
            }
        }
        Ok(pass)
    }

    fn run(
        &self,
        step: &Step,
        images: &Tensor,
        purpose: Purpose,
        pass: &mut Pass,
        moments: &mut [Option<Moments>],
    ) -> Result<Tensor> {
        let node = &self.graph().nodes()[step.body];
        let params = self.params(step.body);
        let value = |node: usize| pass.values[node].as_ref().context("a node's value comes before its use");
        let inputs = node.inputs.iter().map(|id| value(id.index())).collect::<Result<Vec<_>>>()?;
        let shortcut = step.shortcut.map(value).transpose()?;
        match (&node.op, purpose) {
            (Op::Input { .. }, _) => Ok(channels_last(&images.f_to_kind(self.compute())?)?),
            (Op::Conv2d(conv), _) => {
                let x = channels_last(inputs[0])?;
                let shift = match (purpose, step.normalised_by) {
                    (Purpose::Learn | Purpose::Look, Some(norm)) => Some(&self.params(norm)[2]),
                    (Purpose::Learn | Purpose::Look, None) | (Purpose::Infer, _) => None,
                };
                match kernel(conv, &x) {
                    Some(kernel) => {
                        let (y, found) = convolve(&kernel, &x, params, shortcut, step.relu, shift)?;
                        moments[step.body] = shift.map(|_| found);
                        Ok(y)
                    }
                    None => finish(convolve_in_torch(conv, &x, params)?, shortcut, step.relu),
                }
            }
            (Op::BatchNorm { eps, momentum }, Purpose::Learn | Purpose::Look) => {
                let momentum = if purpose == Purpose::Learn { *momentum } else { 0.0 };
                let norm = Norm { params, eps: *eps, momentum };
                let known = moments[node.inputs[0].index()].take();
                let Normalised { y, statistics, running } =
                    norm.forward(inputs[0], shortcut, step.relu, known)?;
                pass.kept[step.body] = Some(Kept::Statistics(statistics));
                pass.running.extend(running.map(|running| (step.body, running)));
                Ok(y)
            }
            (Op::MaxPool(pool), Purpose::Learn) => {
                let [kernel, stride, padding] =
                    [pool.kernel, pool.stride, pool.padding].map(|pair| pair.map(|number| number as i64));
                let (y, indices) =
                    inputs[0].f_max_pool2d_with_indices(kernel, stride, padding, [1, 1], pool.ceil_mode)?;
                pass.kept[step.body] = Some(Kept::Indices(indices));
                Ok(y)
            }
            (Op::Constant { values }, _) => {
                let like = Tensor::f_empty([0], (self.compute(), self.device()))?;
                Ok(constant(values, &like)?)
            }
            (Op::Linear { .. } | Op::LayerNorm { .. } | Op::InstanceNorm { .. }, _) => {
                let kind = inputs[0].kind();
                let params =
                    params.iter().map(|param| param.f_to_kind(kind)).collect::<Result<Vec<_>, _>>()?;
                Ok(apply(node, &params, &[inputs[0].shallow_clone()])?)
            }
            (
                Op::BatchNorm { .. }
                | Op::MaxPool(_)
                | Op::Relu
                | Op::Clip { .. }
                | Op::AvgPool { .. }
                | Op::GlobalAvgPool
                | Op::Flatten
                | Op::Add
                | Op::Concat { .. }
                | Op::Slice { .. }
                | Op::ChannelShuffle { .. }
                | Op::Unary(_)
                | Op::Binary(_)
                | Op::Where
                | Op::Softmax { .. }
                | Op::Mean { .. }
                | Op::Max { .. }
                | Op::Resize(_)
                | Op::QuantizeDequantize(_)
                | Op::Reshape { .. }
                | Op::Transpose { .. }
                | Op::Pad { .. }
                | Op::MatMul,
                _,
            ) => {
                let inputs: Vec<Tensor> = inputs.into_iter().map(Tensor::shallow_clone).collect();
                finish(apply(node, params, &inputs)?, shortcut, step.relu)
            }
        }
    }
}

/// The kernel for a convolution of these images, if one is suitable.
pub(super) fn kernel(conv: &Conv2d, x: &Tensor) -> Option<Convolution> {
    let fits = conv.kernel == [3, 3]
        && conv.stride == [1, 1]
        && conv.padding == [1, 1]
        && conv.dilation == [1, 1]
        && conv.groups == 1;
    let &[batch, inputs, height, width] = x.size().as_slice() else { return None };
    let [batch, inputs, height, width] = [batch, inputs, height, width].map(|side| side as usize);
    let kernel = Convolution { batch, height, width, inputs, outputs: conv.out_channels };
    (fits && suits(x) && kernel.supported() && kernel.worthwhile()).then_some(kernel)
}

fn convolve(
    kernel: &Convolution,
    x: &Tensor,
    params: &[Tensor],
    shortcut: Option<&Tensor>,
    relu: bool,
    shift: Option<&Tensor>,
) -> Result<(Tensor, Moments)> {
    let shortcut = shortcut.map(channels_last).transpose()?;
    // SAFETY: until this returns, only the kernel runs, which writes to the new tensor alone, and libtorch makes that.
    let read = |tensor| unsafe { floats(tensor) };
    let epilogue = Epilogue {
        bias: params.get(1).map(read),
        residual: shortcut.as_ref().map(read),
        relu,
        shift: shift.map(read),
    };
    filled_like(x, kernel.outputs as i64, |y| kernel.forward(read(x), read(&params[0]), epilogue, y))
}

fn convolve_in_torch(conv: &Conv2d, x: &Tensor, params: &[Tensor]) -> Result<Tensor> {
    let pair = |values: [usize; 2]| values.map(|value| value as i64);
    let kind = x.kind();
    let cast = |param: &Tensor| param.f_to_kind(kind);
    let (weight, bias) = (cast(&params[0])?, params.get(1).map(cast).transpose()?);
    let (stride, padding, dilation) = (pair(conv.stride), pair(conv.padding), pair(conv.dilation));
    Ok(x.f_conv2d(&weight, bias.as_ref(), stride, padding, dilation, conv.groups as i64)?)
}

fn finish(mut y: Tensor, shortcut: Option<&Tensor>, relu: bool) -> Result<Tensor> {
    if let Some(shortcut) = shortcut {
        y = y.f_add(shortcut)?;
    }
    Ok(if relu { y.f_relu()? } else { y })
}
