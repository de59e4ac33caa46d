//! A graph as libtorch runs it: devices, arrays in and out, parameters on a flat buffer, forward.
//!
//! With `train` and `engine/torch.rs` the only place that names `tch`. Knows no data set, no loss
//! and no file.

mod arrays;
mod device;
mod facts;
mod forward;
mod network;

pub use arrays::{batch_tensor, to_f32, to_f64};
pub use device::{ask_for_reproducible_sums, device_name, resolve_device, set_threads, threads};
pub use facts::{Facts, facts};
pub use forward::Mode;
pub use network::Network;
