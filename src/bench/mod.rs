//! Latency: which cells, how they are warmed up and interleaved, what their samples say.
//!
//! `measure` times anything that can be called and knows no model; `stats` is arithmetic; `cells`
//! makes the calls out of engines; `profile` looks inside one run. Prints nothing but progress.

mod cells;
mod environment;
mod measure;
mod profile;
mod report;
mod stats;

pub use cells::{Subject, bench};
pub use environment::{Environment, usable_threads};
pub use measure::{Cell, Measured, Plan, measure};
pub use profile::{NodeTime, Profile, profile};
pub use report::{BenchReport, CellResult, speed_up};
pub use stats::{Percentile, Stability, median, outliers, percentile, stability};
