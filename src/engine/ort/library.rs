//! Finding ONNX Runtime's shared library and opening it once.

use std::ffi::{CStr, c_char, c_void};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use ort::environment::Environment;
use ort::ep::{CUDA, ExecutionProvider};

use crate::error::InputError;

use super::elf::whole;

/// The version of ONNX Runtime's C interface this program is built for.
const API_VERSION: u32 = 24;

/// The variable that names the library, as `ort` and others have it.
const VARIABLE: &str = "ORT_DYLIB_PATH";

/// The files of the CUDA provider, beside the library.
const PROVIDERS: [&str; 2] = ["libonnxruntime_providers_shared.so", "libonnxruntime_providers_cuda.so"];

/// How the library is got.
const SETUP: &str = if cfg!(feature = "train") {
    "run `make setup` in the project's folder"
} else {
    "put libonnxruntime.so of ONNX Runtime 1.24 or later beside the program, as `make without-libtorch` does"
};

/// What is known of ONNX Runtime in this process.
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

/// The library the user named, which no other takes the place of.
static NAMED: OnceLock<PathBuf> = OnceLock::new();

static LOADED: OnceLock<Result<Loaded, InputError>> = OnceLock::new();

/// Names the library to use, before anything else of this folder is called.
pub fn use_library(path: &Path) {
    // A second call would come too late; the first one stands.
    let _ = NAMED.set(absolute(path));
}

/// Whether the user named the library: then no other engine makes up for it.
pub fn is_named() -> bool {
    NAMED.get().is_some() || std::env::var_os(VARIABLE).is_some_and(|path| !path.is_empty())
}

/// The process's one environment.
pub(super) fn environment() -> Result<&'static Environment, InputError> {
    loaded().map(|loaded| &loaded.environment)
}

/// Looks at ONNX Runtime.
///
/// # Errors
/// [`InputError`] if it cannot be found or loaded.
pub fn facts() -> Result<Facts, InputError> {
    let loaded = loaded()?;
    let cuda = CUDA::is_available().unwrap_or(false);
    Ok(Facts { library: loaded.library.clone(), version: loaded.version.clone(), cuda })
}

/// Makes ready what the CUDA provider is loaded from. The libraries of CUDA and cuDNN are opened where they lie as in
/// an installation of wheels, beside ONNX Runtime's own folder: the provider says where to look for none of them.
/// Elsewhere the loader's path must lead to them.
///
/// # Errors
/// [`InputError`] if ONNX Runtime cannot be loaded, or the provider's libraries are cut off.
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
        // What is missing, the provider names when it is loaded.
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

/// Where the library may be, in order; what the user named is not passed over.
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

/// A name without a folder would be looked for on the system.
fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_path_buf())
}

/// Opens the library and asks for its version, before `ort` sees it: a library that is too old or
/// something else altogether must be an error here, not a deadlock there.
fn probe(path: &Path) -> Result<String, String> {
    #[repr(C)]
    struct ApiBase {
        get_api: unsafe extern "C" fn(u32) -> *const c_void,
        get_version: unsafe extern "C" fn() -> *const c_char,
    }
    type GetBase = unsafe extern "C" fn() -> *const ApiBase;

    whole(path)?;
    // SAFETY: opening runs the library's initialisers; the user or the set-up chose this file.
    let library = unsafe { libloading::Library::new(path) }.map_err(|error| reason(&error))?;
    // SAFETY: the symbol's type is that of ONNX Runtime's C interface, unchanged since its start.
    let (found, version) = unsafe {
        let base = library.get::<GetBase>(b"OrtGetApiBase\0").map_err(|error| error.to_string())?();
        if base.is_null() {
            return Err("OrtGetApiBase gives nothing".into());
        }
        let version = CStr::from_ptr(((*base).get_version)()).to_string_lossy().into_owned();
        (!((*base).get_api)(API_VERSION).is_null(), version)
    };
    if found { Ok(version) } else { Err(format!("version {version} is too old, 1.{API_VERSION} is needed")) }
}

/// What the system's loader says is wrong.
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
