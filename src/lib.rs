//! Cohort compresses an image model: it trains a cohort of collaborating students, selects one,
//! exports it to ONNX, proves that the export computes the same thing, and measures what it costs
//! to run.
//!
//! Layers, each using only those after it: `commands` → `study` → `run` → `report` → `train`, `verify`,
//! `bench`, `folder` → `engine`, `torch`, `onnx` → `kernels`, `plan` → `zoo`, `data`, `graph`, `config` → `contract`.
//! Errors and the exit codes they carry are in `error`. Nothing prints but `ui`, which `commands` alone uses: what takes
//! long tells `progress`.

/// The code in the documentation compiles.
#[cfg(doctest)]
#[doc = include_str!("../docs/library.md")]
pub struct LibraryGuide;

pub mod bench;
pub mod cli;
pub mod commands;
pub mod config;
pub mod contract;
pub mod data;
pub mod engine;
pub mod epoch;
pub mod error;
pub mod files;
pub mod folder;
pub mod graph;
#[cfg(feature = "train")]
mod kernels;
pub mod onnx;
pub mod plan;
pub mod progress;
pub mod report;
#[cfg(feature = "train")]
pub mod run;
#[cfg(not(feature = "train"))]
#[path = "run/absent.rs"]
pub mod run;
pub mod score;
pub mod seed;
pub mod stage;
pub mod study;
#[cfg(feature = "train")]
pub mod torch;
#[cfg(feature = "train")]
pub mod train;
pub mod ui;
pub mod verify;
pub mod zoo;
