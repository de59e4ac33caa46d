//! tract as an engine: a pure-Rust runtime on the CPU.

mod cost;
mod depthwise;
mod nodes;
mod plan;
mod runtime;

pub use plan::tensor_shapes;
pub use runtime::TractEngine;
