//! What a pipeline means: every name resolved, every shape inferred, every number weighed.
//!
//! All that is wrong with a file is said in one message. Needs no GPU and no libtorch; reads no
//! more of the data than its headers.

mod checks;
mod memory;
mod problems;
mod resolve;
mod teacher;

pub use memory::{ANGLE_BLOCK, angle_vertices, relation_bytes};
pub use problems::Problems;
pub use resolve::{Peer, Plan, plan};
pub use teacher::Teacher;
