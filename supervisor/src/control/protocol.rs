//! What travels over the control socket.

use serde::{Deserialize, Serialize};

use crate::status::Status;

/// The longest line that either side reads. A status takes about 2 KiB.
pub const LINE_MAX: usize = 64 * 1024;

/// What a client asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "command", rename_all = "kebab-case", deny_unknown_fields)]
pub enum ControlRequest {
    /// How is the instance?
    Status,
    /// End it, as SIGTERM does.
    Stop,
}

/// What it is told.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct ControlReply {
    /// Whether the request was taken.
    pub ok: bool,
    /// The answer to `status`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<Status>,
    /// Why not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}
