//! The memory of a GPU as CUDA itself tells it: for where NVML is absent (many containers) or sees another device than CUDA (a MIG slice).

use std::os::raw::c_int;
use std::sync::OnceLock;

use libloading::os::unix::{Library, RTLD_NOW, Symbol};

use super::open_library;

/// libtorch has loaded it.
const LIBRARY: &str = "libcudart.so.12";
/// `cudaSuccess`.
const SUCCESS: c_int = 0;

/// Bytes of one device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Memory {
    /// Nobody uses them.
    pub free: u64,
    /// All there are.
    pub total: u64,
}

// CUDA's runtime API, version 12: cudaError_t is an int.
type SetDevice = unsafe extern "C" fn(device: c_int) -> c_int;
type MemGetInfo = unsafe extern "C" fn(free: *mut usize, total: *mut usize) -> c_int;

struct Runtime {
    set_device: Symbol<SetDevice>,
    mem_get_info: Symbol<MemGetInfo>,
    /// Keeps the functions where they are.
    _library: Library,
}

impl Runtime {
    fn find() -> Result<Self, String> {
        let library = open_library(LIBRARY, RTLD_NOW)?;
        // SAFETY: the signatures are those of CUDA 12's `cuda_runtime_api.h`, which the library's version (`.so.12`) stands for.
        let set_device = unsafe { library.get(b"cudaSetDevice\0") };
        // SAFETY: as above.
        let mem_get_info = unsafe { library.get(b"cudaMemGetInfo\0") };
        Ok(Self {
            set_device: set_device.map_err(|error| error.to_string())?,
            mem_get_info: mem_get_info.map_err(|error| error.to_string())?,
            _library: library,
        })
    }
}

/// The memory of this GPU, of which the process must have a context already (CUDA would make one, for some hundred megabytes). May hang with a GPU that
/// has fallen off the bus.
///
/// # Errors
/// There is no CUDA runtime, or CUDA's error number.
pub fn memory(gpu: usize) -> Result<Memory, String> {
    static RUNTIME: OnceLock<Result<Runtime, String>> = OnceLock::new();
    let runtime = RUNTIME.get_or_init(Runtime::find).as_ref().map_err(Clone::clone)?;
    let device = c_int::try_from(gpu).map_err(|error| error.to_string())?;
    let (mut free, mut total) = (0, 0);
    // SAFETY: a plain C call; it changes the current device of this thread alone.
    let selected = unsafe { (runtime.set_device)(device) };
    if selected != SUCCESS {
        return Err(format!("cudaSetDevice({gpu}) failed with error {selected}"));
    }
    // SAFETY: both pointers are to live variables of the type size_t.
    let read = unsafe { (runtime.mem_get_info)(&raw mut free, &raw mut total) };
    if read != SUCCESS {
        return Err(format!("cudaMemGetInfo failed with error {read} on GPU {gpu}"));
    }
    let bytes = |count: usize| u64::try_from(count).unwrap_or(u64::MAX);
    Ok(Memory { free: bytes(free), total: bytes(total) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gpu_that_is_not_there_is_an_error_and_no_crash() {
        let problem = memory(1 << 20).unwrap_err();
        assert!(problem.contains("cudaSetDevice") || problem.contains("cannot open"), "{problem}");
    }
}
