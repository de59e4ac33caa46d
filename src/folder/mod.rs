//! A run on disk: where things lie, what is done, what the small files hold.
//!
//! Written by `run`, read by `report` and by whoever looks at a finished run. Knows no stage's
//! work.

mod artifacts;
mod manifest;
mod paths;

pub use artifacts::{Candidate, Choice, Kept, read_json, read_metrics, write_json};
pub use manifest::{Artifacts, Manifest, SCHEMA, StageEntry, Status, hash_outputs};
pub use paths::{Lock, RunFolder};
