//! Anything that runs a network on a batch of images: libtorch, ONNX Runtime, tract.
//!
//! `Engine` is the one trait of the project, because it has several real implementations and a
//! fake one for tests. `tch` is named only in `torch.rs`, `ort` only under `ort/`, tract's runtime
//! only under `tract/`.

mod open;
pub mod ort;
mod timed;
#[cfg(feature = "train")]
pub mod torch;
#[cfg(not(feature = "train"))]
#[path = "torch_absent.rs"]
pub mod torch;
pub mod tract;

pub use open::{EngineOptions, INTER_OP_THREADS, engine_names, open};
pub use timed::{TimedNode, TimedRuns, time_nodes};

use std::collections::BTreeMap;

use ndarray::{ArrayD, ArrayViewD};

/// Nodes by execution provider and operator.
pub type Placement = BTreeMap<String, BTreeMap<String, usize>>;

/// A loaded network that can run.
pub trait Engine {
    /// What people call it, with what decides its numbers: `ONNX Runtime CPU`, `tract`.
    fn name(&self) -> String;

    /// Names of the outputs, in the order [`Engine::run`] gives them.
    fn outputs(&self) -> Vec<String>;

    /// Runs a batch, its axis first, already prepared: of images
    /// `[batch, channels, height, width]`.
    ///
    /// # Errors
    /// If the shape does not fit the network or the runtime fails.
    fn run(&mut self, images: ArrayViewD<'_, f32>) -> anyhow::Result<Vec<ArrayD<f32>>>;

    /// Copies a batch to where the engine reads it and allocates what a run needs, so that
    /// [`Engine::run_bound`] does nothing but compute.
    ///
    /// # Errors
    /// If the shape does not fit the network.
    fn bind(&mut self, images: ArrayViewD<'_, f32>) -> anyhow::Result<()>;

    /// Runs a batch and copies the outputs into arrays of their shapes: what a caller in the host's memory waits
    /// for.
    ///
    /// # Errors
    /// If a shape does not fit or the runtime fails.
    fn run_into(&mut self, images: ArrayViewD<'_, f32>, outputs: &mut [ArrayD<f32>]) -> anyhow::Result<()> {
        for (to, from) in outputs.iter_mut().zip(self.run(images)?) {
            to.assign(&from);
        }
        Ok(())
    }

    /// How many nodes of which operator run where, for engines that know several places.
    ///
    /// # Errors
    /// If the runtime does not say.
    fn placement(&self) -> anyhow::Result<Placement> {
        Ok(Placement::new())
    }

    /// Runs the bound batch and waits for the result.
    ///
    /// # Errors
    /// If nothing is bound or the runtime fails.
    fn run_bound(&mut self) -> anyhow::Result<()>;
}
