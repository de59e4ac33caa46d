//! A run on disk: the paths of its files, which stages are done, and the content of the small files.
//!
//! Written by `run`, read by `report` and by anything that inspects a finished run. Knows nothing about the
//! work of any stage.

mod artifacts;
mod manifest;
mod paths;

pub use artifacts::{
    AgainstOriginal, Candidate, Choice, Kept, Original, read_json, read_metrics, write_json,
};
pub use manifest::{Artifacts, Manifest, SCHEMA, StageEntry, Status, hash_outputs};
pub use paths::{Lock, RunFolder};
