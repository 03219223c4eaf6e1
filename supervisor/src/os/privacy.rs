//! Who may look into this process.

use std::io;

/// Keeps the memory and the environment of this process from everybody but root: no core dump, no ptrace(2), and `/proc/PID/environ` and
/// the like belong to root (prctl(2), `PR_SET_DUMPABLE`; proc(5)). The worker often runs as the same user. Children are as they always were:
/// execve(2) sets it back.
///
/// # Errors
/// The kernel refuses.
pub fn hide() -> io::Result<()> {
    nix::sys::prctl::set_dumpable(false).map_err(io::Error::from)
}
