//! The job of validating an ONNX file: settles what the file leaves open, chooses the reference, the inputs and the engines
//! from what the user named and from what lies around the file, and examines it.
//!
//! Knows run folders, data sets and recorded arrays; does not know the command line or the terminal. The comparison itself
//! is `verify`'s.

mod against;
mod first;
mod inputs;
mod job;
mod numpy;
mod settle;
mod sizes;

pub use inputs::image_input;
pub use job::{Request, specimen, validate};
pub use settle::fix_batch;
