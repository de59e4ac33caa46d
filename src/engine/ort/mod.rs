//! ONNX Runtime, loaded when it is first needed.

mod library;
mod placement;
mod session;

pub use library::{Facts, facts, is_named, use_library};
pub use session::OrtEngine;
