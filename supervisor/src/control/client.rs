//! The command line's side of the control socket.

use std::path::Path;
use std::time::Duration;

pub use line_socket::client::ClientError;
use line_socket::client::Conversation;

use super::NAMES;
use super::protocol::{ControlReply, ControlRequest};
use crate::status::Status;

/// The supervisor answers from memory: what takes longer hangs. A watch says something every second.
const PATIENCE: Duration = Duration::from_secs(3);
/// A reload reads files, for at most 10 s, and may wait behind another one.
const PATIENCE_RELOAD: Duration = Duration::from_secs(25);

/// Asks the supervisor at `path`.
///
/// # Errors
/// See [`ClientError`].
pub fn ask(path: &Path, request: ControlRequest) -> Result<ControlReply, ClientError> {
    let patience = if request == ControlRequest::Reload { PATIENCE_RELOAD } else { PATIENCE };
    reply(&mut Conversation::open(path, NAMES, &request, patience)?)
}

/// Asks the supervisor at `path` and does not wait for the answer.
///
/// # Errors
/// See [`ClientError`].
pub fn tell(path: &Path, request: ControlRequest) -> Result<Option<ControlReply>, ClientError> {
    Conversation::open(path, NAMES, &request, PATIENCE).map(|_| None)
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

fn reply(conversation: &mut Conversation) -> Result<ControlReply, ClientError> {
    let reply: ControlReply = conversation.answer()?;
    match reply.error {
        Some(reason) if !reply.ok => Err(ClientError::Refused { reason }),
        _ => Ok(reply),
    }
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
        Ok(Self(Conversation::open(path, NAMES, &ControlRequest::Watch, PATIENCE)?))
    }

    /// The next status.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub fn status(&mut self) -> Result<Status, ClientError> {
        of_reply(reply(&mut self.0)?)
    }
}
