//! Opens `libtorch_cuda` at run time, and only where there is a GPU.
//!
//! The binary links the CPU libraries alone: so it starts fast, and without gigabytes of CUDA libraries where there is no
//! GPU. libtorch registers CUDA when `libtorch_cuda.so` is opened, which must happen before the first call into libtorch.

use std::path::Path;
use std::sync::OnceLock;

use libloading::os::unix::{Library, RTLD_GLOBAL, RTLD_NOW};

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
    let opened = OPENED.get_or_init(|| {
        // SAFETY: opening a library runs its initialisers. libtorch_cuda is made to be loaded this way (PyTorch does the
        // same through its Python module); it is kept open for the life of the process, so nothing dangles.
        unsafe { Library::open(Some(LIBRARY), RTLD_NOW | RTLD_GLOBAL) }.map_err(|error| {
            let cause =
                std::error::Error::source(&error).map_or_else(|| error.to_string(), ToString::to_string);
            format!("{LIBRARY} cannot be opened ({cause}); use PyTorch's CUDA build, or --device cpu")
        })
    });
    opened.as_ref().map_err(Clone::clone)?;
    match usize::try_from(tch::Cuda::device_count()) {
        Ok(count) if count > 0 => Ok(count),
        _ => Err("libtorch sees no GPU; check the driver (nvidia-smi) and CUDA_VISIBLE_DEVICES".to_owned()),
    }
}
