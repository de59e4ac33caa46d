//! Slimming: which channels of a network belong together, and the network without some of them.
//!
//! Knows a graph and its weights. Which channels are the least useful is decided elsewhere, from the scores that
//! `importance` sums up.

mod couple;
mod cut;
mod slots;

pub use couple::{Coupling, Group, Whole};
