//! The interface of a model file: how pixels are fed to a network, and what it outputs.
//!
//! Decides the names, types, layout and batch of the input and the outputs, how images are prepared, and what
//! the numbers mean. Import yields a contract, a plan owns one, emission writes a file that keeps it, and
//! everything that runs a file reads it. Knows no file format, no data set and no runtime.

mod image_input;
mod interface;
mod normalization;
mod output;
mod precision;
mod preparation;
mod tensor;

pub use image_input::{ImageInput, Pixels};
pub use interface::Contract;
pub use normalization::{Normalization, Table};
pub use output::{Output, OutputKind, rows, suitable};
pub use precision::Precision;
pub use preparation::{ChannelOrder, Fit, Layout, PixelRange, Preparation, Resize};
pub use tensor::{Dim, Element, TensorInfo};
