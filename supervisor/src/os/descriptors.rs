//! Children get descriptors 0, 1 and 2 and no others.

use std::io;
use std::os::fd::RawFd;

/// Marks every descriptor from 3 on close-on-exec, whoever left it open before this program was started. Those that this
/// program opens itself are so already: Rust's standard library, tokio and nix ask for it.
///
/// # Errors
/// The kernel has no close_range(2) with that flag (before 5.11) and there is no `/proc` to list the descriptors either.
pub fn close_all_on_exec() -> io::Result<()> {
    // By number, since the wrapper is younger (glibc 2.34) than the systems that this is built for.
    // SAFETY: close_range(2) with CLOSE_RANGE_CLOEXEC takes three integers and only sets a flag on open descriptors.
    let result = unsafe { libc::syscall(libc::SYS_close_range, 3_u32, u32::MAX, libc::CLOSE_RANGE_CLOEXEC) };
    if result == 0 { Ok(()) } else { close_listed_on_exec() }
}

/// The same just before a child executes, for what a library has opened since without asking for it; never allocates, so that it may run
/// between fork and exec. On kernels that cannot do it (before 5.11) such a descriptor reaches the child.
pub fn close_new_on_exec() {
    // SAFETY: as above; a plain system call is async-signal-safe.
    let _old_kernel =
        unsafe { libc::syscall(libc::SYS_close_range, 3_u32, u32::MAX, libc::CLOSE_RANGE_CLOEXEC) };
}

/// The same by way of `/proc/self/fd`.
fn close_listed_on_exec() -> io::Result<()> {
    let listed: Vec<RawFd> = std::fs::read_dir("/proc/self/fd")?
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter(|descriptor| *descriptor > 2)
        .collect();
    for descriptor in listed {
        // SAFETY: F_SETFD changes a flag of the descriptor and nothing else. The one that listed the folder is closed by
        // now, for which fcntl(2) answers EBADF.
        unsafe { libc::fcntl(descriptor, libc::F_SETFD, libc::FD_CLOEXEC) };
    }
    Ok(())
}
