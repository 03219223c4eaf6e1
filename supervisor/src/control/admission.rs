//! Which requests make sense now, by the published status.
//!
//! The status may be a moment old. That is no harm: the policy does nothing for a request that has just lost its sense, and
//! the client, which waits for what it asked, sees how the instance went on instead.

use super::protocol::{ControlRequest, Restartable};
use crate::status::Status;

/// Why a request makes no sense now; `None` if it does.
pub(super) fn refusal(request: ControlRequest, status: &Status) -> Option<String> {
    let steers = match request {
        // A second request to stop hurries, as a second SIGTERM does.
        ControlRequest::Status | ControlRequest::Watch | ControlRequest::Stop => false,
        ControlRequest::Drain
        | ControlRequest::Resume
        | ControlRequest::Restart { .. }
        | ControlRequest::Reload => true,
    };
    if steers && status.stopping {
        return Some(format!("the instance is stopping: {}", status.reason));
    }
    let drained = matches!(status.phase.as_str(), "drained" | "draining");
    match request {
        ControlRequest::Drain if status.registration.is_none() => {
            Some("there is no catalog entry to take out of rotation (--agent none)".to_owned())
        }
        ControlRequest::Resume if !drained => {
            Some(format!("the instance is not drained, it is {}: {}", status.phase, status.reason))
        }
        ControlRequest::Restart { process: Restartable::Agent } if status.agent.is_none() => {
            Some("there is no agent to restart (--agent none)".to_owned())
        }
        ControlRequest::Restart { process: Restartable::Agent } => status
            .agent
            .as_ref()
            .filter(|agent| agent.process.state == "external")
            .map(|_| "the agent is not ours to restart (--agent external)".to_owned()),
        _ => None,
    }
}
