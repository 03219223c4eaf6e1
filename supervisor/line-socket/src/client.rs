//! The client's side, for a command line: blocking, with a deadline, and no runtime.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::connect::connect_within;
use super::{LINE_MAX, Names};

/// A server accepts at once: what takes longer hangs.
const CONNECT: Duration = Duration::from_secs(3);

/// Why a server could not be asked.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nothing listens there.
    #[error("no {} at {path}: {source}; is one running, and is this its {}?", .names.program, .names.flag)]
    NoServer {
        /// Whom we wanted.
        names: Names,
        /// The socket.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// It listens and does not answer.
    #[error("the {} at {path} does not answer within {}: it is hung or suspended", .names.program, .patience.as_secs_f32().to_string() + " s")]
    Hung {
        /// Whom we asked.
        names: Names,
        /// The socket.
        path: PathBuf,
        /// How long it was waited for.
        patience: Duration,
    },
    /// It has ended meanwhile.
    #[error("the {} at {path} has gone: {source}", .names.program)]
    Gone {
        /// Whom we asked.
        names: Names,
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

/// A request that has been sent, and its answers.
#[derive(Debug)]
pub struct Conversation {
    names: Names,
    path: PathBuf,
    stream: UnixStream,
    patience: Duration,
    /// What was read beyond the last line.
    rest: Vec<u8>,
}

impl Conversation {
    /// Connects and sends the request; each answer may take as long as the patience.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub fn open(
        path: &Path,
        names: Names,
        request: &impl Serialize,
        patience: Duration,
    ) -> Result<Self, ClientError> {
        let mut stream = connect_within(path, CONNECT).map_err(|source| match source.kind() {
            io::ErrorKind::TimedOut => ClientError::Hung { names, path: path.into(), patience: CONNECT },
            _ => ClientError::NoServer { names, path: path.into(), source },
        })?;
        let mut line = serde_json::to_string(request).unwrap_or_default();
        line.push('\n');
        let sent = stream.set_write_timeout(Some(CONNECT)).and_then(|()| stream.write_all(line.as_bytes()));
        let this = Self { names, path: path.into(), stream, patience, rest: Vec::new() };
        match sent {
            Ok(()) => Ok(this),
            // Whoever refuses early has answered already.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(this),
            Err(error) => Err(this.failed(error)),
        }
    }

    /// The next answer.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub fn answer<T: DeserializeOwned>(&mut self) -> Result<T, ClientError> {
        let line = self.line().map_err(|error| self.failed(error))?;
        serde_json::from_slice(&line).map_err(|error| {
            let program = self.names.program;
            let reason =
                format!("the {program}'s answer is not understood ({error}); is it another version?");
            ClientError::Refused { reason }
        })
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
        let (names, path) = (self.names, self.path.clone());
        match source.kind() {
            io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock => {
                ClientError::Hung { names, path, patience: self.patience }
            }
            _ => ClientError::Gone { names, path, source },
        }
    }
}
