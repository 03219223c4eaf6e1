//! Why a forward failed, told from what libtorch says: its C++ exceptions reach us as text alone.
//!
//! The kinds differ in what helps: another input, a smaller batch, or nothing but another process.

/// A forward that failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ForwardError {
    /// The model refused this input, or is broken.
    #[error("{0}")]
    Failed(String),
    /// The device has no memory for this batch; a smaller one may fit.
    #[error("out of memory: {0}")]
    OutOfMemory(String),
    /// The device's context is beyond repair: CUDA answers every further call of this process with the same error.
    #[error("the GPU is lost to this process: {0}")]
    Poisoned(String),
}

/// From libtorch's allocators (`c10/cuda/CUDACachingAllocator.cpp`, `c10/core/impl/alloc_cpu.cpp`), from `cudaMalloc` behind its back (loading
/// a kernel), and from cuBLAS and cuDNN, which have workspaces of their own.
const OUT_OF_MEMORY: [&str; 6] = [
    "CUDA out of memory",
    "CUDA error: out of memory",
    "would exceed allowed memory",
    "CUBLAS_STATUS_ALLOC_FAILED",
    "ALLOCATION_FAILED",
    "DefaultCPUAllocator: can't allocate memory",
];

/// What `cudaGetErrorString` says of the errors of which CUDA's documentation writes "This leaves the process in an inconsistent state and
/// any further CUDA work will return the same error. To continue using CUDA, the process must be terminated and relaunched"
/// (`cudaError_t`, CUDA 12.4).
const STICKY: [&str; 12] = [
    "uncorrectable ECC error encountered",
    "uncorrectable NVLink error detected during the execution",
    "an illegal memory access was encountered",
    "the launch timed out and was terminated",
    "device-side assert triggered",
    "hardware stack error",
    "an illegal instruction was encountered",
    "misaligned address",
    "operation not supported on global/shared address space",
    "invalid program counter",
    "unspecified launch failure",
    "the MPS client has been terminated by the server",
];

impl ForwardError {
    /// The kind that this message of libtorch tells of.
    ///
    /// Errors of cuBLAS and cuDNN that merely follow a sticky one say no more than "execution failed"; the trial after a failed batch then
    /// meets the sticky one itself.
    pub(super) fn from_message(message: String) -> Self {
        let says = |texts: &[&str]| texts.iter().any(|text| message.contains(text));
        if says(&OUT_OF_MEMORY) {
            Self::OutOfMemory(message)
        } else if message.contains("CUDA") && says(&STICKY) {
            Self::Poisoned(message)
        } else {
            Self::Failed(message)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(message: &str) -> &'static str {
        match ForwardError::from_message(message.to_owned()) {
            ForwardError::Failed(_) => "failed",
            ForwardError::OutOfMemory(_) => "out of memory",
            ForwardError::Poisoned(_) => "poisoned",
        }
    }

    #[test]
    fn memory_that_does_not_suffice_is_told_from_other_errors() {
        for message in [
            "CUDA out of memory. Tried to allocate 20.00 MiB. GPU 0 has a total capacity of 7.79 GiB of which 10.25 MiB is free. Process 4321 \
             has 7.77 GiB memory in use. Of the allocated memory 7.52 GiB is allocated by PyTorch, and 98.06 MiB is reserved by PyTorch but \
             unallocated.",
            "RuntimeError: CUDA out of memory. Tried to allocate 2.00 GiB.",
            "CUDA error: out of memory",
            "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
            "cuDNN error: CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED",
            "[enforce fail at alloc_cpu.cpp:119] err == 0. DefaultCPUAllocator: can't allocate memory: you tried to allocate 70368744177664 bytes. \
             Error code 12 (Cannot allocate memory)",
        ] {
            assert_eq!(kind(message), "out of memory", "{message}");
        }
    }

    #[test]
    fn a_context_beyond_repair_is_told_from_a_call_that_failed() {
        for message in [
            "CUDA error: device-side assert triggered",
            "RuntimeError: CUDA error: an illegal memory access was encountered",
            "CUDA error: unspecified launch failure",
            "CUDA error: misaligned address",
            "CUDA driver error: unspecified launch failure",
            "CUDA error: uncorrectable ECC error encountered",
        ] {
            assert_eq!(kind(message), "poisoned", "{message}");
        }
        for message in [
            "RuntimeError: index out of range in self",
            "CUDA error: invalid argument",
            "CUDA error: CUBLAS_STATUS_EXECUTION_FAILED when calling `cublasSgemm(handle, ...)`",
            "cuDNN error: CUDNN_STATUS_BAD_PARAM",
            // Of a model that says so of its input.
            "RuntimeError: misaligned address in the text",
        ] {
            assert_eq!(kind(message), "failed", "{message}");
        }
    }
}
