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
mod look;
mod pipeline;
mod target;
mod trial;
mod workbench;

pub use candidates::{Candidate, Candidates, Original, find};
pub use conventions::Guess;
pub use engines::{EngineScore, score_engines};
pub use given::Given;
pub use look::{Subject, look};
pub use pipeline::{Settings, write};
pub use target::{Bound, Cost, Target};
pub use trial::Trial;
