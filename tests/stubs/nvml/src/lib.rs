//! A stand-in for `libnvidia-ml.so.1`: the functions of NVML that the supervisor calls, with GPUs that are as a file says.
//!
//! The file is named by the variable `NVML_STAND_IN` and read at every call, so that a test changes a GPU by writing it. Without the variable
//! there is no driver. The types are those of `nvml.h` by way of `nvml-wrapper-sys`; what the functions check and return is
//! written after NVIDIA's NVML API reference.

mod functions;
mod story;
