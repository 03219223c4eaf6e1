//! How the process ends: one documented enum of exit codes.

use std::process::ExitCode;

/// The exit codes of `model-runtime`, as `--help` lists them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// Ended by SIGTERM or SIGINT with every accepted request answered; or the check passed.
    Done = 0,
    /// Something inside went wrong, or the shutdown timeout cut off requests.
    Internal = 1,
    /// The command line, the environment or `runtime.toml` is wrong.
    Usage = 2,
    /// The model directory is missing, incomplete or damaged, or the model does not run.
    Model = 3,
    /// The address, or the admin socket, cannot be listened on.
    Bind = 4,
    /// The server that `settings` asked refused, or could not be asked; nothing has changed there.
    Refused = 5,
    /// A CUDA error has left the GPU unusable for this process; a new one can use it.
    Poisoned = 6,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// Why a command could not go on: what to tell the user, and the exit code.
#[derive(Debug)]
pub struct Failure {
    /// The exit code.
    pub exit: Exit,
    /// One line (or one a problem) for the user, naming the thing and the cure.
    pub message: String,
}

impl Failure {
    /// A failure with this exit code; the message is the error and its causes on one line.
    pub fn new(exit: Exit, error: impl Into<anyhow::Error>) -> Self {
        Self { exit, message: format!("{:#}", error.into()) }
    }
}

/// Ends the process without running destructors or exit handlers.
///
/// For the moments when another thread may be inside libtorch (loading, or a forward that the shutdown timeout gave up
/// on): C++ destructors of global objects would run beneath it and crash.
pub fn immediately(exit: Exit) -> ! {
    use std::io::Write as _;
    let _ = std::io::stdout().flush();
    let _ = std::io::stderr().flush();
    // SAFETY: `_exit` has no preconditions; it ends the process and touches no memory of ours.
    unsafe { libc::_exit(i32::from(exit as u8)) }
}
