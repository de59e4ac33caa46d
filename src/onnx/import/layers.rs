//! Operators with an operation of their own, and those with weights.

use std::rc::Rc;

use ndarray::{ArrayD, IxDyn};

use crate::graph::{Conv2d, Op, Shape};

use super::node::{FileNode, size};
use super::quantized::settings_of_data;
use super::value::{Data, Quantized, Value};
use super::walk::Walk;

impl<'a> Walk<'a> {
    /// The value of a QuantizeLinear or DequantizeLinear of data; `None` if the node is not one.
    pub fn quantized(&mut self, node: &FileNode<'a>) -> Result<Option<Value<'a>>, String> {
        match (node.op(), node.optional(0).map(|input| &input.value)) {
            ("QuantizeLinear", Some(Value::Data(Data { integers: false, .. }))) => {
                let data = self.data(node, 0)?;
                let axes = self.shape_of(data).len();
                let settings = settings_of_data(node, axes, &mut self.budget)?;
                Ok(Some(Value::Quantized(Rc::new(Quantized { node: data, settings }))))
            }
            ("DequantizeLinear", Some(Value::Quantized(quantized))) => {
                let axes = self.shape_of(quantized.node).len();
                if settings_of_data(node, axes, &mut self.budget)? != quantized.settings {
                    return Err("its scale or zero point is not that of the QuantizeLinear before it".into());
                }
                let op = Op::QuantizeDequantize(quantized.settings.clone());
                let node = self.add(node, op, &[quantized.node], Vec::new())?;
                Ok(Some(Value::Data(Data { node, integers: false })))
            }
            ("DequantizeLinear", Some(Value::Data(_))) => {
                Err("reads values that no QuantizeLinear gave".into())
            }
            _ => Ok(None),
        }
    }

    /// The value of a node that reads something that differs from image to image.
    pub fn layer(&mut self, node: &FileNode<'a>) -> Result<Vec<Value<'a>>, String> {
        if let Some(values) = self.rearrange(node)? {
            return Ok(values);
        }
        let result = match node.op() {
            "Conv" => self.conv(node)?,
            "BatchNormalization" => self.batch_norm(node)?,
            "LayerNormalization" => self.layer_norm(node)?,
            "InstanceNormalization" => self.instance_norm(node)?,
            "GroupNormalization" => self.group_norm(node)?,
            "LRN" => self.local_response_norm(node)?,
            "Resize" | "Upsample" => self.resize(node)?,
            "Gemm" => self.gemm(node)?,
            "MatMul" => self.mat_mul(node)?,
            "Einsum" => self.einsum(node)?,
            "CumSum" => self.running_sums(node)?,
            "Attention" => self.attention(node)?,
            "MaxPool" => self.max_pool(node)?,
            "AveragePool" => self.average_pool(node)?,
            "GlobalAveragePool" => self.global_pool(node, false)?,
            "GlobalMaxPool" => self.global_pool(node, true)?,
            "LpPool" => self.lp_pool(node, false)?,
            "GlobalLpPool" => self.lp_pool(node, true)?,
            "RMSNormalization" => self.rms_norm(node)?,
            "LpNormalization" => self.lp_norm(node)?,
            "MeanVarianceNormalization" => self.mean_variance_norm(node)?,
            "ReduceMean" | "ReduceSum" | "ReduceMax" | "ReduceMin" | "ReduceL1" | "ReduceL2"
            | "ReduceSumSquare" | "ReduceLogSum" | "ReduceLogSumExp" => self.reduce(node)?,
            "Softmax" | "LogSoftmax" => self.softmax(node)?,
            "Pad" => self.pad(node)?,
            _ => match self.pointwise(node)? {
                Some(result) => result,
                None if node
                    .inputs
                    .iter()
                    .flatten()
                    .any(|input| matches!(input.value, Value::Counted(_))) =>
                {
                    return Err("reads indices that continue from image to image".into());
                }
                None => return Err("this operator is not supported".into()),
            },
        };
        Ok(vec![Value::Data(Data { node: result, integers: false })])
    }

    fn conv(&mut self, node: &FileNode<'a>) -> Result<usize, String> {
        let x = self.data(node, 0)?;
        let weight = self.weights(node.input(1)?)?;
        let weight = match *weight.shape() {
            // A sequence is an image of height one.
            [outputs, depth, length] if self.shape_of(x).len() == 2 => {
                let image = weight.to_shape(IxDyn(&[outputs, depth, 1, length]));
                Rc::new(image.map_err(|error| error.to_string())?.into_owned())
            }
            _ => weight,
        };
        let (out_channels, high, wide) = match (weight.shape(), self.shape_of(x).len()) {
            (&[outputs, _, high, wide], 3) | (&[outputs, _, high @ 1, wide], 2) => (outputs, high, wide),
            (other, axes) => {
                let spatial = axes.saturating_sub(1);
                return Err(format!("weights of {other:?} are not those of a {spatial}-D convolution"));
            }
        };
        let bias = node.optional(2).map(|input| self.weights(input)).transpose()?;
        let groups = size("group", node.int("group", 1)?)?;
        let kernel = [high, wide];
        let window = self.window(node, x, Some(kernel))?;
        let (image, name) = self.as_image(node, x)?;
        let padded = self.padded(node, image, &window, 0.0)?;
        let op = Op::Conv2d(Conv2d {
            out_channels,
            kernel,
            stride: window.stride,
            padding: window.own_padding(),
            dilation: window.dilation,
            groups,
            bias: bias.is_some(),
        });
        let channels = *self.shape_of(x).first().ok_or("reads no image")?;
        if weight.shape()[1].checked_mul(groups) != Some(channels) {
            return Err(format!(
                "weights of {:?} for {channels} channels in {groups} groups",
                weight.shape()
            ));
        }
        let params = std::iter::once(weight).chain(bias).collect();
        let result = self.draft.add(&name, &node.name, op, &[padded], params)?;
        self.as_it_was(node, x, result)
    }

    fn batch_norm(&mut self, node: &FileNode<'a>) -> Result<usize, String> {
        if node.flag("training_mode", false)? {
            return Err("takes the batch's own statistics, as in training".into());
        }
        let x = self.data(node, 0)?;
        let params = (1..5).map(|place| self.weights(node.input(place)?)).collect::<Result<Vec<_>, _>>()?;
        let eps = node.float("epsilon", 1e-5)?;
        let momentum = 1.0 - node.float("momentum", 0.9)?;
        let op = Op::BatchNorm { eps, momentum };
        let shape = self.shape_of(x).clone();
        let channels = node.own_axis(1, shape.len())?;
        if let Some(wrong) = params.iter().find(|array| array.shape() != &shape[channels..=channels]) {
            return Err(format!("statistics of {:?} for {shape:?}", wrong.shape()));
        }
        if channels > 0 {
            // Tokens or windows come before the channels.
            let mut order: Vec<usize> = (0..shape.len()).collect();
            order[..=channels].rotate_right(1);
            let mut back: Vec<usize> = (0..shape.len()).collect();
            back[..=channels].rotate_left(1);
            let turned = self.add_part(node, "turned", Op::Transpose { order }, &[x])?;
            let whole = self.shape_of(turned).clone();
            let image = vec![whole[0], whole[1..].iter().product(), 1];
            let seen = self.add_part(node, "image", Op::Reshape { shape: image }, &[turned])?;
            let name = format!("{}.norm", node.name);
            let normed = self.draft.add(&name, &node.name, op, &[seen], params)?;
            let seen = self.add_part(node, "seen", Op::Reshape { shape: whole }, &[normed])?;
            return self.add(node, Op::Transpose { order: back }, &[seen], Vec::new());
        }
        if shape.len() == 3 {
            return self.add(node, op, &[x], params);
        }
        // Over features, or over the features of a sequence, which is an image of width one.
        let image: Shape = shape.iter().copied().chain(std::iter::repeat(1)).take(3).collect();
        let seen = self.add_part(node, "image", Op::Reshape { shape: image }, &[x])?;
        let name = format!("{}.norm", node.name);
        let normed = self.draft.add(&name, &node.name, op, &[seen], params)?;
        self.reshape(node, normed, shape)
    }

    fn layer_norm(&mut self, node: &FileNode<'a>) -> Result<usize, String> {
        let x = self.data(node, 0)?;
        let shape = self.shape_of(x).clone();
        let over = node.own_axis(node.int("axis", -1)?, shape.len())?;
        node.apart_from(over)?;
        let normalised = IxDyn(&shape[over..]);
        let mut params = vec![self.weights(node.input(1)?)?];
        params.push(match node.optional(2) {
            Some(bias) => self.weights(bias)?,
            None => Rc::new(ArrayD::zeros(normalised.clone())),
        });
        for array in &mut params {
            let spread = array.broadcast(normalised.clone());
            let spread =
                spread.ok_or_else(|| format!("weights of {:?} over {normalised:?}", array.shape()))?;
            if array.shape() != spread.shape() {
                *array = Rc::new(spread.to_owned());
            }
        }
        let eps = node.float("epsilon", 1e-5)?;
        self.add(node, Op::LayerNorm { axes: shape.len() - over, eps }, &[x], params)
    }

    fn gemm(&mut self, node: &FileNode<'a>) -> Result<usize, String> {
        let x = self.data(node, 0)?;
        let axes = self.shape_of(x).len();
        if node.axes_in_file(axes) != 2 || node.flag("transA", false)? {
            return Err(format!("multiplies {:?}, not a row of features", self.shape_of(x)));
        }
        node.apart_from(axes - 1)?;
        let (alpha, beta) = (node.float("alpha", 1.0)?, node.float("beta", 1.0)?);
        let weight = self.weights(node.input(1)?)?;
        let weight = match (weight.ndim(), node.flag("transB", false)?) {
            (2, true) => weight,
            (2, false) => Rc::new(weight.t().as_standard_layout().into_owned()),
            _ => return Err(format!("weights of {:?} are not a matrix", weight.shape())),
        };
        let outputs = weight.shape()[0];
        let bias = match node.optional(2) {
            Some(bias) => {
                let bias = self.weights(bias)?;
                let spread = bias.broadcast(IxDyn(&[1, outputs]));
                let spread = spread.ok_or_else(|| format!("a bias of {:?} for {outputs}", bias.shape()))?;
                let row = spread.iter().copied().collect();
                Some(ArrayD::from_shape_vec(IxDyn(&[outputs]), row).map_err(|error| error.to_string())?)
            }
            None => None,
        };
        let scaled = |array: Rc<ArrayD<f32>>, factor: f64| match factor {
            1.0 => array,
            _ => Rc::new(array.mapv(|value| (f64::from(value) * factor) as f32)),
        };
        let bias = bias.map(|bias| scaled(Rc::new(bias), beta));
        self.linear(node, x, scaled(weight, alpha), bias)
    }

    /// A linear layer with weights of `[out_features, in_features]`.
    fn linear(
        &mut self,
        node: &FileNode<'a>,
        x: usize,
        weight: Rc<ArrayD<f32>>,
        bias: Option<Rc<ArrayD<f32>>>,
    ) -> Result<usize, String> {
        let &[out_features, features] = weight.shape() else { return Err("weights are not a matrix".into()) };
        if self.shape_of(x).last() != Some(&features) {
            return Err(format!("weights for {features} features meet {:?}", self.shape_of(x)));
        }
        let op = Op::Linear { out_features, bias: bias.is_some() };
        self.add(node, op, &[x], std::iter::once(weight).chain(bias).collect())
    }

    fn mat_mul(&mut self, node: &FileNode<'a>) -> Result<usize, String> {
        let x = self.data(node, 0)?;
        let (second, axes) = (node.input(1)?, self.shape_of(x).len());
        if let Value::Data(_) = second.value {
            let y = self.data(node, 1)?;
            node.apart_from(axes.saturating_sub(2))?;
            return self.add(node, Op::MatMul, &[x, y], Vec::new());
        }
        node.apart_from(axes.saturating_sub(1))?;
        let weight = self.weights(second)?;
        if weight.ndim() != 2 {
            return Err(format!("weights of {:?} are not a matrix", weight.shape()));
        }
        let transposed = Rc::new(weight.t().as_standard_layout().into_owned());
        self.linear(node, x, transposed, None)
    }

    /// A sum in which one side is a bias of a convolution or linear layer without one: the same layer with
    /// that bias.
    pub fn with_bias(
        &mut self,
        node: &FileNode<'a>,
        name: &str,
        x: usize,
        added: usize,
    ) -> Result<Option<usize>, String> {
        let Op::Constant { values } = &self.draft.node(added).op else { return Ok(None) };
        let layer = self.draft.node(x);
        let (op, place) = if let Op::Conv2d(conv) = &layer.op
            && !conv.bias
        {
            (Op::Conv2d(Conv2d { bias: true, ..conv.clone() }), 0)
        } else if let Op::Linear { out_features, bias: false } = layer.op {
            (Op::Linear { out_features, bias: true }, layer.shape.len() - 1)
        } else {
            return Ok(None);
        };
        let features = layer.shape[place];
        if values.len() != features || values.shape().get(place) != Some(&features) {
            return Ok(None);
        }
        let bias = values.to_shape(IxDyn(&[features])).map_err(|error| error.to_string())?.into_owned();
        let (inputs, mut params) = (layer.inputs.clone(), layer.params.clone());
        params.push(Rc::new(bias));
        self.draft.add(name, &node.name, op, &inputs, params).map(Some)
    }

    fn softmax(&mut self, node: &FileNode<'a>) -> Result<usize, String> {
        let x = self.data(node, 0)?;
        let shape = self.shape_of(x).clone();
        let axis = node.int("axis", if node.opset < 13 { 1 } else { -1 })?;
        let axis = node.own_axis(axis, shape.len())?;
        // Before opset 13 all axes from this one on are treated as one.
        if node.opset < 13 {
            node.apart_from(axis)?;
        }
        let together: usize = shape[axis..].iter().product();
        let flattened = node.opset < 13 && together != shape[axis];
        let row = match flattened {
            true => {
                let row = [&shape[..axis], &[together]].concat();
                self.add_part(node, "row", Op::Reshape { shape: row }, &[x])?
            }
            false => x,
        };
        let log = node.op() == "LogSoftmax";
        let name = if flattened { format!("{}.kept", node.name) } else { node.name.clone() };
        let softmax = if log { format!("{}.softmax", node.name) } else { name.clone() };
        let mut result = self.draft.add(&softmax, &node.name, Op::Softmax { axis }, &[row], Vec::new())?;
        if log {
            let op = Op::Unary(crate::graph::Unary::Log);
            result = self.draft.add(&name, &node.name, op, &[result], Vec::new())?;
        }
        if flattened { self.reshape(node, result, shape) } else { Ok(result) }
    }
}
