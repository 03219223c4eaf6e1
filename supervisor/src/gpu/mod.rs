//! The GPUs, read through NVML on a thread of its own.
//!
//! NVML is C code that can hang for as long as it likes when a GPU or its driver is in trouble, and then nothing ends it: not a
//! signal, not a deadline. So nobody waits for this thread, not even the exit of the supervisor; what it has to say goes to the
//! event loop, and its silence is noticed there (`lifecycle::gpu`).
//!
//! One thread is enough: between two readings it waits for Xid errors, which arrive at once. Where there is no driver or no visible GPU it
//! says so and ends.
//!
//! - `nvml.rs`: the thread's life.
//! - `library.rs`: the library, and the few functions that `nvml-wrapper` has not.
//! - `visible.rs`: which GPUs are this container's.
//! - `reading.rs`: one GPU's figures.

mod library;
mod nvml;
mod reading;
mod visible;

use std::sync::atomic::{AtomicBool, Ordering};

use lifecycle::Event;
use tokio::sync::mpsc;

use crate::config::Gpu;

/// Whether there is a thread that may be inside NVML.
static WATCHING: AtomicBool = AtomicBool::new(false);

/// Starts the thread. It ends when there is nothing to watch, or nobody to tell.
///
/// # Errors
/// The operating system has no room for a thread.
pub fn watch(config: Gpu, events: mpsc::Sender<Event>) -> std::io::Result<()> {
    WATCHING.store(true, Ordering::Relaxed);
    let work = move || {
        nvml::run(&config, &events);
        WATCHING.store(false, Ordering::Relaxed);
    };
    let thread = std::thread::Builder::new().name("nvml".to_owned()).spawn(work);
    thread.map(drop).inspect_err(|_| WATCHING.store(false, Ordering::Relaxed))
}

/// Ends the process here and now if the thread may be inside NVML: at an orderly exit the C library runs what NVML has registered for
/// that, which can wait for the call that hangs. Returns otherwise. Call it last.
pub fn leave_if_watching(status: u8) {
    if WATCHING.load(Ordering::Relaxed) {
        // SAFETY: _exit(2) takes an integer and does not return. The exit handlers that it skips would flush standard output, to
        // which nothing is written, and unload NVML.
        unsafe { libc::_exit(i32::from(status)) }
    }
}
