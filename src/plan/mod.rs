//! The meaning of a pipeline: every name resolved, every shape inferred, every number checked.
//!
//! Everything that is wrong with a file is reported in one message. Needs no GPU and no libtorch, and reads only
//! the headers of the data.

mod checks;
mod file;
mod memory;
mod problems;
mod resolve;
mod source;
mod teacher;

pub use file::{Classifier, Known, Opaque, as_file_takes};
pub use memory::{ANGLE_BLOCK, angle_vertices, relation_bytes};
pub use problems::Problems;
pub use resolve::{Peer, Plan, fitted_to_file, plan};
pub use source::{Part, TeachersHead};
pub use teacher::{Teacher, preparation};
