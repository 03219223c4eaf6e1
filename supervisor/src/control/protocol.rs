//! What travels over the control socket.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::status::{PendingChange, Status};

/// What a client asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "command", rename_all = "kebab-case", try_from = "Written")]
pub enum ControlRequest {
    /// How is the instance?
    Status,
    /// How is it, again and again? The one request with more than one answer: a line now, with each change, and at least once a second.
    Watch,
    /// Out of rotation; the worker keeps running.
    Drain,
    /// Back into rotation.
    Resume,
    /// Restart one of the processes.
    Restart {
        /// Which one.
        process: Restartable,
    },
    /// Read the configuration again.
    Reload,
    /// End it, as SIGTERM does.
    Stop,
}

/// A request as it is written. Serde's own form of a tagged enum would take unknown fields where a variant has none, and what a client
/// meant by them would be lost in silence.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    command: Name,
    process: Option<Restartable>,
}

#[derive(Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Name {
    Status,
    Watch,
    Drain,
    Resume,
    Restart,
    Reload,
    Stop,
}

impl TryFrom<Written> for ControlRequest {
    type Error = &'static str;

    fn try_from(Written { command, process }: Written) -> Result<Self, Self::Error> {
        if process.is_some() && command != Name::Restart {
            return Err("only restart takes a process");
        }
        Ok(match command {
            Name::Status => Self::Status,
            Name::Watch => Self::Watch,
            Name::Drain => Self::Drain,
            Name::Resume => Self::Resume,
            Name::Restart => {
                Self::Restart { process: process.ok_or("restart takes a process: worker or agent")? }
            }
            Name::Reload => Self::Reload,
            Name::Stop => Self::Stop,
        })
    }
}

/// The processes that can be restarted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Restartable {
    /// The worker, drained first.
    Worker,
    /// The Consul agent; the worker keeps serving.
    Agent,
}

impl std::fmt::Display for Restartable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Worker => "worker",
            Self::Agent => "agent",
        })
    }
}

/// What it is told.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct ControlReply {
    /// Whether the request was taken.
    pub ok: bool,
    /// The status: the answer to `status` and `watch`; to the others, how the instance was when they were taken.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<Status>,
    /// What a reload did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reload: Option<ReloadReport>,
    /// Why not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

impl ControlReply {
    /// No, and why.
    pub fn refusal(reason: impl Into<String>) -> Self {
        Self { error: Some(reason.into()), ..Self::default() }
    }
}

/// What a reload did.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ReloadReport {
    /// The changed keys whose values hold from now on.
    pub applied: Vec<String>,
    /// All keys whose values wait, those of earlier reloads included.
    pub pending: Vec<PendingChange>,
    /// What is wrong; then nothing has changed.
    pub problems: Vec<String>,
}
