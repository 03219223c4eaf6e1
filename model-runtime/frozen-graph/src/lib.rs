//! Makes a loaded TorchScript module cheaper to run on a CPU.
//!
//! Why: for each product libtorch hands a linear layer's weight to a library that first copies it into the layout that its kernels read.
//! For a batch of a few hundred tokens that hardly shows; for one sentence it is nearly half of the forward. oneDNN lets the copy be made once
//! (`mkldnn::_reorder_linear_weight`), and computes a GELU or ReLU that follows on the way (`mkldnn::_linear_pointwise`): what `torch.compile` does,
//! too. TorchScript's graph can only be changed in C++, hence `pack.cpp`.
//!
//! The weights must be constants for that, so the module is frozen first (`torch.jit.freeze`): its attributes become constants of its graph, and
//! convolutions take over the factors of the batch normalisations behind them.

use std::ffi::{CStr, c_char};

use tch::CModule;
use torch_sys::CModule_;

/// Room for why a module cannot be frozen: the first lines say it, a C++ backtrace follows.
const MESSAGE_ROOM: usize = 4096;

unsafe extern "C" {
    fn frozen_graph_pack(module: *mut CModule_, layers: *mut u64, message: *mut c_char, room: usize) -> bool;
}

/// Freezes a module that is in evaluation mode and packs its linear layers in fp32; returns how many these are. Small layers (under 65,536 weights), those
/// in other number formats, and what is written out as a plain product of matrices stay as they are; without any other the module does, too.
/// Results may differ in the last digits, since sums are made in another order.
///
/// The weights take as much memory as before, but for a moment, in which there are both. Other methods than `forward` are gone.
///
/// # Errors
/// It cannot be frozen (it is in training mode, say): what libtorch said. Then it is as it was.
pub fn pack(module: &mut CModule) -> Result<u64, String> {
    let mut layers = 0;
    let mut message: [c_char; MESSAGE_ROOM] = [0; MESSAGE_ROOM];
    let pointer = pointer(module);
    // SAFETY: the module lives and is borrowed mutably for the whole call; `layers` and `message` are valid for writing, the latter for as many bytes as are
    // said; nothing is thrown.
    if unsafe { frozen_graph_pack(pointer, &raw mut layers, message.as_mut_ptr(), message.len()) } {
        return Ok(layers);
    }
    // SAFETY: on failure a string with its end has been written.
    let reason = unsafe { CStr::from_ptr(message.as_ptr()) };
    Err(reason.to_string_lossy().into_owned())
}

/// The `torch::jit::Module` behind tch's type, which keeps it private.
fn pointer(module: &mut CModule) -> *mut CModule_ {
    // A type with one field, a pointer, has nowhere else to put it if it is as large as a pointer. The version of tch is pinned.
    const { assert!(size_of::<CModule>() == size_of::<*mut CModule_>()) };
    // SAFETY: see above; and a pointer may be copied while its owner is borrowed.
    unsafe { *std::ptr::from_mut(module).cast::<*mut CModule_>() }
}
