//! The command line's side of the control socket: blocking, with a deadline, and no runtime.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::connect::connect_within;
use super::protocol::{ControlReply, ControlRequest, LINE_MAX};
use crate::status::Status;

/// The supervisor answers from memory: what takes longer hangs. A watch says something every second.
const PATIENCE: Duration = Duration::from_secs(3);
/// A reload reads files, for at most 10 s, and may wait behind another one.
const PATIENCE_RELOAD: Duration = Duration::from_secs(25);

/// Why a supervisor could not be asked.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nothing listens there.
    #[error("no supervisor at {path}: {source}; is one running, and is this its --control-socket?")]
    NoSupervisor {
        /// The socket.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// It listens and does not answer.
    #[error("the supervisor at {path} does not answer within {}: it is hung or suspended", .patience.as_secs_f32().to_string() + " s")]
    Hung {
        /// The socket.
        path: PathBuf,
        /// How long it was waited for.
        patience: Duration,
    },
    /// It has ended meanwhile.
    #[error("the supervisor at {path} has gone: {source}")]
    Gone {
        /// The socket.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// It said no.
    #[error("{reason}")]
    Refused {
        /// Why.
        reason: String,
    },
}

/// Asks the supervisor at `path`.
///
/// # Errors
/// See [`ClientError`].
pub fn ask(path: &Path, request: ControlRequest) -> Result<ControlReply, ClientError> {
    let patience = if request == ControlRequest::Reload { PATIENCE_RELOAD } else { PATIENCE };
    Conversation::open(path, request, patience)?.reply()
}

/// Asks the supervisor at `path` and does not wait for the answer.
///
/// # Errors
/// See [`ClientError`].
pub fn tell(path: &Path, request: ControlRequest) -> Result<Option<ControlReply>, ClientError> {
    Conversation::open(path, request, PATIENCE).map(|_| None)
}

/// Asks for the status.
///
/// # Errors
/// See [`ClientError`].
pub fn status(path: &Path) -> Result<Status, ClientError> {
    of_reply(ask(path, ControlRequest::Status)?)
}

fn of_reply(reply: ControlReply) -> Result<Status, ClientError> {
    let reason = "the supervisor's answer has no status".to_owned();
    reply.status.ok_or(ClientError::Refused { reason })
}

/// One status after the other, with each change and at least once a second.
#[derive(Debug)]
pub struct Watch(Conversation);

impl Watch {
    /// Begins to watch.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub fn open(path: &Path) -> Result<Self, ClientError> {
        Ok(Self(Conversation::open(path, ControlRequest::Watch, PATIENCE)?))
    }

    /// The next status.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub fn status(&mut self) -> Result<Status, ClientError> {
        of_reply(self.0.reply()?)
    }
}

#[derive(Debug)]
struct Conversation {
    path: PathBuf,
    stream: UnixStream,
    patience: Duration,
    /// What was read beyond the last line.
    rest: Vec<u8>,
}

impl Conversation {
    fn open(path: &Path, request: ControlRequest, patience: Duration) -> Result<Self, ClientError> {
        let mut stream = connect_within(path, PATIENCE).map_err(|source| match source.kind() {
            io::ErrorKind::TimedOut => ClientError::Hung { path: path.into(), patience: PATIENCE },
            _ => ClientError::NoSupervisor { path: path.into(), source },
        })?;
        let mut line = serde_json::to_string(&request).unwrap_or_default();
        line.push('\n');
        let sent = stream.set_write_timeout(Some(PATIENCE)).and_then(|()| stream.write_all(line.as_bytes()));
        let this = Self { path: path.into(), stream, patience, rest: Vec::new() };
        match sent {
            // Whoever refuses early has answered already.
            Ok(()) => Ok(this),
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(this),
            Err(error) => Err(this.failed(error)),
        }
    }

    fn reply(&mut self) -> Result<ControlReply, ClientError> {
        let line = self.line().map_err(|error| self.failed(error))?;
        let reply: ControlReply = serde_json::from_slice(&line).map_err(|error| {
            let reason =
                format!("the supervisor's answer is not understood ({error}); is it another version?");
            ClientError::Refused { reason }
        })?;
        match reply.error {
            Some(reason) if !reply.ok => Err(ClientError::Refused { reason }),
            _ => Ok(reply),
        }
    }

    /// The next line, within the patience as a whole.
    fn line(&mut self) -> io::Result<Vec<u8>> {
        let deadline = Instant::now() + self.patience;
        let mut chunk = [0; 4096];
        loop {
            if let Some(end) = self.rest.iter().position(|byte| *byte == b'\n') {
                let rest = self.rest.split_off(end + 1);
                return Ok(std::mem::replace(&mut self.rest, rest));
            }
            if self.rest.len() > LINE_MAX {
                return Err(io::Error::new(io::ErrorKind::InvalidData, "its answer is too long"));
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(io::ErrorKind::TimedOut.into());
            }
            self.stream.set_read_timeout(Some(left))?;
            match self.stream.read(&mut chunk) {
                Ok(0) => {
                    return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "it closed the connection"));
                }
                Ok(read) => self.rest.extend(chunk.iter().take(read)),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    fn failed(&self, source: io::Error) -> ClientError {
        let path = self.path.clone();
        match source.kind() {
            io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock => {
                ClientError::Hung { path, patience: self.patience }
            }
            _ => ClientError::Gone { path, source },
        }
    }
}
