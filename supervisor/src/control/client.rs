//! The command line's side of the control socket: blocking, with a deadline, and no runtime.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::protocol::{ControlReply, ControlRequest, LINE_MAX};
use crate::status::Status;

/// The supervisor answers from memory: what takes longer hangs.
const PATIENCE: Duration = Duration::from_secs(3);

/// Why a supervisor could not be asked.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nothing listens there.
    #[error("no supervisor at {path}: {source}; is one running, and is this its --control-socket?")]
    NoSupervisor {
        /// The socket.
        path: PathBuf,
        /// What the kernel said.
        source: std::io::Error,
    },
    /// It listens and does not answer.
    #[error("the supervisor at {path} does not answer: {source}")]
    NoAnswer {
        /// The socket.
        path: PathBuf,
        /// What the kernel said.
        source: std::io::Error,
    },
    /// It answered something else.
    #[error("the supervisor at {path} refused: {reason}")]
    Refused {
        /// The socket.
        path: PathBuf,
        /// What it said.
        reason: String,
    },
}

/// Asks the supervisor at `path`.
///
/// # Errors
/// See [`ClientError`].
pub fn ask(path: &Path, request: ControlRequest) -> Result<ControlReply, ClientError> {
    let stream = UnixStream::connect(path)
        .map_err(|source| ClientError::NoSupervisor { path: path.into(), source })?;
    let line =
        exchange(stream, request).map_err(|source| ClientError::NoAnswer { path: path.into(), source })?;
    let refused = |reason: String| ClientError::Refused { path: path.into(), reason };
    let reply: ControlReply =
        serde_json::from_str(&line).map_err(|error| refused(format!("not a reply: {error}")))?;
    if reply.ok { Ok(reply) } else { Err(refused(reply.error.unwrap_or_default())) }
}

/// Asks for the status.
///
/// # Errors
/// See [`ClientError`].
pub fn status(path: &Path) -> Result<Status, ClientError> {
    let reply = ask(path, ControlRequest::Status)?;
    reply.status.ok_or_else(|| ClientError::Refused {
        path: path.into(),
        reason: "a reply without a status".to_owned(),
    })
}

fn exchange(mut stream: UnixStream, request: ControlRequest) -> std::io::Result<String> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let mut text = serde_json::to_string(&request)?;
    text.push('\n');
    stream.write_all(text.as_bytes())?;
    let mut line = String::new();
    let limit = u64::try_from(LINE_MAX).unwrap_or(u64::MAX);
    BufReader::new(stream.take(limit)).read_line(&mut line)?;
    Ok(line)
}
