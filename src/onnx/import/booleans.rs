//! Booleans that differ from image to image: comparisons, and what is chosen by them. A boolean is a node that is 0 where
//! it is false and anything else where it is true.

use tract_onnx::pb::tensor_proto::DataType;

use crate::graph::{Binary, Op, Unary};

use super::super::tensor::is_float;
use super::node::{FileNode, Input};
use super::value::{Data, Numbers, Value};
use super::walk::Walk;

impl<'a> Walk<'a> {
    /// The values of a node that gives or reads booleans of data; `None` if it does neither.
    pub fn booleans(&mut self, node: &FileNode<'a>) -> Result<Option<Vec<Value<'a>>>, String> {
        let varies = |input: &Input<'a>| matches!(input.value, Value::Data(_) | Value::Booleans(_));
        let is_boolean = |input: &Input<'a>| matches!(input.value, Value::Booleans(_));
        let mut inputs = node.inputs.iter().flatten();
        let value = match node.op() {
            "Equal" | "Less" | "LessOrEqual" | "Greater" | "GreaterOrEqual" if inputs.any(varies) => {
                Value::Booleans(self.compare(node)?)
            }
            "And" | "Or" | "Xor" | "Not" if inputs.any(varies) => Value::Booleans(self.logic(node)?),
            "Where" if inputs.any(varies) => Value::Data(Data { node: self.choose(node)?, integers: false }),
            "Cast" | "CastLike" => match self.cast_booleans(node)? {
                Some(value) => value,
                None => return Ok(None),
            },
            _ if node.optional(0).is_some_and(is_boolean) => return self.moved(node),
            _ => return Ok(None),
        };
        Ok(Some(vec![value]))
    }

    /// The number of axes of the inputs that differ from image to image.
    fn axes_of(&self, node: &FileNode<'a>) -> usize {
        let axes = |input: &Input<'a>| match input.value {
            Value::Data(Data { node, .. }) | Value::Booleans(node) => self.shape_of(node).len(),
            Value::Unread(_)
            | Value::Known(_)
            | Value::Placed(_)
            | Value::Counted(_)
            | Value::Quantized(_)
            | Value::Unknown => 0,
        };
        node.inputs.iter().flatten().map(axes).max().unwrap_or(0)
    }

    fn compare(&mut self, node: &FileNode<'a>) -> Result<usize, String> {
        let axes = self.axes_of(node);
        let of_booleans = [0, 1]
            .map(|place| node.optional(place).is_some_and(|input| matches!(input.value, Value::Booleans(_))));
        if node.op() == "Equal" && of_booleans.contains(&true) {
            return self.equal_booleans(node, &node.name, axes);
        }
        let (x, y) = (self.operand(node, 0, axes)?, self.operand(node, 1, axes)?);
        let (function, inputs) = match node.op() {
            "Equal" => (Binary::Equal, [x, y]),
            "Less" => (Binary::Less, [x, y]),
            "LessOrEqual" => (Binary::LessOrEqual, [x, y]),
            "Greater" => (Binary::Less, [y, x]),
            _ => (Binary::LessOrEqual, [y, x]),
        };
        self.add(node, Op::Binary(function), &inputs, Vec::new())
    }

    /// Whether two booleans are the same, under a name: they need not be 0 and 1 before they are turned.
    fn equal_booleans(&mut self, node: &FileNode<'a>, name: &str, axes: usize) -> Result<usize, String> {
        let (x, y) = (self.condition(node, 0, axes)?, self.condition(node, 1, axes)?);
        let first = self.add_part(node, "first", Op::Unary(Unary::Not), &[x])?;
        let second = self.add_part(node, "second", Op::Unary(Unary::Not), &[y])?;
        self.draft.add(name, &node.name, Op::Binary(Binary::Equal), &[first, second], Vec::new())
    }

    fn logic(&mut self, node: &FileNode<'a>) -> Result<usize, String> {
        let axes = self.axes_of(node);
        let function = match node.op() {
            "And" => Binary::And,
            "Or" => Binary::Or,
            "Not" => {
                let x = self.condition(node, 0, axes)?;
                return self.add(node, Op::Unary(Unary::Not), &[x], Vec::new());
            }
            _ => {
                let equal = self.equal_booleans(node, &format!("{}.equal", node.name), axes)?;
                return self.add(node, Op::Unary(Unary::Not), &[equal], Vec::new());
            }
        };
        let both = [self.condition(node, 0, axes)?, self.condition(node, 1, axes)?];
        self.add(node, Op::Binary(function), &both, Vec::new())
    }

    fn choose(&mut self, node: &FileNode<'a>) -> Result<usize, String> {
        let axes = self.axes_of(node);
        let condition = self.condition(node, 0, axes)?;
        let (then, other) = (self.operand(node, 1, axes)?, self.operand(node, 2, axes)?);
        self.add(node, Op::Where, &[condition, then, other], Vec::new())
    }

    /// An input of booleans as a node with this many axes.
    fn condition(&mut self, node: &FileNode<'a>, place: usize, axes: usize) -> Result<usize, String> {
        let input = node.input(place)?;
        match input.value {
            Value::Booleans(truth) => Ok(truth),
            Value::Unread(_) | Value::Known(_) => self.mask(input, axes),
            Value::Data(_) | Value::Placed(_) | Value::Counted(_) | Value::Quantized(_) | Value::Unknown => {
                Err(format!("'{}' does not hold booleans", input.name))
            }
        }
    }

    /// The value of a cast to booleans or from booleans; `None` for other casts.
    fn cast_booleans(&mut self, node: &FileNode<'a>) -> Result<Option<Value<'a>>, String> {
        let to = match node.optional(1).map(|like| &like.value) {
            Some(Value::Booleans(_)) => DataType::Bool as i64,
            Some(Value::Unread(like)) => like.data_type().into(),
            Some(Value::Known(like)) => match like.numbers {
                Numbers::Floats(_) => DataType::Float as i64,
                Numbers::Whole(_) => DataType::Int64 as i64,
            },
            Some(Value::Data(like)) if like.integers => DataType::Int64 as i64,
            Some(Value::Data(_)) => DataType::Float as i64,
            Some(Value::Placed(_) | Value::Counted(_) | Value::Quantized(_) | Value::Unknown) | None => {
                node.int("to", 0)?
            }
        };
        match node.optional(0).map(|input| &input.value) {
            Some(Value::Booleans(truth)) if to == DataType::Bool as i64 => Ok(Some(Value::Booleans(*truth))),
            Some(Value::Booleans(truth)) => {
                let integers = !i32::try_from(to).is_ok_and(is_float);
                Ok(Some(Value::Data(Data { node: self.as_number(node, *truth)?, integers })))
            }
            Some(Value::Data(data)) if to == DataType::Bool as i64 => Ok(Some(Value::Booleans(data.node))),
            Some(_) | None => Ok(None),
        }
    }

    /// A boolean as 0 or 1. The node that computes it gets the name of the cast, as emission writes the two for one.
    fn as_number(&mut self, node: &FileNode<'a>, truth: usize) -> Result<usize, String> {
        let (op, inputs) = (self.draft.node(truth).op.clone(), self.draft.node(truth).inputs.clone());
        if gives_booleans(&op) {
            return self.add(node, op, &inputs, Vec::new());
        }
        let turned = self.add_part(node, "false", Op::Unary(Unary::Not), &[truth])?;
        self.add(node, Op::Unary(Unary::Not), &[turned], Vec::new())
    }

    /// Booleans in another shape or order.
    fn moved(&mut self, node: &FileNode<'a>) -> Result<Option<Vec<Value<'a>>>, String> {
        let as_data = |input: &Option<Input<'a>>| {
            input.clone().map(|input| match input.value {
                Value::Booleans(node) => {
                    Input { value: Value::Data(Data { node, integers: false }), ..input }
                }
                Value::Data(_)
                | Value::Unread(_)
                | Value::Known(_)
                | Value::Placed(_)
                | Value::Counted(_)
                | Value::Quantized(_)
                | Value::Unknown => input,
            })
        };
        let inputs = node.inputs.iter().map(as_data).collect();
        let seen = FileNode {
            proto: node.proto,
            opset: node.opset,
            name: node.name.clone(),
            inputs,
            images: node.images,
        };
        let name = node.input(0)?.name;
        let problem = || format!("computes with the booleans '{name}'; a Cast must come before");
        let moved = match self.views(&seen)? {
            Some(moved) => moved,
            None => self.rearrange(&seen)?.ok_or_else(problem)?,
        };
        let as_booleans =
            |value: Value<'a>| if let Value::Data(data) = value { Value::Booleans(data.node) } else { value };
        Ok(Some(moved.into_iter().map(as_booleans).collect()))
    }
}

/// Whether an operation gives 0 and 1 only.
fn gives_booleans(op: &Op) -> bool {
    matches!(
        op,
        Op::Unary(Unary::Not)
            | Op::Binary(Binary::Equal | Binary::Less | Binary::LessOrEqual | Binary::And | Binary::Or)
    )
}
