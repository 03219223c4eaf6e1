//! Compiles the C++ part against the headers of the libtorch that torch-sys is linked with, with the same ABI.

use std::env;
use std::path::PathBuf;
use std::process::Command;

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-changed=src/pack.cpp");
    println!("cargo:rerun-if-env-changed=LIBTORCH_CXX11_ABI");
    println!("cargo:rerun-if-env-changed=LIBTORCH_USE_PYTORCH");
    println!("cargo:rerun-if-env-changed=LIBTORCH_INCLUDE");
    let lib = env::var_os("DEP_TCH_LIBTORCH_LIB").map(PathBuf::from);
    let Some(beside_lib) = lib.as_deref().and_then(|lib| lib.parent()) else {
        println!("cargo::error=torch-sys did not say where libtorch lies; point LIBTORCH at a libtorch 2.6");
        return;
    };
    let root = env::var_os("LIBTORCH_INCLUDE").map_or_else(|| beside_lib.to_owned(), PathBuf::from);
    let include = root.join("include");
    cc::Build::new()
        .cpp(true)
        .std("c++17")
        .define("_GLIBCXX_USE_CXX11_ABI", if has_old_abi() { "0" } else { "1" })
        // Its headers are theirs to mend.
        .flag("-isystem")
        .flag(&include)
        .flag("-isystem")
        .flag(include.join("torch/csrc/api/include"))
        .file("src/pack.cpp")
        .compile("frozen_graph");
}

/// Whether libtorch was compiled with the `std::string` from before C++11: found out as torch-sys finds out.
fn has_old_abi() -> bool {
    if env::var_os("LIBTORCH_USE_PYTORCH").is_some() {
        let python = if env::var_os("VIRTUAL_ENV").is_some() { "python" } else { "python3" };
        let question = "import torch; print(int(torch._C._GLIBCXX_USE_CXX11_ABI))";
        let answer = Command::new(python).args(["-c", question]).output();
        return answer.is_ok_and(|answer| answer.stdout.trim_ascii() == b"0");
    }
    env::var("LIBTORCH_CXX11_ABI").is_ok_and(|abi| abi == "0")
}
