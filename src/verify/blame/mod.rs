//! Finds where a wrong result begins: the first node whose value deviates from what it should be, and the
//! cause where it can be determined.
//!
//! A file's nodes form a graph (`onnx::import`) whose values in float64 are known. They are compared with
//! other values of the same nodes: either those of the network the file was made from, in which case the file
//! may be wrong, or those an engine returns when every tensor of the file is an output, in which case the
//! engine may be. Each node has two errors: the *cumulative* error of its value after the whole network
//! before it, and the *isolated* error that the node itself adds on inputs shared by both sides. Knows files,
//! engines and graphs; no pipeline.

mod align;
mod cause;
mod find;
mod guess;
mod passes;
mod weights;

pub use find::{Evidence, Open, blame};
