//! Writes into the binary where libtorch lies, so that it starts without `LD_LIBRARY_PATH`.
//!
//! The directory is the one that torch-sys linked against, whichever way it was found (`LIBTORCH`, `LIBTORCH_LIB` or
//! `LIBTORCH_USE_PYTORCH`). PyPI's wheel of torch keeps the CUDA runtime in packages beside torch; `libtorch_cpu.so`
//! needs two of them even on a machine without a GPU, so their directories are added where they exist.

use std::env;
use std::path::{Path, PathBuf};

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    let Some(lib) = env::var_os("DEP_TCH_LIBTORCH_LIB").map(PathBuf::from) else {
        println!(
            "cargo:warning=torch-sys did not say where libtorch lies: set LD_LIBRARY_PATH to run model-runtime"
        );
        println!("cargo:rustc-env=PILOTLIGHT_TORCH_VERSION=2.6");
        return;
    };
    // `--disable-new-dtags` makes it an RPATH, which, unlike a RUNPATH, also holds for what libtorch itself loads.
    println!("cargo:rustc-link-arg=-Wl,--disable-new-dtags");
    println!("cargo:rustc-link-arg=-Wl,-rpath,{}", lib.display());
    for package in ["cuda_runtime", "cuda_cupti"] {
        // <site-packages>/torch/lib -> <site-packages>/nvidia/<package>/lib
        let beside = lib.join("../../nvidia").join(package).join("lib");
        if let Ok(beside) = beside.canonicalize() {
            println!("cargo:rustc-link-arg=-Wl,-rpath,{}", beside.display());
            // The linker must resolve what libtorch_cpu.so needs, too.
            println!("cargo:rustc-link-arg=-Wl,-rpath-link,{}", beside.display());
        }
    }
    println!("cargo:rustc-env=PILOTLIGHT_TORCH_VERSION={}", torch_version(&lib));
}

/// The version of the libtorch we link: the wheel says it in `version.py`, the plain archive in `build-version`.
fn torch_version(lib: &Path) -> String {
    let root = lib.join("..");
    let from_archive = std::fs::read_to_string(root.join("build-version")).ok();
    let from_wheel = std::fs::read_to_string(root.join("version.py")).ok().and_then(|text| {
        let line = text.lines().find(|line| line.starts_with("__version__ ="))?;
        Some(line.split('\'').nth(1)?.to_owned())
    });
    from_archive.or(from_wheel).map_or_else(|| "2.6".to_owned(), |version| version.trim().to_owned())
}
