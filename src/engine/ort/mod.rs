//! ONNX Runtime, loaded when it is first needed.

mod library;
mod placement;
mod session;

pub use library::{Facts, facts, use_library};
pub use session::OrtEngine;
