//! A node of the file with its attributes and inputs, whose types are checked when they are read.

use tract_onnx::pb::attribute_proto::AttributeType;
use tract_onnx::pb::{AttributeProto, NodeProto, TensorProto};

use super::value::Value;

/// Where the images of a batch lie in the data that a node reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Images {
    /// Along the file's first axis, which the graph's nodes do not have.
    First,
    /// Within this axis, which the graph's nodes have, too.
    Within(usize),
    /// There is one image, or nothing is data: the graph's nodes have all the file's axes.
    Nowhere,
}

/// A node, with its inputs.
pub struct FileNode<'a> {
    pub proto: &'a NodeProto,
    /// Version of the operator set.
    pub opset: i64,
    /// The node's own name, or that of its first output.
    pub name: String,
    pub inputs: Vec<Option<Input<'a>>>,
    pub images: Images,
}

/// One input that is present.
#[derive(Debug, Clone)]
pub struct Input<'a> {
    pub name: &'a str,
    pub value: Value<'a>,
}

impl<'a> FileNode<'a> {
    pub fn op(&self) -> &'a str {
        &self.proto.op_type
    }

    /// An input that must be present.
    ///
    /// # Errors
    /// If it is missing.
    pub fn input(&self, place: usize) -> Result<&Input<'a>, String> {
        self.optional(place).ok_or_else(|| format!("input {place} is missing"))
    }

    pub fn optional(&self, place: usize) -> Option<&Input<'a>> {
        self.inputs.get(place).and_then(Option::as_ref)
    }

    /// Every input; none may be left out.
    ///
    /// # Errors
    /// If there is none, or one is left out.
    pub fn all(&self) -> Result<Vec<&Input<'a>>, String> {
        let all: Option<Vec<&Input<'a>>> = self.inputs.iter().map(Option::as_ref).collect();
        all.filter(|inputs| !inputs.is_empty()).ok_or_else(|| "an input is missing".into())
    }

    /// The number of axes in the file of data that has `own` axes in the graph.
    pub fn axes_in_file(&self, own: usize) -> usize {
        match self.images {
            Images::First => own + 1,
            Images::Within(_) | Images::Nowhere => own,
        }
    }

    /// An axis of the file as one of the graph.
    ///
    /// # Errors
    /// If the images of a batch lie along it.
    pub fn own(&self, axis: usize) -> Result<usize, String> {
        match self.images {
            Images::First => axis.checked_sub(1),
            Images::Within(images) if images == axis => None,
            Images::Within(_) | Images::Nowhere => Some(axis),
        }
        .ok_or_else(|| format!("runs over the images of a batch, along axis {axis}"))
    }

    /// An axis that the file names, of data that has `own` axes in the graph, as one of the graph.
    ///
    /// # Errors
    /// If there is no such axis, or if the images of a batch lie along it.
    pub fn own_axis(&self, axis: i64, own: usize) -> Result<usize, String> {
        self.own(axis_of(axis, self.axes_in_file(own))?)
    }

    /// Checks that the images of a batch lie along none of the axes of the graph from this one on.
    ///
    /// # Errors
    /// If they do.
    pub fn apart_from(&self, first: usize) -> Result<(), String> {
        match self.images {
            Images::Within(images) if images >= first => self.own(images).map(|_| ()),
            Images::First | Images::Within(_) | Images::Nowhere => Ok(()),
        }
    }

    fn attribute(&self, name: &str, kind: AttributeType) -> Result<Option<&'a AttributeProto>, String> {
        let Some(found) = self.proto.attribute.iter().find(|attribute| attribute.name == name) else {
            return Ok(None);
        };
        if found.r#type != kind as i32 && found.r#type != AttributeType::Undefined as i32 {
            return Err(format!("attribute '{name}' is not of type {}", kind.as_str_name()));
        }
        Ok(Some(found))
    }

    pub fn int(&self, name: &str, default: i64) -> Result<i64, String> {
        Ok(self.attribute(name, AttributeType::Int)?.map_or(default, |found| found.i))
    }

    pub fn flag(&self, name: &str, default: bool) -> Result<bool, String> {
        Ok(self.int(name, i64::from(default))? != 0)
    }

    pub fn ints(&self, name: &str) -> Result<Option<&'a [i64]>, String> {
        Ok(self.attribute(name, AttributeType::Ints)?.map(|found| found.ints.as_slice()))
    }

    pub fn floats(&self, name: &str) -> Result<Option<&'a [f32]>, String> {
        Ok(self.attribute(name, AttributeType::Floats)?.map(|found| found.floats.as_slice()))
    }

    /// A float attribute, as the float32 it is.
    pub fn float(&self, name: &str, default: f32) -> Result<f64, String> {
        Ok(f64::from(self.attribute(name, AttributeType::Float)?.map_or(default, |found| found.f)))
    }

    pub fn text(&self, name: &str, default: &'a str) -> Result<&'a str, String> {
        let Some(found) = self.attribute(name, AttributeType::String)? else { return Ok(default) };
        std::str::from_utf8(&found.s).map_err(|_| format!("attribute '{name}' is not text"))
    }

    pub fn tensor(&self, name: &str) -> Result<Option<&'a TensorProto>, String> {
        Ok(self.attribute(name, AttributeType::Tensor)?.and_then(|found| found.t.as_ref()))
    }
}

/// An axis out of this many; negative ones count from the end.
///
/// # Errors
/// If there is no such axis.
pub fn axis_of(axis: i64, axes: usize) -> Result<usize, String> {
    let count = axes as i64;
    let from_start = if axis < 0 { axis.checked_add(count) } else { Some(axis) };
    match from_start {
        Some(place) if (0..count).contains(&place) => Ok(place as usize),
        _ => Err(format!("axis {axis} of {axes}")),
    }
}

/// A number that must be at least 0 and within reason.
///
/// # Errors
/// If it is negative or beyond 2^31.
pub fn size(what: &str, value: i64) -> Result<usize, String> {
    match usize::try_from(value) {
        Ok(size) if size <= 1 << 31 => Ok(size),
        _ => Err(format!("{what} is {value}")),
    }
}
