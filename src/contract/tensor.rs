//! Name, element type and shape of an input or output.

/// One dimension of an input or output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Dim {
    Fixed(usize),
    /// A free dimension with its name, which may be empty.
    Symbolic(String),
}

/// Element type of an input or output.
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

/// Name, element type and shape of an input or output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorInfo {
    pub name: String,
    pub element: Element,
    /// The dimensions, batch first. Empty if a file does not declare the shape.
    pub dims: Vec<Dim>,
}

impl TensorInfo {
    /// Name of the batch dimension in files that this program defines.
    pub const BATCH: &'static str = "batch";

    /// A float32 tensor of shape `[batch, shape…]` with a free batch.
    pub fn batched(name: &str, shape: &[usize]) -> Self {
        let batch = Dim::Symbolic(Self::BATCH.into());
        let dims = std::iter::once(batch).chain(shape.iter().map(|&size| Dim::Fixed(size))).collect();
        Self { name: name.into(), element: Element::Float32, dims }
    }

    /// The sizes of one sample's axes, if all are fixed.
    pub fn sample_shape(&self) -> Option<Vec<usize>> {
        let fixed = |dim: &Dim| match dim {
            Dim::Fixed(size) => Some(*size),
            Dim::Symbolic(_) => None,
        };
        self.dims.get(1..)?.iter().map(fixed).collect()
    }
}
