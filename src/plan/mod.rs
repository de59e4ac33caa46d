//! The meaning of a pipeline: every name resolved, every shape inferred, every number checked.
//!
//! Everything that is wrong with a file is reported in one message. Needs no GPU and no libtorch, and reads only
//! the headers of the data.

mod checks;
mod memory;
mod problems;
mod resolve;
mod teacher;

pub use memory::{ANGLE_BLOCK, angle_vertices, relation_bytes};
pub use problems::Problems;
pub use resolve::{Peer, Plan, plan};
pub use teacher::Teacher;
