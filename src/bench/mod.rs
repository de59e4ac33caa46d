//! Latency measurement: the cells, how they are warmed up and interleaved, and the statistics of their
//! samples.
//!
//! `measure` and `server` time anything that can be called and know nothing about models; `stats` is
//! arithmetic only; `subject` turns engines into calls, and `cells` turns calls into a measurement; `profile`
//! looks inside one run. The module prints nothing.

mod budgets;
mod cell;
mod cells;
mod cgroup;
mod compare;
mod conditions;
mod environment;
mod fresh;
mod gpu;
#[cfg(test)]
mod known;
mod measure;
mod noise;
mod profile;
mod report;
mod server;
mod stats;
mod subject;

pub use budgets::{Outcome, Verdict, exceeded, judge};
pub use cell::{CellId, CellResult, SpeedUp, Sweep};
pub use cells::{Benchmark, bench};
pub use compare::{Compared, Comparison, Side, compare};
pub use conditions::{Conditions, Snapshot};
pub use environment::{Environment, usable_threads};
pub use fresh::{Fresh, Request, Start, measure_start};
pub use gpu::{Gpu, GpuState};
pub use measure::{Cell, Measured, Plan, measure};
pub use profile::{NodeTime, Profile, profile};
pub use report::{BenchReport, ModelProfile, Offline, SCHEMA, Served};
pub use server::{Clock, Load, Monotonic, Search, Trial, highest_rate, serve};
pub use stats::{
    Percentile, Ratio, Stability, median, outliers, paired_ratio, percentile, percentiles, stability,
    unpaired_ratio,
};
pub use subject::{ModelFacts, Open, Pictures, Subject};
