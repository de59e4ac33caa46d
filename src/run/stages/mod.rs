//! One file per stage: reads files of the run folder, calls the part that knows how, writes files.
//!
//! What each may read is declared in `crate::stage`, and [`Context`] holds it to that.

mod bench;
mod collaborate;
mod context;
mod engines;
mod export;
mod latency;
mod pretrain;
mod report;
mod select;
mod slim;
mod training;
mod verify;
mod warnings;

pub use context::{Context, Done};
