//! One file per verb: its options, and what it prints.

pub mod bench;
pub mod check;
mod common;
#[cfg(feature = "train")]
pub mod compress;
#[cfg(not(feature = "train"))]
#[path = "compress_absent.rs"]
pub mod compress;
pub mod doctor;
mod images;
pub mod inspect;
pub mod predict;
mod preparing;
pub mod run;
mod self_test;
pub mod study;
pub mod verify;

pub use common::Common;
