//! How pixels meet a network, and what the network answers: the interface of a model file.
//!
//! Here it is decided what an input and the outputs are called, which type, layout and batch they have, how images
//! are prepared for them, and what the numbers mean. Import yields a contract, a plan owns one, emission writes a
//! file that keeps it, and everything that runs a file reads it. Knows no file format, no data set and no runtime.

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
pub use output::{Output, OutputKind};
pub use precision::Precision;
pub use preparation::{ChannelOrder, Layout, PixelRange, Preparation, Resize};
pub use tensor::{Dim, Element, TensorInfo};
