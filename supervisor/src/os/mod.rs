//! The operating system: signals in, children out.
//!
//! Everything here is called from the event loop's own task and returns at once. That is what makes the reaper safe: no
//! child can be reaped before its pid has been recorded, without a lock.

pub mod children;
pub mod descriptors;
pub mod memory;
pub mod privacy;
pub mod signals;
pub mod spawn;
pub mod terminal;
pub mod user;
