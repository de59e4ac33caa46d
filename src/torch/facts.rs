//! Which libtorch this is and what it sees.

use std::path::PathBuf;

/// What is known of the libtorch in this process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    pub version: String,
    pub cuda: bool,
    /// CUDA devices seen.
    pub devices: usize,
    /// The library's folder.
    pub library: Option<PathBuf>,
}

/// Looks at libtorch.
pub fn facts() -> Facts {
    let cuda = tch::Cuda::is_available();
    let devices = usize::try_from(tch::Cuda::device_count()).unwrap_or(0);
    Facts { version: "2.11.0".into(), cuda, devices, library: None }
}
