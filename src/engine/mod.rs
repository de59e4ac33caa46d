//! The engines that run a network on a batch of images: libtorch, ONNX Runtime and tract.
//!
//! `Engine` is the only trait of the project, because it has several real implementations and a
//! fake one for tests. `tch` is named only in `torch.rs`, `ort` only under `ort/`, and tract's runtime
//! only under `tract/`.

mod open;
pub mod ort;
mod scores;
mod timed;
#[cfg(feature = "train")]
pub mod torch;
#[cfg(not(feature = "train"))]
#[path = "torch_absent.rs"]
pub mod torch;
pub mod tract;

pub use open::{EngineOptions, INTER_OP_THREADS, engine_names, open};
pub use scores::{padded, scores};
pub use timed::{TimedNode, TimedRuns, time_nodes};

use std::collections::BTreeMap;

use ndarray::{ArrayD, ArrayViewD};

/// Number of nodes, by execution provider and then by operator.
pub type Placement = BTreeMap<String, BTreeMap<String, usize>>;

/// A loaded network that is ready to run.
pub trait Engine {
    /// Display name, including the settings that affect its numbers: `ONNX Runtime CPU`, `tract`.
    fn name(&self) -> String;

    /// Names of the outputs, in the order in which [`Engine::run`] returns them.
    fn outputs(&self) -> Vec<String>;

    /// Runs a preprocessed batch whose first axis is the batch axis: `[batch, channels, height, width]` for
    /// images.
    ///
    /// # Errors
    /// If the shape does not fit the network or the runtime fails.
    fn run(&mut self, images: ArrayViewD<'_, f32>) -> anyhow::Result<Vec<ArrayD<f32>>>;

    /// Copies a batch to where the engine reads it and allocates everything a run needs, so that
    /// [`Engine::run_bound`] only computes.
    ///
    /// # Errors
    /// If the shape does not fit the network.
    fn bind(&mut self, images: ArrayViewD<'_, f32>) -> anyhow::Result<()>;

    /// Runs a batch and copies the outputs into arrays of the same shapes. This is the latency seen by a caller
    /// whose data lies in host memory.
    ///
    /// # Errors
    /// If a shape does not fit or the runtime fails.
    fn run_into(&mut self, images: ArrayViewD<'_, f32>, outputs: &mut [ArrayD<f32>]) -> anyhow::Result<()> {
        for (to, from) in outputs.iter_mut().zip(self.run(images)?) {
            to.assign(&from);
        }
        Ok(())
    }

    /// Number of nodes per execution provider and operator; empty for engines without execution providers.
    ///
    /// # Errors
    /// If the runtime does not report it.
    fn placement(&self) -> anyhow::Result<Placement> {
        Ok(Placement::new())
    }

    /// Runs the bound batch and waits for the result.
    ///
    /// # Errors
    /// If nothing is bound or the runtime fails.
    fn run_bound(&mut self) -> anyhow::Result<()>;
}
