//! Cohort compresses an image model: it trains a cohort of collaborating students, selects one,
//! exports it to ONNX, proves that the export computes the same thing, and measures what it costs
//! to run.
//!
//! Programs use [`jobs`], with [`progress`] and [`error`]; `examples/` has one program per job.
//!
//! Layers, each using only those after it: `commands` → `study` → `run` → `report` → `train`, `validate` →
//! `verify`, `bench`, `folder` → `engine`, `torch`, `onnx` → `kernels`, `plan` → `zoo`, `data`, `graph`, `config` → `contract`.
//! Errors and the exit codes they carry are in `error`. Nothing prints but `ui`, which `commands` alone uses: what takes
//! long tells `progress`.

#![deny(missing_docs)]

/// The code in the documentation compiles.
#[cfg(doctest)]
#[doc = include_str!("../docs/library.md")]
pub struct LibraryGuide;

// The face of the library, for programs that use it.
pub mod error;
pub mod jobs;
pub mod progress;

// Internal: public for the program, its tests and its benches, and free to change with any version.
#[doc(hidden)]
pub mod bench;
#[doc(hidden)]
pub mod cli;
#[doc(hidden)]
pub mod commands;
#[cfg(feature = "train")]
#[doc(hidden)]
pub mod compress;
#[doc(hidden)]
pub mod config;
#[doc(hidden)]
pub mod contract;
#[doc(hidden)]
pub mod data;
#[doc(hidden)]
pub mod engine;
#[doc(hidden)]
pub mod epoch;
#[doc(hidden)]
pub mod files;
#[doc(hidden)]
pub mod folder;
#[doc(hidden)]
pub mod graph;
#[cfg(feature = "train")]
mod kernels;
#[doc(hidden)]
pub mod onnx;
#[doc(hidden)]
pub mod plan;
#[doc(hidden)]
pub mod report;
#[cfg(feature = "train")]
#[doc(hidden)]
pub mod run;
#[cfg(not(feature = "train"))]
#[doc(hidden)]
#[path = "run/absent.rs"]
pub mod run;
#[doc(hidden)]
pub mod seed;
#[doc(hidden)]
pub mod stage;
#[doc(hidden)]
pub mod study;
#[doc(hidden)]
pub mod task;
#[doc(hidden)]
pub mod text;
#[cfg(feature = "train")]
#[doc(hidden)]
pub mod torch;
#[cfg(feature = "train")]
#[doc(hidden)]
pub mod train;
#[doc(hidden)]
pub mod ui;
#[doc(hidden)]
pub mod validate;
#[doc(hidden)]
pub mod verify;
#[doc(hidden)]
pub mod zoo;
