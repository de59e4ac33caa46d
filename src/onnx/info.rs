//! What a file says of an input or output: name, numbers, shape.

/// One dimension of an input or output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Dim {
    Fixed(usize),
    /// Free, with its name, which may be empty.
    Symbolic(String),
}

/// The numbers an input or output is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Element {
    Float32,
    Float16,
    BFloat16,
    Float64,
    /// Whole numbers from `least` to `most`.
    Integer {
        least: i64,
        most: i64,
    },
}

/// Name, numbers and shape of an input or output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorInfo {
    pub name: String,
    pub element: Element,
    pub dims: Vec<Dim>,
}
