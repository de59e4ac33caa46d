//! The backward pass: every operation's gradient, in the reverse order of the steps.

use anyhow::{Context, Result};
use tch::Tensor;

use crate::graph::{Conv2d, Node, Op};

use super::forward::apply;
use super::images::{channel_shuffle, channels_last, filled_like, floats, floats_mut};
use super::learn::{Kept, Pass, kernel};
use super::network::Network;
use super::norm::Norm;
use super::shim;
use super::steps::Step;

/// The gradient that has reached each node.
struct Arrived(Vec<Option<Tensor>>);

impl Arrived {
    /// Adds a gradient to what has arrived; tensors may be shared, so nothing is changed in place.
    fn add(&mut self, node: usize, gradient: Tensor) -> Result<()> {
        let sum = match self.0[node].take() {
            Some(other) => other.f_add(&gradient)?,
            None => gradient,
        };
        self.0[node] = Some(sum);
        Ok(())
    }
}

/// Where a backward pass starts: the gradients of a network's outputs.
pub struct Gradients {
    pub logits: Tensor,
    pub embedding: Option<Tensor>,
    /// Of the feature maps.
    pub features: Option<Tensor>,
}

impl Gradients {
    /// Only the logits have one.
    pub fn of_logits(logits: Tensor) -> Self {
        Self { logits, embedding: None, features: None }
    }
}

impl Network {
    /// Runs the backward pass of a forward pass from the gradients of its outputs, and leaves the gradients of the
    /// parameters in [`Network::gradient`].
    ///
    /// # Errors
    /// If libtorch refuses a node; the error names it.
    pub fn backward(&mut self, mut pass: Pass, outputs: &Gradients) -> Result<()> {
        let _no_grad = tch::no_grad_guard();
        let mut arrived = Arrived((0..pass.values.len()).map(|_| None).collect());
        for (node, gradient) in [
            (Some(pass.logits), Some(&outputs.logits)),
            (Some(pass.embedding), outputs.embedding.as_ref()),
            (pass.features, outputs.features.as_ref()),
        ] {
            if let (Some(node), Some(gradient)) = (node, gradient) {
                let shape = pass.values[node].as_ref().context("a pass keeps its outputs")?.size();
                arrived.add(node, gradient.f_to_kind(self.compute())?.f_view(&shape[..])?)?;
            }
        }
        for index in (0..self.steps().len()).rev() {
            let step = self.steps()[index].clone();
            if let Some(gradient) = arrived.0[step.output].take() {
                let name = self.graph().nodes()[step.body].name.clone();
                self.back(&step, gradient, &mut pass, &mut arrived)
                    .with_context(|| format!("the backward pass through node '{name}'"))?;
            }
            pass.values[step.output] = None;
        }
        self.forget_fixed()
    }

    fn back(&mut self, step: &Step, dy: Tensor, pass: &mut Pass, arrived: &mut Arrived) -> Result<()> {
        let (node, params, own) = self.node_and_gradients(step.body);
        let value = |node: usize| pass.values[node].as_ref().context("a value is kept for the backward pass");
        let output = if step.relu { Some(value(step.output)?) } else { None };
        let first = node.inputs.first().map(|id| id.index());
        if let (Op::BatchNorm { eps, momentum }, Some(input)) = (&node.op, first) {
            let norm = Norm { params, eps: *eps, momentum: *momentum };
            let kept = pass.kept[step.body].take();
            let Some(Kept::Statistics(statistics)) = kept else { anyhow::bail!("no statistics were kept") };
            let gradients =
                norm.backward(&dy, value(input)?, output, step.shortcut.is_some(), &statistics, own)?;
            if let (Some(shortcut), Some(gradient)) = (step.shortcut, gradients.shortcut) {
                arrived.add(shortcut, gradient)?;
            }
            return arrived.add(input, gradients.input);
        }
        let dy = match output {
            Some(output) => output.f_threshold_backward(&dy, 0.0)?,
            None => dy,
        };
        if let Some(shortcut) = step.shortcut {
            arrived.add(shortcut, dy.shallow_clone())?;
        }
        if let (Op::Conv2d(conv), Some(input)) = (&node.op, first) {
            let x = channels_last(value(input)?)?;
            let of_input = input > 0;
            let other = arrived.0[input].take();
            let dx = convolution(conv, &channels_last(&dy)?, &x, params, other, of_input, own)?;
            arrived.0[input] = dx;
            return Ok(());
        }
        let indices = match pass.kept[step.body].take() {
            Some(Kept::Indices(indices)) => Some(indices),
            Some(Kept::Statistics(_)) | None => None,
        };
        let inputs = node.inputs.iter().map(|id| value(id.index())).collect::<Result<Vec<_>>>()?;
        let gradients = others(node, &dy, &inputs, value(step.output)?, params, indices.as_ref(), own)?;
        let targets: Vec<usize> = node.inputs.iter().map(|id| id.index()).collect();
        for (target, gradient) in targets.into_iter().zip(gradients) {
            arrived.add(target, gradient)?;
        }
        Ok(())
    }
}

/// The gradient of a convolution's input, plus what else has arrived there; the gradients of its parameters are
/// written to `own`.
fn convolution(
    conv: &Conv2d,
    dy: &Tensor,
    x: &Tensor,
    params: &[Tensor],
    other: Option<Tensor>,
    of_input: bool,
    own: &mut [Tensor],
) -> Result<Option<Tensor>> {
    if let Some(kernel) = kernel(conv, x) {
        // SAFETY: a slice is used by one kernel and gone when that returns; until then libtorch at most makes the new tensor
        // that the kernel writes to.
        let read = |tensor| unsafe { floats(tensor) };
        // SAFETY: as above; the place is part of the flat gradient, which nothing else uses meanwhile.
        kernel.weight_gradient(read(x), read(dy), unsafe { floats_mut(&mut own[0]) });
        if conv.bias {
            let sum = dy.f_sum_dim_intlist(&[0i64, 2, 3][..], false, own[1].kind())?;
            own[1].f_copy_(&sum)?;
        }
        if !of_input {
            return Ok(None);
        }
        let other = other.as_ref().map(channels_last).transpose()?;
        let other = other.as_ref().map(read);
        let fill = |dx: &mut [f32]| kernel.input_gradient(read(dy), read(&params[0]), other, dx);
        let (dx, ()) = filled_like(x, kernel.inputs as i64, fill)?;
        return Ok(Some(dx));
    }
    let weight = params[0].f_to_kind(x.kind())?;
    let [dx, of_weight, of_bias] = match skips_pixels(conv, x) {
        true => of_pixels(conv, dy, x, &weight, of_input)?,
        false => shim::convolution_backward(dy, x, &weight, conv, of_input)?,
    };
    own[0].f_copy_(&of_weight.context("a gradient of the weight")?)?;
    if let Some(of_bias) = of_bias {
        own[1].f_copy_(&of_bias)?;
    }
    Ok(match (dx, other) {
        (Some(dx), Some(other)) => Some(dx.f_add(&other)?),
        (dx, _) => dx,
    })
}

/// Input channels below which oneDNN spoils memory in [`skips_pixels`]; a register of AVX-512 holds as many.
const WHOLE_REGISTER: i64 = 16;

/// Whether a convolution reads single pixels with a stride and has few input channels: libtorch 2.11's oneDNN writes beyond its
/// buffer in the gradient of such weights on a CPU with AVX-512, from Python as well.
fn skips_pixels(conv: &Conv2d, x: &Tensor) -> bool {
    let single = conv.kernel == [1, 1] && conv.padding == [0, 0] && conv.groups == 1;
    single && conv.stride != [1, 1] && x.size()[1] < WHOLE_REGISTER && x.device() == tch::Device::Cpu
}

/// The gradients of such a convolution, as that of the pixels that it reads, without a stride.
fn of_pixels(
    conv: &Conv2d,
    dy: &Tensor,
    x: &Tensor,
    weight: &Tensor,
    of_input: bool,
) -> Result<[Option<Tensor>; 3]> {
    let [rows, columns] = conv.stride.map(|stride| stride as i64);
    let read = |tensor: &Tensor| tensor.f_slice(2, None, None, rows)?.f_slice(3, None, None, columns);
    let whole = Conv2d { stride: [1, 1], ..conv.clone() };
    let [dx, of_weight, of_bias] =
        shim::convolution_backward(dy, &channels_last(&read(x)?)?, weight, &whole, of_input)?;
    let spread = |dx: Tensor| -> Result<Tensor> {
        let all = x.f_zeros_like()?;
        read(&all)?.f_copy_(&dx)?;
        Ok(all)
    };
    Ok([dx.map(spread).transpose()?, of_weight, of_bias])
}

/// The gradients of a node's inputs.
fn others(
    node: &Node,
    dy: &Tensor,
    inputs: &[&Tensor],
    y: &Tensor,
    params: &[Tensor],
    indices: Option<&Tensor>,
    own: &mut [Tensor],
) -> Result<Vec<Tensor>> {
    let pair = |values: [usize; 2]| values.map(|value| value as i64);
    let Some(&x) = inputs.first() else { return Ok(Vec::new()) };
    let gradient = match &node.op {
        Op::Input { .. } | Op::Constant { .. } | Op::Conv2d(_) | Op::BatchNorm { .. } => {
            return Ok(Vec::new());
        }
        Op::Relu => y.f_threshold_backward(dy, 0.0)?,
        Op::Clip { min, max } => x.f_hardtanh_backward(dy, *min, *max)?,
        Op::MaxPool(pool) => x.f_max_pool2d_with_indices_backward(
            dy,
            pair(pool.kernel),
            pair(pool.stride),
            pair(pool.padding),
            [1, 1],
            pool.ceil_mode,
            indices.context("places of the maxima are kept")?,
        )?,
        Op::AvgPool { pool, count_include_pad } => x.f_avg_pool2d_backward(
            dy,
            pair(pool.kernel),
            pair(pool.stride),
            pair(pool.padding),
            pool.ceil_mode,
            *count_include_pad,
            None,
        )?,
        Op::GlobalAvgPool => {
            let size = x.size();
            let area = (size[2] * size[3]) as f64;
            (dy / area).f_expand(size.as_slice(), false)?
        }
        Op::Flatten | Op::Reshape { .. } => dy.f_reshape(x.size().as_slice())?,
        Op::Linear { .. } => {
            let rows = |tensor: &Tensor| tensor.f_reshape([-1, tensor.size().last().copied().unwrap_or(1)]);
            let (dy_rows, x_rows) = (rows(dy)?, rows(x)?);
            own[0].f_copy_(&dy_rows.f_transpose(0, 1)?.f_matmul(&x_rows)?)?;
            if let Some(bias) = own.get_mut(1) {
                let sum = dy_rows.f_sum_dim_intlist(&[0i64][..], false, bias.kind())?;
                bias.f_copy_(&sum)?;
            }
            dy.f_matmul(&params[0].f_to_kind(dy.kind())?)?
        }
        Op::Add => return Ok(inputs.iter().map(|_| dy.shallow_clone()).collect()),
        Op::Concat { axis } => {
            let axis = *axis as i64 + 1;
            let mut start = 0;
            let mut pieces = Vec::with_capacity(inputs.len());
            for input in inputs {
                let length = input.size()[axis as usize];
                pieces.push(dy.f_narrow(axis, start, length)?);
                start += length;
            }
            return Ok(pieces);
        }
        Op::Slice { axis, start, end, step } => {
            let whole = x.f_zeros_like()?;
            let (start, end, step) = (*start as i64, *end as i64, *step as i64);
            whole.f_slice(*axis as i64 + 1, start, end, step)?.f_copy_(dy)?;
            whole
        }
        Op::ChannelShuffle { groups } => channel_shuffle(dy, x.size()[1] / *groups as i64)?,
        Op::Unary(_)
        | Op::Binary(_)
        | Op::Where
        | Op::Softmax { .. }
        | Op::LayerNorm { .. }
        | Op::Mean { .. }
        | Op::Max { .. }
        | Op::InstanceNorm { .. }
        | Op::Resize(_)
        | Op::QuantizeDequantize(_)
        | Op::Transpose { .. }
        | Op::Pad { .. }
        | Op::MatMul => return by_autograd(node, dy, inputs, params, own),
    };
    Ok(vec![gradient])
}

/// The gradients of a node's inputs by libtorch's autograd on this one node; those of its parameters are written
/// to `own`.
fn by_autograd(
    node: &Node,
    dy: &Tensor,
    inputs: &[&Tensor],
    params: &[Tensor],
    own: &mut [Tensor],
) -> Result<Vec<Tensor>> {
    let leaf = |tensor: &Tensor| tensor.f_to_kind(dy.kind())?.f_detach()?.f_set_requires_grad(true);
    let inputs = inputs.iter().map(|tensor| leaf(tensor)).collect::<Result<Vec<_>, _>>()?;
    let params = params.iter().map(leaf).collect::<Result<Vec<_>, _>>()?;
    let sum = tch::with_grad(|| -> Result<Tensor> {
        Ok(apply(node, &params, &inputs)?.f_mul(dy)?.f_sum(dy.kind())?)
    })?;
    let leaves: Vec<&Tensor> = inputs.iter().chain(&params).collect();
    let mut gradients = Tensor::f_run_backward(&[sum], &leaves, false, false)?;
    let of_params = gradients.split_off(inputs.len());
    for (place, gradient) in own.iter_mut().zip(&of_params) {
        place.f_copy_(gradient)?;
    }
    Ok(gradients)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::parse;
    use crate::graph::{Graph, Model};
    use crate::torch::Mode;
    use crate::zoo;
    use tch::{Device, Kind};

    const IRREGULAR: &str = "layers:
- conv: {out: 16, bias: true}
- relu
- batch_norm
- conv: {out: 16}
- residual: {body: [conv: {out: 16}, batch_norm, relu6], shortcut: [batch_norm]}
- max_pool: {kernel: 3, stride: 2, padding: 1}
- residual: {body: [conv: {out: 16, bias: true}], shortcut: [conv: {out: 16, kernel: 1}, batch_norm]}
- relu
- avg_pool: {kernel: 2, stride: 1, padding: 1}
- conv: {out: 12, stride: 2, groups: 4}
- channel_shuffle: {groups: 3}
- relu
- global_avg_pool
- flatten
- linear: {out: 7}
- linear: {out: classes}
";

    /// A shortcut of few channels: libtorch's own gradient spoils memory for these sizes.
    #[test]
    fn single_pixels_with_a_stride_have_their_gradient() {
        for (inputs, outputs, side, stride) in
            [(8, 15, 64, [2, 2]), (12, 8, 33, [3, 2]), (15, 16, 64, [2, 2])]
        {
            let conv = Conv2d { stride, ..Conv2d::square(outputs, 1, 1) };
            let options = (Kind::Double, Device::Cpu);
            let x = channels_last(&Tensor::randn([8, inputs, side, side], options)).unwrap();
            let weight = Tensor::randn([outputs as i64, inputs, 1, 1], options);
            let [rows, columns] = stride.map(|stride| (side - 1) / stride as i64 + 1);
            let dy = channels_last(&Tensor::randn([8, outputs as i64, rows, columns], options)).unwrap();
            let expected = shim::convolution_backward(&dy, &x, &weight, &conv, true).unwrap();
            let single = |tensor: &Tensor| tensor.to_kind(Kind::Float);
            for _ in 0..20 {
                assert!(skips_pixels(&conv, &x));
                let found = of_pixels(&conv, &single(&dy), &single(&x), &single(&weight), true).unwrap();
                for (found, expected) in found.iter().zip(&expected).take(2) {
                    let (found, expected) = (found.as_ref().unwrap(), expected.as_ref().unwrap());
                    assert!(apart(&found.to_kind(Kind::Double), expected) < 1e-5);
                }
            }
        }
    }

    /// The largest difference of two tensors, divided by the largest value of the second.
    fn apart(found: &Tensor, expected: &Tensor) -> f64 {
        let scale = expected.abs().max().double_value(&[]).max(1e-12);
        (found - expected).abs().max().double_value(&[]) / scale
    }

    fn graph(model: &str, size: usize) -> Graph {
        let spec = match zoo::ready().iter().find(|(name, _)| *name == model) {
            Some((name, text)) => parse(text, name).unwrap(),
            None => parse(model, "test").unwrap(),
        };
        zoo::build(&spec, [3, size, size], 10).unwrap()
    }

    fn images(size: i64, seed: i64, device: Device) -> Tensor {
        tch::manual_seed(seed);
        Tensor::randn([6, 3, size, size], (Kind::Float, Device::Cpu)).to_device(device)
    }

    /// Everything a training step takes from a network, by libtorch's own forward pass and autograd: logits,
    /// embedding, and every gradient.
    fn by_autograd(network: &Network, images: &Tensor) -> Vec<Tensor> {
        let named = |name| network.graph().outputs().iter().position(|output| output.name == name).unwrap();
        let outputs = network.forward(images, Mode::Train).unwrap();
        let (logits, embedding) = (&outputs[named(Graph::LOGITS)], &outputs[named(Graph::EMBEDDING)]);
        let [by_logits, by_embedding] = toward(logits, embedding);
        let loss = (logits * by_logits).sum(images.kind()) + (embedding * by_embedding).sum(images.kind());
        let mut all = vec![logits.detach(), embedding.detach()];
        all.extend(Tensor::run_backward(&[loss], &network.trainable(), false, false));
        all
    }

    /// The same by our own passes.
    fn by_passes(network: &mut Network, images: &Tensor) -> Vec<Tensor> {
        let pass = network.learn(images).unwrap();
        let (logits, embedding) = (pass.logits().unwrap().copy(), pass.embedding().unwrap().copy());
        let [by_logits, by_embedding] = toward(&logits, &embedding);
        network
            .backward(
                pass,
                &Gradients {
                    logits: by_logits.shallow_clone(),
                    embedding: Some(by_embedding.shallow_clone()),
                    features: None,
                },
            )
            .unwrap();
        let mut all = vec![logits, embedding];
        all.extend(network.gradients().map(Tensor::copy));
        all
    }

    /// Some gradients of the outputs.
    fn toward(logits: &Tensor, embedding: &Tensor) -> [Tensor; 2] {
        [logits, embedding].map(|tensor| (tensor.detach() * 3.0).sin())
    }

    /// The largest of all differences, each divided by its tensor's largest value, or by a thousandth of the
    /// largest of all gradients: a bias before a normalisation has a gradient of zero, up to rounding.
    fn largest_error(found: &[Tensor], expected: &[Tensor]) -> (f64, usize) {
        let size = |tensor: &Tensor| tensor.abs().max().double_value(&[]);
        let least = 1e-3 * expected[2..].iter().map(size).fold(0.0, f64::max);
        let error = |(found, expected): (&Tensor, &Tensor)| {
            size(&(found.to_kind(Kind::Double) - expected)) / size(expected).max(least)
        };
        let errors = found.iter().zip(expected).map(error).enumerate();
        errors.map(|(index, error)| (error, index)).fold((0.0, 0), |a, b| if b.0 > a.0 { b } else { a })
    }

    #[test]
    fn passes_agree_with_autograd() {
        passes_agree_on(Device::Cpu);
    }

    #[test]
    #[ignore = "needs CUDA"]
    fn passes_agree_with_autograd_on_cuda() {
        let device = crate::torch::resolve_device(crate::config::Device::Cuda(0)).unwrap();
        crate::torch::set_convolutions(false, false).unwrap();
        passes_agree_on(device);
    }

    /// In float64, where our kernels are not used, the passes are exact; in float32 they are as close to that
    /// as autograd is.
    fn passes_agree_on(device: Device) {
        for (model, size) in [
            ("resnet8", 8),
            ("wrn_16_1", 12),
            ("vgg8-w8", 16),
            ("mobilenet_v2-w0.25", 16),
            ("shufflenet_v2-x0.5", 16),
            (IRREGULAR, 11),
        ] {
            let graph = graph(model, size);
            let untrained = Model::untrained(graph.clone(), 5);
            let new = |kind| Network::new(&untrained, device, kind).unwrap();
            let name = |index: usize| {
                let network = new(Kind::Double);
                let names = network.trainable_names();
                ["logits", "embedding"].into_iter().chain(names).nth(index).unwrap().to_string()
            };
            // A sum next to zero may round to the other side of a ReLU, or the other of two equal
            // maxima may win, in one batch but not in every batch.
            let mut least = (f64::INFINITY, String::new());
            let (plain, mut ours) = (new(Kind::Float), new(Kind::Float));
            for seed in 1..=3 {
                let images = images(size as i64, seed, device);
                let doubles = images.to_kind(Kind::Double);
                let truth = by_autograd(&new(Kind::Double), &doubles);
                let (error, at) = largest_error(&by_passes(&mut new(Kind::Double), &doubles), &truth);
                assert!(error < 1e-9, "{model}, float64: {} is {error} apart", name(at));

                let (usual, _) = largest_error(&by_autograd(&plain, &images), &truth);
                let (error, at) = largest_error(&by_passes(&mut ours, &images), &truth);
                let excess = error / (10.0 * usual).max(1e-4);
                if excess < least.0 {
                    least = (excess, format!("{} is {error} apart, usual {usual}", name(at)));
                }
            }
            assert!(least.0 < 1.0, "{model}, float32: {}", least.1);

            let statistics = plain.weights().unwrap();
            for (name, array) in ours.weights().unwrap().iter() {
                let mut pairs = array.iter().zip(statistics.get(name).unwrap());
                let same = pairs.all(|(a, b)| (a - b).abs() < 1e-4 * (1.0 + b.abs()));
                assert!(same, "{model}: running statistics '{name}'");
            }
            let images = images(size as i64, 9, device);
            let before = ours.weights().unwrap();
            let again = ours.look_again(&images).unwrap();
            assert_eq!(ours.weights().unwrap(), before, "{model}: looking again changes nothing");
            let pass = ours.learn(&images).unwrap();
            assert!(
                apart(again.logits().unwrap(), pass.logits().unwrap()) < 1e-6,
                "{model}: looked at again"
            );
            plain.forward(&images, Mode::Train).unwrap();
            let outputs = tch::no_grad(|| plain.forward(&images, Mode::Eval)).unwrap();
            let logits = graph.outputs().iter().position(|output| output.name == Graph::LOGITS).unwrap();
            assert!(
                apart(&ours.infer(&images).unwrap().logits, &outputs[logits]) < 1e-3,
                "{model}: inference"
            );
        }
    }

    /// Files by other exporters, which have the operations that the ready models do not use.
    #[test]
    fn imported_networks_learn_as_by_autograd() {
        for name in [
            "squeeze_excite.torchscript",
            "shuffle.dynamo",
            "norm_gelu.torchscript",
            "norm_gelu.opset11",
            "attention",
            "functions",
            "nhwc_uint8",
            "padding",
            "parts",
            "op_norms",
            "op_more_norms",
            "op_resizes",
            "op_reductions",
            "op_quantised",
            "op_quantised_weights",
            "op_choices",
            "op_more_functions",
            "op_windows",
            "op_old",
        ] {
            let path = format!("{}/tests/fixtures/onnx/{name}.onnx", env!("CARGO_MANIFEST_DIR"));
            let file = crate::onnx::OnnxFile::load(path.as_ref()).unwrap();
            let imported = crate::onnx::import(&file).unwrap();
            let new = |kind| Network::new(&imported.model, Device::Cpu, kind).unwrap();
            let size: Vec<i64> =
                imported.model.graph().input_shape().iter().map(|&side| side as i64).collect();
            tch::manual_seed(4);
            let images = Tensor::rand([&[6], &size[..]].concat(), (Kind::Double, Device::Cpu));
            let truth = by_autograd(&new(Kind::Double), &images);
            let found = by_passes(&mut new(Kind::Double), &images);
            let (error, at) = largest_error(&found, &truth);
            assert!(error < 1e-9, "{name}, float64: number {at} is {error} apart");
            let moved = truth[2..].iter().all(|gradient| gradient.abs().max().double_value(&[]) > 0.0);
            assert!(moved, "{name}: every parameter has a gradient");
            let found = by_passes(&mut new(Kind::Float), &images.to_kind(Kind::Float));
            let (error, at) = largest_error(&found, &truth);
            assert!(error < 1e-3, "{name}, float32: number {at} is {error} apart");
        }
    }

    #[test]
    fn folded_networks_infer_the_same() {
        let graph = graph("resnet8", 8);
        let model = Model::untrained(graph, 6);
        let folded = crate::graph::fold_batch_norm(&model).unwrap();
        let images = images(8, 1, Device::Cpu);
        let infer =
            |model: &Model| Network::new(model, Device::Cpu, Kind::Float).unwrap().infer(&images).unwrap();
        let (plain, folded) = (infer(&model).logits, infer(&folded).logits);
        assert!(apart(&folded, &plain) < 1e-4);
    }
}
