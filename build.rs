//! Tells a built program where its shared libraries are, so that it starts from any folder without environment variables:
//! libtorch through an rpath, ONNX Runtime through a compiled-in path. Also detects the data sets and mounts that some tests
//! need; without them those tests are ignored, not passed.

use std::env;
use std::path::{Path, PathBuf};

/// The name of ONNX Runtime's library in its wheel.
const ORT_LIBRARY: &str = "libonnxruntime.so.1.30.0";

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    if let Some(libtorch) = env::var_os("DEP_TCH_LIBTORCH_LIB") {
        let libtorch = PathBuf::from(libtorch);
        println!("cargo:rustc-link-arg=-Wl,-rpath,{}", libtorch.display());
        println!("cargo:rustc-env=COHORT_LIBTORCH={}", libtorch.display());
        build_shim(&libtorch);
    }

    println!("cargo:rerun-if-env-changed=ORT_DYLIB_PATH");
    println!("cargo:rerun-if-env-changed=COHORT_PORTABLE");
    let root = env::var_os("CARGO_MANIFEST_DIR").map(PathBuf::from).unwrap_or_default();
    let fetched = root.join(".runtime/onnxruntime/capi").join(ORT_LIBRARY);
    println!("cargo:rerun-if-changed={}", fetched.display());
    let chosen = env::var_os("ORT_DYLIB_PATH").map(PathBuf::from).filter(|path| !path.as_os_str().is_empty());
    let library = chosen.unwrap_or(fetched);
    // A program for other machines is to be small: equal functions are kept once, by the linker that Rust brings.
    if env::var_os("COHORT_PORTABLE").is_some() {
        println!("cargo:rustc-link-arg-bins=-Wl,--icf=all");
    }
    // It contains no path of this one; the library lies beside it there.
    if env::var_os("COHORT_PORTABLE").is_none() && Path::new(&library).exists() {
        println!("cargo:rustc-env=COHORT_ORT_LIBRARY={}", library.display());
    }

    println!("cargo:rerun-if-env-changed=COHORT_DATA");
    println!("cargo:rustc-check-cfg=cfg(cohort_data)");
    if env::var_os("COHORT_DATA").is_some_and(|folder| Path::new(&folder).is_dir()) {
        println!("cargo:rustc-cfg=cohort_data");
    }

    println!("cargo:rustc-check-cfg=cfg(cohort_namespaces)");
    if own_mounts() {
        println!("cargo:rustc-cfg=cohort_namespaces");
    }

    println!("cargo:rerun-if-changed={}", root.join("Cargo.lock").display());
    let lock = std::fs::read_to_string(root.join("Cargo.lock")).unwrap_or_default();
    println!("cargo:rustc-env=COHORT_TRACT_VERSION={}", locked_version(&lock, "tract-onnx"));
}

/// Compiles the few calls into libtorch that `tch` lacks, with the headers beside its libraries.
fn build_shim(libtorch: &Path) {
    println!("cargo:rerun-if-changed=src/torch/shim.cpp");
    println!("cargo:rerun-if-env-changed=LIBTORCH_INCLUDE");
    println!("cargo:rerun-if-env-changed=LIBTORCH_CXX11_ABI");
    let root = env::var_os("LIBTORCH_INCLUDE").map(PathBuf::from);
    let root = root.or_else(|| libtorch.parent().map(Path::to_path_buf)).unwrap_or_default();
    let abi = env::var("LIBTORCH_CXX11_ABI").unwrap_or_else(|_| "1".into());
    cc::Build::new()
        .cpp(true)
        .std("c++17")
        .warnings(false)
        .include(root.join("include"))
        .define("_GLIBCXX_USE_CXX11_ABI", abi.as_str())
        .file("src/torch/shim.cpp")
        .compile("cohort_shim");
}

/// Whether a program may mount a file system for itself, as a test of full disks does.
fn own_mounts() -> bool {
    let script = "mkdir -p $0 && mount -t tmpfs -o size=64k none $0";
    let out = env::var_os("OUT_DIR").map(PathBuf::from).unwrap_or_default().join("mount");
    let mut unshare = std::process::Command::new("unshare");
    let status = unshare.args(["--map-root-user", "--mount", "sh", "-c", script]).arg(out).status();
    status.is_ok_and(|status| status.success())
}

/// The version of a package in `Cargo.lock`.
fn locked_version<'a>(lock: &'a str, package: &str) -> &'a str {
    let name = format!("name = \"{package}\"");
    let after = lock.lines().skip_while(|line| *line != name).nth(1);
    after.and_then(|line| line.strip_prefix("version = \"")?.strip_suffix('"')).unwrap_or("unknown")
}
