//! Connecting to a Unix socket, with a limit.

use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, UnixAddr, connect, setsockopt, socket, sockopt};
use nix::sys::time::TimeVal;

/// Connects. A listener that accepts nobody and whose queue is full would hold connect(2) for ever; a send timeout bounds that, too
/// (socket(7), SO_SNDTIMEO).
///
/// # Errors
/// Those of connect(2); [`io::ErrorKind::TimedOut`] when the limit has passed.
pub(super) fn connect_within(path: &Path, limit: Duration) -> io::Result<UnixStream> {
    let address = UnixAddr::new(path)?;
    let descriptor = socket(AddressFamily::Unix, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)?;
    let seconds = i64::try_from(limit.as_secs()).unwrap_or(i64::MAX);
    // Zero would mean for ever.
    let micros = i64::from(limit.subsec_micros()).max(1);
    setsockopt(&descriptor, sockopt::SendTimeout, &TimeVal::new(seconds, micros))?;
    match connect(descriptor.as_raw_fd(), &address) {
        Ok(()) => Ok(descriptor.into()),
        Err(Errno::EAGAIN | Errno::EINPROGRESS) => Err(io::ErrorKind::TimedOut.into()),
        Err(errno) => Err(errno.into()),
    }
}
