//! Finds ONNX Runtime's shared library and opens it once per process.

use std::ffi::{CStr, c_char, c_void};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use ort::environment::Environment;
use ort::ep::{CUDA, ExecutionProvider};

use crate::error::InputError;
use crate::progress::Progress;

use super::elf::whole;

/// The version of ONNX Runtime's C API that this program is built for.
const API_VERSION: u32 = 24;

/// The environment variable that names the library; `ort` and other programs use the same one.
const VARIABLE: &str = "ORT_DYLIB_PATH";

/// The files of the CUDA provider, in the same folder as the library.
const PROVIDERS: [&str; 2] = ["libonnxruntime_providers_shared.so", "libonnxruntime_providers_cuda.so"];

/// How to install the library.
const SETUP: &str = if cfg!(feature = "train") {
    "run `make setup` in the project's folder"
} else {
    "put libonnxruntime.so of ONNX Runtime 1.24 or later beside the program, as `make without-libtorch` does"
};

/// Facts about the ONNX Runtime that this process loaded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    pub library: PathBuf,
    pub version: String,
    /// Whether this build of the library has the CUDA provider.
    pub cuda: bool,
}

struct Loaded {
    environment: Environment,
    library: PathBuf,
    version: String,
}

/// The library that the user named; no other may replace it.
static NAMED: OnceLock<PathBuf> = OnceLock::new();

static LOADED: OnceLock<Result<Loaded, InputError>> = OnceLock::new();

/// Names the library to use. Must be called before anything else in this module.
pub fn use_library(path: &Path) {
    // A second call would come too late, so the first one stands.
    let _ = NAMED.set(absolute(path));
}

/// Whether the user named the library; if so, no other engine may stand in for it.
fn is_named() -> bool {
    NAMED.get().is_some() || std::env::var_os(VARIABLE).is_some_and(|path| !path.is_empty())
}

/// The single environment of the process.
pub(super) fn environment() -> Result<&'static Environment, InputError> {
    loaded().map(|loaded| &loaded.environment)
}

/// Loads ONNX Runtime and describes it.
///
/// # Errors
/// [`InputError`] if it cannot be found or loaded.
pub fn facts() -> Result<Facts, InputError> {
    let loaded = loaded()?;
    let cuda = CUDA::is_available().unwrap_or(false);
    Ok(Facts { library: loaded.library.clone(), version: loaded.version.clone(), cuda })
}

/// ONNX Runtime's facts if it is available; otherwise a warning says how to get it.
///
/// # Errors
/// [`InputError`] if the user named its library, because then no other engine can replace it.
pub fn facts_or_warning(progress: &dyn Progress) -> Result<Option<Facts>, InputError> {
    match facts() {
        Ok(facts) => Ok(Some(facts)),
        Err(missing) if is_named() => Err(missing),
        Err(missing) => {
            let remedy = missing.hint.as_deref().unwrap_or_default();
            progress.warn(format!("continuing without ONNX Runtime: {missing}\n  hint: {remedy}"));
            Ok(None)
        }
    }
}

/// Prepares loading of the CUDA provider. In an installation from Python wheels, the libraries of CUDA and cuDNN lie
/// beside ONNX Runtime's own folder and are opened from there, because the provider carries no search path for them.
/// In any other installation they must be on the loader's path.
///
/// # Errors
/// [`InputError`] if ONNX Runtime cannot be loaded or the provider's libraries are truncated.
pub(super) fn prepare_cuda() -> Result<(), InputError> {
    static OPENED: OnceLock<()> = OnceLock::new();
    let library = &loaded()?.library;
    for name in PROVIDERS {
        let path = library.with_file_name(name);
        whole(&path).map_err(|problem| InputError::new(format!("{}: {problem}", path.display())))?;
    }
    OPENED.get_or_init(|| {
        let wheels = library.ancestors().nth(3).map(|root| root.join("nvidia"));
        let folder = |name: &str| Some(wheels.as_ref()?.join(name).join("lib")).filter(|path| path.is_dir());
        // Errors are ignored: the provider names any missing library when it is loaded.
        let _ = ort::ep::cuda::preload_dylibs(folder("cu13").as_deref(), folder("cudnn").as_deref());
    });
    Ok(())
}

fn loaded() -> Result<&'static Loaded, InputError> {
    LOADED.get_or_init(|| load(NAMED.get().map(PathBuf::as_path))).as_ref().map_err(InputError::clone)
}

fn load(named: Option<&Path>) -> Result<Loaded, InputError> {
    let mut tried = Vec::new();
    for (origin, path, required) in candidates(named) {
        match probe(&path) {
            Ok(version) => return open(path, version),
            Err(problem) if required => {
                return Err(InputError::new(format!("{origin} {}: {problem}", path.display()))
                    .hint("name the file libonnxruntime.so of ONNX Runtime 1.24 or later"));
            }
            Err(problem) => tried.push(format!("\n  {origin} {}: {problem}", path.display())),
        }
    }
    let hint =
        format!("{SETUP}, or name the library with --ort-lib or {VARIABLE}; the engine tract needs none");
    Err(InputError::new(format!("ONNX Runtime cannot be loaded; tried{}", tried.concat())).hint(hint))
}

/// Candidate paths of the library, in order, each with its origin and whether it is required: a library that the user
/// named is never skipped.
fn candidates(named: Option<&Path>) -> Vec<(&'static str, PathBuf, bool)> {
    let mut candidates = Vec::new();
    if let Some(path) = named {
        candidates.push(("--ort-lib", path.to_path_buf(), true));
    }
    if let Some(path) = std::env::var_os(VARIABLE).filter(|path| !path.is_empty()) {
        candidates.push((VARIABLE, absolute(Path::new(&path)), true));
    }
    let program = std::env::current_exe().ok();
    if let Some(folder) = program.as_deref().and_then(Path::parent) {
        candidates.push(("beside the program:", folder.join("libonnxruntime.so"), false));
    }
    if let Some(path) = option_env!("COHORT_ORT_LIBRARY") {
        candidates.push(("as built:", path.into(), false));
    }
    candidates.push(("on the system:", "libonnxruntime.so".into(), false));
    candidates
}

/// Makes a path absolute, because the loader would search the system for a bare file name.
fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_path_buf())
}

/// Opens the library and asks for its version before `ort` sees it: a library that is too old, or is not ONNX Runtime
/// at all, must be an error here instead of a deadlock in `ort`.
fn probe(path: &Path) -> Result<String, String> {
    #[repr(C)]
    struct ApiBase {
        get_api: unsafe extern "C" fn(u32) -> *const c_void,
        get_version: unsafe extern "C" fn() -> *const c_char,
    }
    type GetBase = unsafe extern "C" fn() -> *const ApiBase;

    whole(path)?;
    // SAFETY: opening runs the library's initialisers; the user or the installation chose this file.
    let library = unsafe { libloading::Library::new(path) }.map_err(|error| reason(&error))?;
    // SAFETY: the symbol has this type in ONNX Runtime's C API, unchanged since its first version.
    let (found, version) = unsafe {
        let base = library.get::<GetBase>(b"OrtGetApiBase\0").map_err(|error| error.to_string())?();
        if base.is_null() {
            return Err("OrtGetApiBase returned null".into());
        }
        let version = CStr::from_ptr(((*base).get_version)()).to_string_lossy().into_owned();
        (!((*base).get_api)(API_VERSION).is_null(), version)
    };
    if found { Ok(version) } else { Err(format!("version {version} is too old, 1.{API_VERSION} is needed")) }
}

/// The error message of the system's loader, with its cause.
fn reason(error: &dyn std::error::Error) -> String {
    match error.source() {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}

fn open(library: PathBuf, version: String) -> Result<Loaded, InputError> {
    let fail = |problem: String| InputError::new(format!("ONNX Runtime {}: {problem}", library.display()));
    let builder = ort::init_from(&library).map_err(|error| fail(error.to_string()))?;
    let environment = builder.with_name("cohort").with_telemetry(false).build();
    let environment = environment.map_err(|error| fail(error.to_string()))?;
    Ok(Loaded { environment, library, version })
}
