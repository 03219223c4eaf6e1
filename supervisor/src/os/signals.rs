//! One stream of all signals.
//!
//! All signals are blocked first thing in `main` and read from a signalfd(2), real-time ones and those that runtimes refuse to
//! handle (SIGSEGV sent by kill(1), say) included. Blocked signals are queued even where their disposition is *ignore* or,
//! for PID 1, the default that the kernel would drop (signal(7), pid_namespaces(7)): none that arrives before the stream is read is lost.
//! A real fault (a bad memory access in this process) is not affected: the kernel delivers it regardless of the mask.

use std::io;

use nix::errno::Errno;
use nix::sys::signal::{SigHandler, SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use tokio::io::unix::AsyncFd;

/// Blocks all signals for this thread and the ones it starts, and undoes an ignored SIGCHLD, with which children would
/// vanish unreaped (wait(2)). Call it before anything else.
///
/// # Errors
/// Whatever sigprocmask(2) and sigaction(2) say; neither can fail with these arguments.
pub fn block_all() -> io::Result<()> {
    SigSet::all().thread_block()?;
    // SAFETY: the default disposition runs no code of ours, and no other thread exists yet.
    unsafe { nix::sys::signal::signal(Signal::SIGCHLD, SigHandler::SigDfl) }?;
    Ok(())
}

/// Gives every signal its usual effect again, for what ends by Ctrl-C like any program.
///
/// # Errors
/// Whatever sigprocmask(2) says; it cannot fail with these arguments.
pub fn unblock_all() -> io::Result<()> {
    Ok(SigSet::all().thread_unblock()?)
}

/// Has this process get a signal when its parent dies (PR_SET_PDEATHSIG(2const)). As PID 1 it has no parent to wait for.
///
/// # Errors
/// EINVAL: there is no such signal.
pub fn on_parents_death(signal: u8) -> io::Result<()> {
    // By number, since real-time signals have no name there.
    // SAFETY: prctl(2) with PR_SET_PDEATHSIG takes an integer and keeps nothing.
    let result = unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::c_ulong::from(signal)) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// All signals sent to this process, in the order the kernel hands them over.
#[derive(Debug)]
pub struct Signals {
    descriptor: AsyncFd<SignalFd>,
    own_pid: u32,
}

impl Signals {
    /// Opens the stream. The signals must be blocked already ([`block_all`]); needs a tokio runtime with IO.
    ///
    /// # Errors
    /// No descriptors left.
    pub fn open() -> io::Result<Self> {
        let descriptor =
            SignalFd::with_flags(&SigSet::all(), SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)?;
        // SAFETY: `SignalFd` owns its descriptor, always gives the same one, and closes it only when it is dropped, which `AsyncFd` does
        // after it has deregistered it.
        let descriptor = unsafe { AsyncFd::register(descriptor) }?;
        Ok(Self { descriptor, own_pid: std::process::id() })
    }

    /// The next signal's number (signal(7)). Cancel-safe.
    ///
    /// # Errors
    /// read(2) on the signalfd failed, which leaves the process deaf.
    pub async fn next(&mut self) -> io::Result<u8> {
        loop {
            let mut ready = self.descriptor.readable_mut().await?;
            match ready.get_inner_mut().read_signal() {
                Ok(Some(info)) => {
                    // Our own writes to a closed pipe raise SIGPIPE; that is not somebody's message.
                    let own_pipe =
                        info.ssi_signo == libc::SIGPIPE.unsigned_abs() && info.ssi_pid == self.own_pid;
                    if let (false, Ok(signal)) = (own_pipe, u8::try_from(info.ssi_signo)) {
                        return Ok(signal);
                    }
                }
                Ok(None) => ready.clear_ready(),
                Err(Errno::EINTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}

/// A signal's name for people (`SIGTERM`), or its number where it has none.
pub fn name(signal: u8) -> String {
    match signal_hook::low_level::signal_name(i32::from(signal)) {
        Some(name) => name.to_owned(),
        None => format!("signal {signal}"),
    }
}
