//! Other shapes and other orders of axes of the same values. They may bring the images of a batch to an axis that is not
//! the first, or to share one with something else: tokens before images, windows of one image before those of the next.

use crate::graph::Op;

use super::arguments::{integers, known, new_shape, order, product, text};
use super::arrays::{squeezed, unsqueezed};
use super::fold::plain;
use super::node::{FileNode, Images, axis_of};
use super::value::{Data, MAX_AXES, Place, Placed, Value, Whole};
use super::walk::Walk;

/// Data with all the axes that it has in the file; the axis along which the images lie has its length divided by their
/// number.
#[derive(Debug, Clone)]
pub struct View {
    /// The node of the draft, whose shape may lack a first axis of length 1.
    pub node: usize,
    pub integers: bool,
    pub dims: Vec<usize>,
    /// `None` if the file is for one image: then all axes are alike.
    pub place: Option<Place>,
}

impl<'a> Walk<'a> {
    /// A value as a view; `None` if it is not data.
    pub fn view(&self, value: &Value<'_>) -> Option<View> {
        match *value {
            Value::Data(Data { node, integers }) => Some(View {
                node,
                integers,
                dims: std::iter::once(1).chain(self.shape_of(node).iter().copied()).collect(),
                place: (self.fixed_batch != Some(1)).then_some(Place { axis: 0, outer: 1 }),
            }),
            Value::Placed(Placed { node, integers, place }) => {
                Some(View { node, integers, dims: self.shape_of(node).clone(), place })
            }
            Value::Unread(_)
            | Value::Known(_)
            | Value::Counted(_)
            | Value::Booleans(_)
            | Value::Quantized(_)
            | Value::Unknown => None,
        }
    }

    /// The shape of a view in the file.
    pub fn shape_in_file(&self, view: &View) -> Vec<Whole> {
        let mut shape = plain(&view.dims);
        if let Some(Place { axis, .. }) = view.place {
            let length = view.dims[axis] as i64;
            shape[axis] = match self.fixed_batch {
                Some(size) => Whole::Plain(length.saturating_mul(size as i64)),
                None => Whole::Batches(length),
            };
        }
        shape
    }

    /// The value of an operator that gives a view of data; `None` if the node is not one.
    pub fn views(&mut self, node: &FileNode<'a>) -> Result<Option<Vec<Value<'a>>>, String> {
        let Some(view) = node.optional(0).and_then(|input| self.view(&input.value)) else { return Ok(None) };
        let value = match node.op() {
            "Reshape" => {
                let asked = known(node.input(1)?, &mut self.budget)?;
                let from = self.shape_in_file(&view);
                let shape = new_shape(asked.whole()?, &from, node.flag("allowzero", false)?)?;
                self.reshaped(node, view, &shape)?
            }
            "Flatten" => {
                let (count, axis) = (view.dims.len(), node.int("axis", 1)?);
                let axis = if axis == count as i64 { count } else { axis_of(axis, count)? };
                let from = self.shape_in_file(&view);
                let part = |part: &[Whole]| product(part).ok_or("has too many values");
                let shape = [part(&from[..axis])?, part(&from[axis..])?];
                self.reshaped(node, view, &shape)?
            }
            "Squeeze" => {
                let asked = integers(node, "axes", 1, &mut self.budget)?;
                self.squeeze(node, view, asked)?
            }
            "Unsqueeze" => {
                let named = integers(node, "axes", 1, &mut self.budget)?.ok_or("axes are missing")?;
                let dims = unsqueezed(&view.dims, &named)?;
                let new =
                    named.iter().map(|&axis| axis_of(axis, dims.len())).collect::<Result<Vec<_>, _>>()?;
                let moved = |axis: usize| (0..dims.len()).filter(|place| !new.contains(place)).nth(axis);
                let place = view.place.and_then(|place| Some(Place { axis: moved(place.axis)?, ..place }));
                self.settled(node, view.clone(), dims, place)?
            }
            "Transpose" => {
                let order = order(node, view.dims.len())?;
                self.transpose(node, view, order)?
            }
            _ => return Ok(None),
        };
        Ok(Some(vec![value]))
    }

    fn squeeze(
        &mut self,
        node: &FileNode<'a>,
        view: View,
        asked: Option<Vec<i64>>,
    ) -> Result<Value<'a>, String> {
        let images = view.place.map(|place| place.axis);
        let gone = match asked {
            Some(named) => {
                named.into_iter().map(|axis| axis_of(axis, view.dims.len())).collect::<Result<Vec<_>, _>>()?
            }
            None => {
                (0..view.dims.len()).filter(|&axis| view.dims[axis] == 1 && images != Some(axis)).collect()
            }
        };
        if images.is_some_and(|axis| gone.contains(&axis)) {
            return Err("removes the batch's axis".into());
        }
        let dims = squeezed(&view.dims, Some(gone.clone()))?;
        let moved = |axis: usize| axis - gone.iter().filter(|&&other| other < axis).count();
        let place = view.place.map(|place| Place { axis: moved(place.axis), ..place });
        self.settled(node, view, dims, place)
    }

    /// A view in another shape of the file.
    fn reshaped(&mut self, node: &FileNode<'a>, view: View, shape: &[Whole]) -> Result<Value<'a>, String> {
        let mixes = || format!("mixes the images of a batch: a shape of {}", text(shape));
        if shape.len() > MAX_AXES {
            return Err(mixes());
        }
        let Some(Place { axis, outer }) = view.place else {
            let plain = shape.iter().map(|dim| self.without_images(*dim, false)).collect::<Option<_>>();
            return self.settled(node, view, plain.ok_or_else(mixes)?, None);
        };
        // In the order of memory, the images come after this many blocks of values.
        let before = view.dims[..axis].iter().product::<usize>() * outer;
        for axis in 0..shape.len() {
            let dims = shape.iter().enumerate().map(|(place, dim)| self.without_images(*dim, place == axis));
            let Some(dims) = dims.collect::<Option<Vec<usize>>>() else { continue };
            let blocks: usize = dims[..axis].iter().product();
            if blocks == 0 || !before.is_multiple_of(blocks) || !dims[axis].is_multiple_of(before / blocks) {
                continue;
            }
            let place = Some(Place { axis, outer: before / blocks });
            return self.settled(node, view, dims, place);
        }
        Err(mixes())
    }

    /// A length in the file as one of the graph: divided by the number of images where they lie along this axis.
    fn without_images(&self, dim: Whole, images: bool) -> Option<usize> {
        match (dim, images, self.fixed_batch) {
            (Whole::Plain(length), false, _) => usize::try_from(length).ok(),
            (Whole::Plain(length), true, Some(batch)) => {
                let length = usize::try_from(length).ok()?;
                length.is_multiple_of(batch).then(|| length / batch)
            }
            (Whole::Batches(length), true, None) => usize::try_from(length).ok(),
            (Whole::Plain(_), true, None) | (Whole::Batches(_), _, _) => None,
        }
    }

    fn transpose(
        &mut self,
        node: &FileNode<'a>,
        mut view: View,
        order: Vec<usize>,
    ) -> Result<Value<'a>, String> {
        let dims: Vec<usize> = order.iter().map(|&axis| view.dims[axis]).collect();
        let moved = |axis: usize| order.iter().position(|&from| from == axis);
        let place = view.place.and_then(|place| Some(Place { axis: moved(place.axis)?, ..place }));
        let own = self.shape_of(view.node).len();
        if own + 1 == view.dims.len() && order[0] == 0 {
            let order = order[1..].iter().map(|axis| axis - 1).collect();
            view.node = self.add(node, Op::Transpose { order }, &[view.node], Vec::new())?;
        } else {
            let whole = self.reshape(node, view.node, view.dims.clone())?;
            view.node = self.add(node, Op::Transpose { order }, &[whole], Vec::new())?;
        }
        self.settled(node, view, dims, place)
    }

    /// A view in dimensions with as many values: plain data if the images alone are its first axis.
    pub fn settled(
        &mut self,
        node: &FileNode<'a>,
        view: View,
        dims: Vec<usize>,
        place: Option<Place>,
    ) -> Result<Value<'a>, String> {
        let integers = view.integers;
        let first = place.is_none_or(|place| place == Place { axis: 0, outer: 1 });
        match dims.split_first() {
            Some((1, rest)) if first => {
                let node = self.reshape(node, view.node, rest.to_vec())?;
                Ok(Value::Data(Data { node, integers }))
            }
            _ => {
                let node = self.reshape(node, view.node, dims)?;
                Ok(Value::Placed(Placed { node, integers, place }))
            }
        }
    }

    /// The value of an operator on data whose images are not alone on the first axis; `None` if the node reads no such.
    pub fn placed(&mut self, node: &FileNode<'a>) -> Result<Option<Vec<Value<'a>>>, String> {
        let strange = |input: &&super::node::Input<'a>| matches!(input.value, Value::Placed(_));
        let Some(first) = node.inputs.iter().flatten().find(strange) else { return Ok(None) };
        let kind = Placing::of(node.op());
        let apart = || format!("'{}' has no axis of images before the others", first.name);
        if kind == Placing::Refused {
            return Err(apart());
        }
        let views: Vec<Option<View>> =
            node.inputs.iter().map(|input| self.view(&input.as_ref()?.value)).collect();
        let axes = views.iter().flatten().map(|view| view.dims.len()).max().unwrap_or(0);
        // The place of the images from the last axis, which is the same for all.
        let place = |view: &View| {
            view.place.map(|place| (view.dims.len() - place.axis, place.outer, view.dims[place.axis]))
        };
        let mut places = views.iter().flatten().map(place);
        let shared = places.next().ok_or_else(apart)?;
        if places.any(|other| other != shared) {
            return Err("reads the images of a batch along different axes".into());
        }
        let images = shared.map_or(Images::Nowhere, |(from_end, ..)| Images::Within(axes - from_end));
        let mut inputs = node.inputs.clone();
        for (input, view) in inputs.iter_mut().zip(views) {
            match (input, view) {
                (Some(input), Some(view)) => {
                    let missing = axes - view.dims.len();
                    let dims = std::iter::repeat_n(1, missing).chain(view.dims).collect();
                    let node = self.reshape(node, view.node, dims)?;
                    input.value = Value::Data(Data { node, integers: view.integers });
                }
                (Some(input), None) if kind == Placing::Elementwise => self.alike(input, axes, images)?,
                (Some(_) | None, _) => {}
            }
        }
        let seen = FileNode { proto: node.proto, opset: node.opset, name: node.name.clone(), inputs, images };
        let gone = self.removed(&seen, axes)?;
        let values = self.layer(&seen)?;
        let place = shared.map(|(from_end, outer, _)| {
            let axis = axes - from_end;
            Place { axis: axis - gone.iter().filter(|&&other| other < axis).count(), outer }
        });
        values
            .into_iter()
            .map(|value| self.back(node, value, axes - gone.len(), place))
            .collect::<Result<_, _>>()
            .map(Some)
    }

    /// Checks that something known is the same for every image.
    fn alike(&mut self, input: &super::node::Input<'a>, axes: usize, images: Images) -> Result<(), String> {
        let dims: Vec<usize> = match &input.value {
            Value::Known(array) => array.dims.clone(),
            Value::Unread(unread) => unread.dims(),
            Value::Data(_)
            | Value::Placed(_)
            | Value::Counted(_)
            | Value::Booleans(_)
            | Value::Quantized(_)
            | Value::Unknown => return Err(format!("'{}' is not the same for every image", input.name)),
        };
        let along = match images {
            Images::Within(axis) => (axis + dims.len()).checked_sub(axes).map_or(1, |place| dims[place]),
            Images::First | Images::Nowhere => 1,
        };
        if along == 1 && dims.len() <= axes {
            return Ok(());
        }
        Err(format!("'{}' of {dims:?} is not the same for every image", input.name))
    }

    /// The axes that an operator removes.
    fn removed(&mut self, node: &FileNode<'a>, axes: usize) -> Result<Vec<usize>, String> {
        if node.op() == "Gather" {
            let single = known(node.input(1)?, &mut self.budget)?.dims.is_empty();
            return Ok(if single { vec![axis_of(node.int("axis", 0)?, axes)?] } else { Vec::new() });
        }
        if node.op().starts_with("Reduce") && !node.flag("keepdims", true)? {
            return Ok(super::arguments::axes(node, 1, axes, &mut self.budget)?.unwrap_or_default());
        }
        Ok(Vec::new())
    }

    /// The result of an operator as a value, with the axis along which the images lie.
    fn back(
        &mut self,
        node: &FileNode<'a>,
        value: Value<'a>,
        axes: usize,
        place: Option<Place>,
    ) -> Result<Value<'a>, String> {
        let Value::Data(Data { node: result, integers }) = value else {
            return Err("gives something else than values".into());
        };
        let dims = self.shape_of(result).clone();
        if place.is_some() && dims.len() != axes {
            return Err(format!("gives {dims:?} for one image, not {axes} axes"));
        }
        let view = View { node: result, integers, dims: dims.clone(), place };
        self.settled(node, view, dims, place)
    }
}

/// How an operator treats data whose images are not alone on the first axis.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Placing {
    /// Computes each value from values at the same place.
    Elementwise,
    /// Knows its axes.
    ByAxis,
    Refused,
}

impl Placing {
    fn of(op: &str) -> Self {
        match op {
            "Cast" | "CastLike" | "Tile" | "Einsum" | "Concat" | "Split" | "Slice" | "Gather" | "Expand"
            | "MatMul" | "Gemm" | "Pad" | "BatchNormalization" | "CumSum" | "Softmax" | "LogSoftmax"
            | "LayerNormalization" | "RMSNormalization" | "LpNormalization" | "ReduceMean" | "ReduceSum"
            | "ReduceMax" | "ReduceMin" | "ReduceL1" | "ReduceL2" | "ReduceSumSquare" | "ReduceLogSum"
            | "ReduceLogSumExp" => Placing::ByAxis,
            "Add" | "Sub" | "Mul" | "Div" | "Pow" | "Max" | "Min" | "Sum" | "Mean" | "Relu" | "LeakyRelu"
            | "PRelu" | "Elu" | "Selu" | "Celu" | "Clip" | "Gelu" | "HardSwish" | "HardSigmoid" | "Swish"
            | "Mish" | "Sigmoid" | "Tanh" | "Erf" | "Exp" | "Log" | "Sqrt" | "Abs" | "Neg" | "Reciprocal"
            | "Softplus" | "Softsign" | "Floor" | "Ceil" | "Round" | "Sign" => Placing::Elementwise,
            _ => Placing::Refused,
        }
    }
}
