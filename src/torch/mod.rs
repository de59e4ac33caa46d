//! A graph under libtorch: devices, arrays in and out, parameters on a flat buffer, forward and backward pass.
//!
//! Only this part, `train` and `engine/torch.rs` name `tch`. Knows no data set, no loss and no file.

mod arrays;
mod backward;
mod device;
mod elementwise;
mod facts;
mod forward;
mod images;
mod learn;
mod network;
mod norm;
mod shim;
mod steps;

pub use arrays::{batch_tensor, sent, to_f32, to_f64};
pub use backward::Gradients;
pub use device::{device_name, kernels, prepare_process, resolve_device, set_threads, threads};
pub use facts::{Facts, facts};
pub use forward::{Mode, apply};
pub use images::channels_last;
pub use learn::{Answer, Pass};
pub use network::Network;
pub use shim::set_convolutions;
