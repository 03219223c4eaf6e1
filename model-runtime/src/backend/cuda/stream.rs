//! A CUDA stream of its own for each model thread, so that their forwards overlap on the GPU instead of queueing in the default stream.
//!
//! tch binds no streams, so c10's two functions are looked up in `libc10_cuda.so`, which `libtorch_cuda.so` has brought in:
//!
//! ```cpp
//! // c10/cuda/CUDAStream.h, libtorch 2.6
//! CUDAStream getStreamFromPool(const bool isHighPriority = false, DeviceIndex device = -1);
//! void setCurrentCUDAStream(CUDAStream stream);
//! ```
//!
//! The current stream is a thread's own. All that libtorch does for this thread from then on goes into it: kernels, copies, cuBLAS and cuDNN (which
//! take the current stream with each call), and the allocator, which keeps a pool for each stream.

use std::sync::OnceLock;

use libloading::os::unix::{Library, RTLD_NOW, Symbol};

use super::open_library;

/// Already loaded by then; opening it again only finds it.
const LIBRARY: &str = "libc10_cuda.so";
/// The names under the Itanium C++ ABI, which GCC and Clang share. `b`: bool, `a`: signed char, which DeviceIndex is.
const GET_STREAM_FROM_POOL: &[u8] = b"_ZN3c104cuda17getStreamFromPoolEba\0";
const SET_CURRENT_STREAM: &[u8] = b"_ZN3c104cuda20setCurrentCUDAStreamENS0_10CUDAStreamE\0";

/// `c10::cuda::CUDAStream`: one member of the type `c10::Stream`, whose members are a `Device` of two signed bytes (type, index) and the
/// stream's number. Trivially copyable, so that the Itanium ABI passes and returns it as the C struct that this is.
#[repr(C)]
#[derive(Clone, Copy)]
struct CudaStream {
    device_type: i8,
    device_index: i8,
    id: i64,
}

// "C-unwind": c10 throws when CUDA fails. Such an exception cannot be caught here; it ends the process, as the ABI defines, instead of being undefined.
type GetStreamFromPool = unsafe extern "C-unwind" fn(is_high_priority: bool, device: i8) -> CudaStream;
type SetCurrentStream = unsafe extern "C-unwind" fn(CudaStream);

struct Streams {
    get_from_pool: Symbol<GetStreamFromPool>,
    set_current: Symbol<SetCurrentStream>,
    /// Keeps the functions where they are.
    _library: Library,
}

impl Streams {
    fn find() -> Result<Self, String> {
        let library = open_library(LIBRARY, RTLD_NOW)?;
        // SAFETY: the signatures are those of libtorch 2.6, which build.rs and tch insist on; the names contain the parameters' types, so that
        // a library with others has no such symbols.
        let get_from_pool = unsafe { library.get(GET_STREAM_FROM_POOL) };
        // SAFETY: as above.
        let set_current = unsafe { library.get(SET_CURRENT_STREAM) };
        Ok(Self {
            get_from_pool: get_from_pool.map_err(|error| error.to_string())?,
            set_current: set_current.map_err(|error| error.to_string())?,
            _library: library,
        })
    }
}

/// Gives the calling thread a stream of its own on this GPU, on which the model has been loaded already. Where that cannot be done the thread stays
/// in the default stream, which is slower with several instances and as correct; it is logged once.
pub(in crate::backend) fn use_own_stream(gpu: usize) {
    static STREAMS: OnceLock<Option<Streams>> = OnceLock::new();
    let streams = STREAMS.get_or_init(|| {
        let found = Streams::find();
        found
            .inspect_err(|problem| {
                tracing::warn!(
                    problem,
                    "CUDA streams cannot be had from {LIBRARY}: model threads share the default one"
                );
            })
            .ok()
    });
    let (Some(streams), Ok(device)) = (streams, i8::try_from(gpu)) else { return };
    // SAFETY: the device exists and works, for the model is on it, and the stream comes from the pool of that device, which lives as long as the
    // process. Both functions may be called by any thread.
    unsafe { (streams.set_current)((streams.get_from_pool)(false, device)) };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_has_the_layout_of_c10() {
        // In two registers, as Device and StreamId: 2 bytes, 6 of padding, 8.
        assert_eq!((size_of::<CudaStream>(), align_of::<CudaStream>()), (16, 8));
        assert_eq!(std::mem::offset_of!(CudaStream, id), 8);
    }

    #[test]
    fn libtorch_has_both_functions_under_these_names() {
        // The CPU build of libtorch has no such library; the CUDA build, against which tests are run, must have the functions.
        match Streams::find() {
            Ok(_) => {}
            Err(problem) => assert!(problem.contains("cannot open shared object file"), "{problem}"),
        }
    }
}
