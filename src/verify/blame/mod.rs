//! Where a wrong result begins: the first node whose value leaves what it should be, and why, where that can be
//! told.
//!
//! A file's nodes are a graph (`onnx::import`), whose values in float64 are known. They are held against other
//! values of the same nodes: those of the network the file was made from, and then the file itself may be wrong,
//! or those an engine gives when every tensor of the file is an output, and then the engine may be. Each node has
//! two errors. The *cumulative* one is that of its value as it comes out of the whole network before it; the
//! *isolated* one is what the node adds by itself, on inputs that both sides share. Knows files, engines
//! and graphs; no pipeline.

mod align;
mod cause;
mod find;
mod guess;
mod passes;
mod weights;

pub use find::{Evidence, Open, blame};
