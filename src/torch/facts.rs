//! Identifies this libtorch, and whether it sees CUDA.

use std::ffi::CString;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

/// What is known about the libtorch in this process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    /// The version in its own files, such as `2.11.0+cu130`.
    pub version: String,
    /// The folder that has `libtorch_cpu.so`.
    pub library: Option<PathBuf>,
    /// Number of CUDA devices.
    pub devices: usize,
    /// Why there are none.
    pub without_cuda: Option<String>,
}

/// Examines libtorch, once. This must come before any other CUDA call: the linker drops `libtorch_cuda.so`, so
/// that the program starts where there is no GPU, and libtorch knows CUDA only if that library is opened first.
pub fn facts() -> Facts {
    static FACTS: OnceLock<Facts> = OnceLock::new();
    FACTS.get_or_init(look).clone()
}

fn look() -> Facts {
    let library = loaded_from("libtorch_cpu.so");
    let opened = match &library {
        Some(folder) => open_cuda(folder),
        None => Err("libtorch_cpu.so is not among this process's libraries".into()),
    };
    let devices = match opened {
        Ok(()) => usize::try_from(tch::Cuda::device_count()).unwrap_or(0),
        Err(_) => 0,
    };
    let no_device = || "the NVIDIA driver shows no device".to_string();
    let without_cuda = opened.err().or_else(|| (devices == 0).then(no_device));
    let version = library.as_deref().and_then(version).unwrap_or_else(|| "unknown".into());
    Facts { version, library, devices, without_cuda }
}

/// Opens the driver's library and then libtorch's CUDA part, and keeps both open.
fn open_cuda(folder: &Path) -> Result<(), String> {
    open_globally(Path::new("libcuda.so.1"))
        .map_err(|_| "there is no NVIDIA driver (libcuda.so.1)".to_string())?;
    open_globally(&folder.join("libtorch_cuda.so"))
}

fn open_globally(path: &Path) -> Result<(), String> {
    let name = CString::new(path.as_os_str().as_bytes()).map_err(|error| error.to_string())?;
    // SAFETY: opening runs the library's initialisers; both names are of libraries that libtorch
    // itself would open. The handle is kept for the process's life.
    let handle = unsafe { libc::dlopen(name.as_ptr(), libc::RTLD_NOW | libc::RTLD_GLOBAL) };
    if !handle.is_null() {
        return Ok(());
    }
    // SAFETY: after a failed dlopen, dlerror gives a C string that lives until the next call.
    let problem = unsafe {
        let text = libc::dlerror();
        if text.is_null() {
            None
        } else {
            Some(std::ffi::CStr::from_ptr(text).to_string_lossy().into_owned())
        }
    };
    Err(problem.unwrap_or_else(|| format!("{} cannot be opened", path.display())))
}

/// The folder from which a library of this process was loaded.
fn loaded_from(name: &str) -> Option<PathBuf> {
    let maps = std::fs::read_to_string("/proc/self/maps").ok()?;
    let paths = maps.lines().filter_map(|line| line.find('/').map(|start| Path::new(&line[start..])));
    let mut found = paths.filter(|path| path.file_name().is_some_and(|file| file == name));
    found.next()?.parent().map(Path::to_path_buf)
}

/// The version in a wheel's `version.py` or an archive's `build-version`.
fn version(library: &Path) -> Option<String> {
    let root = library.parent()?;
    if let Ok(text) = std::fs::read_to_string(root.join("version.py")) {
        let line = text.lines().find(|line| line.starts_with("__version__"))?;
        return line.split(['\'', '"']).nth(1).map(String::from);
    }
    Some(std::fs::read_to_string(root.join("build-version")).ok()?.trim().to_string())
}
