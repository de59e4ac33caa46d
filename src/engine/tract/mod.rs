//! tract as an engine: a pure-Rust runtime on the CPU.

mod nodes;
mod runtime;

pub use runtime::{TractEngine, tensor_shapes};
