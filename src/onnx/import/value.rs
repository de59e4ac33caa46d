//! What is known about a tensor during import.

use std::rc::Rc;

use tract_onnx::pb::TensorProto;
use tract_onnx::pb::tensor_proto::DataType;

use super::super::tensor::{Stored, elements, floats, numbers};
use crate::graph::Quantize;

/// Maximum number of elements that folding may produce, over a whole file.
const MAX_FOLDED: usize = 1 << 26;

/// Maximum number of floats that nodes may fill with one value, over a whole file: more than the weights of any common
/// classifier, and 1 GiB where all are weights.
pub const MAX_FILLED: usize = 1 << 28;

/// How often everything stored and folded may be read in total.
const READS: usize = 4;

/// Maximum number of axes.
pub const MAX_AXES: usize = 8;

/// A tensor of the file.
#[derive(Debug, Clone)]
pub enum Value<'a> {
    /// Data that differs from image to image.
    Data(Data),
    /// Numbers that are the same for every image and have not been read.
    Unread(Unread<'a>),
    Known(Rc<Array>),
    /// Data in which the images of a batch are not alone on the first axis.
    Placed(Placed),
    /// Integers that continue from image to image.
    Counted(Rc<Counted>),
    /// Booleans that differ from image to image: a node of the draft, true where it is not 0.
    Booleans(usize),
    /// Data between a QuantizeLinear and its DequantizeLinear.
    Quantized(Rc<Quantized>),
    /// The output of a node that was refused.
    Unknown,
}

/// Numbers that are written out only where a node needs them: weights may be many.
#[derive(Debug, Clone)]
pub enum Unread<'a> {
    /// An initializer, or the tensor of a Constant.
    Tensor(&'a TensorProto),
    /// One float at every place.
    Filled(Rc<Filled>),
}

/// A float that is everywhere in a tensor.
#[derive(Debug, PartialEq)]
pub struct Filled {
    pub dims: Vec<usize>,
    pub value: f64,
}

impl Unread<'_> {
    pub fn dims(&self) -> Vec<usize> {
        match self {
            Self::Tensor(tensor) => tensor.dims.iter().map(|&dim| dim as usize).collect(),
            Self::Filled(filled) => filled.dims.clone(),
        }
    }

    /// The type of its elements, as ONNX numbers them.
    pub fn data_type(&self) -> i32 {
        match self {
            Self::Tensor(tensor) => tensor.data_type,
            Self::Filled(_) => DataType::Float as i32,
        }
    }

    /// An address that no other such numbers have.
    pub fn address(&self) -> usize {
        match self {
            Self::Tensor(tensor) => std::ptr::from_ref(*tensor).addr(),
            Self::Filled(filled) => Rc::as_ptr(filled).addr(),
        }
    }

    /// # Errors
    /// If they exceed the budget, or are not of a plain type.
    pub fn read(&self, budget: &mut Budget) -> Result<Array, String> {
        match self {
            Self::Tensor(tensor) => look_into(tensor, budget),
            Self::Filled(filled) => {
                let count = budget.take(&filled.dims)?;
                Ok(Array { dims: filled.dims.clone(), numbers: Numbers::Floats(vec![filled.value; count]) })
            }
        }
    }

    /// All of them in single precision, as weights are stored.
    ///
    /// # Errors
    /// If a tensor does not hold as many as it claims, or not of a plain type.
    pub fn weights(&self) -> Result<Vec<f32>, String> {
        match self {
            Self::Tensor(tensor) => {
                elements(tensor)?;
                floats(tensor)
            }
            Self::Filled(filled) => Ok(vec![filled.value as f32; filled.dims.iter().product()]),
        }
    }
}

/// A tensor that differs from image to image: a node of the draft. Its first axis in the file is the batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Data {
    pub node: usize,
    /// Whether it holds integers, as an image of bytes does: it must pass a Cast before anything is computed
    /// with it.
    pub integers: bool,
}

/// A tensor that differs from image to image: a node of the draft that has all its axes in the file, where the axis along
/// which the images lie has its length divided by their number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Placed {
    pub node: usize,
    /// As in [`Data`].
    pub integers: bool,
    /// `None` if the file is for one image: then all axes are alike.
    pub place: Option<Place>,
}

/// Where the images of a batch lie: within an axis of `outer · images · inner` indices.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    pub axis: usize,
    pub outer: usize,
}

/// Quantised data: the node before, and how it is quantised.
#[derive(Debug, PartialEq)]
pub struct Quantized {
    pub node: usize,
    pub settings: Quantize,
}

/// Indices of each image: those of image `n` are `n · step + offset`. Their first axis is the batch.
#[derive(Debug, PartialEq)]
pub struct Counted {
    pub step: i64,
    /// Indices of the first image, without the batch axis.
    pub offset: Array,
}

/// Known numbers, row by row.
#[derive(Debug, Clone, PartialEq)]
pub struct Array {
    pub dims: Vec<usize>,
    pub numbers: Numbers,
}

#[derive(Debug, Clone, PartialEq)]
pub enum Numbers {
    Floats(Vec<f64>),
    /// Integers and booleans.
    Whole(Vec<Whole>),
}

/// An integer, which may be a multiple of the batch size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Whole {
    Plain(i64),
    Batches(i64),
}

impl Array {
    /// Integers along one axis.
    pub fn list(values: Vec<Whole>) -> Self {
        Self { dims: vec![values.len()], numbers: Numbers::Whole(values) }
    }

    /// One float.
    pub fn number(value: f64) -> Self {
        Self { dims: Vec::new(), numbers: Numbers::Floats(vec![value]) }
    }

    pub fn len(&self) -> usize {
        match &self.numbers {
            Numbers::Floats(values) => values.len(),
            Numbers::Whole(values) => values.len(),
        }
    }

    /// The same numbers in other dimensions with as many elements.
    pub fn with_dims(&self, dims: Vec<usize>) -> Self {
        Self { dims, numbers: self.numbers.clone() }
    }

    /// The numbers at the given places, in another shape.
    pub fn pick(&self, dims: Vec<usize>, places: &[usize]) -> Self {
        let numbers = match &self.numbers {
            Numbers::Floats(values) => Numbers::Floats(places.iter().map(|&place| values[place]).collect()),
            Numbers::Whole(values) => Numbers::Whole(places.iter().map(|&place| values[place]).collect()),
        };
        Self { dims, numbers }
    }

    /// All numbers as floats.
    ///
    /// # Errors
    /// If one of them depends on the batch.
    pub fn floats(&self) -> Result<Vec<f64>, String> {
        match &self.numbers {
            Numbers::Floats(values) => Ok(values.clone()),
            Numbers::Whole(_) => Ok(self.ints()?.into_iter().map(|value| value as f64).collect()),
        }
    }

    /// All numbers as integers.
    ///
    /// # Errors
    /// If one of them is a float or depends on the batch.
    pub fn ints(&self) -> Result<Vec<i64>, String> {
        let plain = |whole: &Whole| match whole {
            Whole::Plain(value) => Ok(*value),
            Whole::Batches(_) => Err("depends on the batch size".to_string()),
        };
        self.whole()?.iter().map(plain).collect()
    }

    /// # Errors
    /// If they are floats.
    pub fn whole(&self) -> Result<&[Whole], String> {
        match &self.numbers {
            Numbers::Floats(_) => Err("expected integers, found floats".into()),
            Numbers::Whole(values) => Ok(values),
        }
    }
}

/// How many elements folding may still produce, and how many may still be read, so that neither many small nodes
/// nor many reads of a large tensor take long.
#[derive(Debug)]
pub struct Budget {
    left: usize,
    reads: usize,
    /// How many stored integers may still become the numbers they stand for.
    stored: usize,
    /// How many floats may still be filled with one value.
    filled: usize,
}

impl Budget {
    /// A budget for a file of this many bytes.
    pub fn new(bytes: usize) -> Self {
        let reads = MAX_FOLDED.saturating_add(bytes).saturating_mul(READS);
        Self { left: MAX_FOLDED, reads, stored: bytes, filled: MAX_FILLED }
    }

    /// A budget for producing this many elements.
    #[cfg(test)]
    pub fn limited(elements: usize) -> Self {
        Self { left: elements, ..Self::new(0) }
    }

    /// Subtracts stored integers that become the numbers they stand for: as a stored number takes at least one byte, all
    /// weights of a file can be quantised, and each only once.
    ///
    /// # Errors
    /// If that exceeds what is left.
    pub fn stored(&mut self, elements: usize) -> Result<(), String> {
        let left = self.stored.checked_sub(elements);
        self.stored = left.ok_or("reads more than can be worked out in advance")?;
        Ok(())
    }

    /// Subtracts a read of this many elements.
    ///
    /// # Errors
    /// If that exceeds what is left.
    pub fn read(&mut self, elements: usize) -> Result<(), String> {
        let left = self.reads.checked_sub(elements.max(1));
        self.reads = left.ok_or("reads more than can be worked out in advance")?;
        Ok(())
    }

    /// The number of elements of some dimensions, subtracted from the budget.
    ///
    /// # Errors
    /// If that exceeds what is left.
    pub fn take(&mut self, dims: &[usize]) -> Result<usize, String> {
        charge(&mut self.left, dims)
    }

    /// Subtracts floats of these dimensions that one value fills.
    ///
    /// # Errors
    /// If that exceeds what is left.
    pub fn fill(&mut self, dims: &[usize]) -> Result<(), String> {
        charge(&mut self.filled, dims).map(|_| ())
    }
}

/// The number of elements of some dimensions, subtracted from what is left.
fn charge(left: &mut usize, dims: &[usize]) -> Result<usize, String> {
    let product = dims.iter().try_fold(1usize, |product, &dim| product.checked_mul(dim));
    let rest = product.and_then(|product| left.checked_sub(product.max(1)));
    match (product, rest) {
        (Some(product), Some(rest)) if dims.len() <= MAX_AXES => {
            *left = rest;
            Ok(product)
        }
        _ => Err(format!("makes {dims:?} numbers, more than can be worked out in advance")),
    }
}

/// The numbers of a stored tensor.
///
/// # Errors
/// If it exceeds the budget, or is not of a plain type.
pub fn look_into(tensor: &TensorProto, budget: &mut Budget) -> Result<Array, String> {
    let dims: Vec<usize> = tensor.dims.iter().map(|&dim| dim as usize).collect();
    elements(tensor)?;
    budget.take(&dims)?;
    let numbers = match numbers(tensor)? {
        Stored::Floats(values) => Numbers::Floats(values),
        Stored::Ints(values) => Numbers::Whole(values.into_iter().map(Whole::Plain).collect()),
    };
    Ok(Array { dims, numbers })
}
