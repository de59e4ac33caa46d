//! Compressing somebody's own classifier: what its file and its images say, which parts of it are worth training, and the
//! pipeline that does it.
//!
//! Decides and writes a pipeline file; training, selection, export, verification and measuring are those of any other
//! pipeline. Knows no terminal.

mod candidates;
mod classes;
mod conventions;
mod engines;
mod families;
mod given;
mod job;
mod length;
mod look;
mod pipeline;
mod ready;
mod search;
mod target;
mod trial;
mod workbench;

pub use candidates::{Candidate, Candidates, Original};
pub use conventions::Guess;
pub use engines::EngineScore;
pub use given::Given;
pub use job::{Found, Job, Prepared};
pub use length::{Length, told};
pub use look::Subject;
pub use pipeline::Settings;
pub use target::Target;
