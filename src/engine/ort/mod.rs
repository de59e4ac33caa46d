//! ONNX Runtime, loaded when it is first needed.

mod elf;
mod library;
mod nodes;
mod placement;
mod session;

pub use library::{Facts, facts, facts_or_warning, use_library};
pub use nodes::time_nodes;
pub use session::OrtEngine;
