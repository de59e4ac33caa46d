//! Slimming: which channels of a network belong together, which residual blocks it could do without, and the network
//! without some of them.
//!
//! Knows a graph and its weights. What a single weight is worth is decided elsewhere, and summed up here.

mod blocks;
mod couple;
mod cut;
mod importance;
mod slots;

pub use blocks::{Block, residual_blocks, without_blocks};
pub use couple::{Coupling, Group, Whole};
