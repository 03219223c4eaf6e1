//! CUDA, opened at run time, and only where there is a GPU.
//!
//! The binary links the CPU libraries alone: so it starts fast, and without gigabytes of CUDA libraries where there is no
//! GPU. libtorch registers CUDA when `libtorch_cuda.so` is opened (static initialisers hand `at::detail::CUDAHooks` and the kernels to registries
//! in `libtorch_cpu.so`), which must happen before the first call into libtorch: `at::globalContext` asks the registry once and keeps what it got.
//! What tch does not bind is called through the same libraries: streams, and the memory of a GPU.

mod memory;
mod stream;

use std::path::Path;
use std::sync::OnceLock;

use libloading::os::unix::{Library, RTLD_GLOBAL, RTLD_NOW};

pub use memory::{Memory, memory};
pub(super) use stream::use_own_stream;

/// Found through the rpath that build.rs writes, or `LD_LIBRARY_PATH`.
const LIBRARY: &str = "libtorch_cuda.so";

/// Whether the kernel shows a GPU that CUDA may use (NVIDIA's driver, or its stand-in in WSL) and none forbids it.
pub(super) fn driver_is_present() -> bool {
    let hidden =
        std::env::var("CUDA_VISIBLE_DEVICES").is_ok_and(|list| list.trim().is_empty() || list.trim() == "-1");
    let nodes = ["/dev/nvidiactl", "/dev/dxg"];
    !hidden && nodes.into_iter().any(|node| Path::new(node).exists())
}

/// Opens CUDA once and says how many GPUs there are: at least one, or why not.
pub(super) fn open() -> Result<usize, String> {
    static OPENED: OnceLock<Result<Library, String>> = OnceLock::new();
    // PyTorch's own Python module opens it with these flags: at once, so that what is missing is named here, and for everybody.
    let opened = OPENED.get_or_init(|| open_library(LIBRARY, RTLD_NOW | RTLD_GLOBAL));
    opened.as_ref().map_err(|cause| {
        format!("{LIBRARY} cannot be opened ({cause}); use PyTorch's CUDA build, or --device cpu")
    })?;
    match usize::try_from(tch::Cuda::device_count()) {
        Ok(count) if count > 0 => Ok(count),
        _ => Err("libtorch sees no GPU; check the driver (nvidia-smi) and CUDA_VISIBLE_DEVICES".to_owned()),
    }
}

/// A library of CUDA or PyTorch; it stays open for the life of the process when the caller keeps it in a static.
fn open_library(name: &str, flags: std::os::raw::c_int) -> Result<Library, String> {
    // SAFETY: opening a library runs its initialisers. Those of PyTorch and CUDA are made for this (Python loads them the same way) and
    // demand nothing of the caller.
    unsafe { Library::open(Some(name), flags) }.map_err(|error| {
        std::error::Error::source(&error).map_or_else(|| error.to_string(), ToString::to_string)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_driver_opening_cuda_is_an_error_and_no_crash() {
        // With a driver there may be GPUs. Without one the library still opens where PyTorch's CUDA build is installed.
        match open() {
            Ok(count) => assert!(driver_is_present() && count > 0),
            Err(problem) => {
                assert!(problem.contains("sees no GPU") || problem.contains("cannot be opened"), "{problem}")
            }
        }
    }
}
