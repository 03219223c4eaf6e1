//! All that the policy can ask for, in the imperative.

use std::time::Duration;

use crate::{Devices, Generation, Report, Role};

/// Something to be done outside the policy. None of them is awaited; what comes of it arrives as an event.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Command {
    /// Start the process. Answered by `Spawned` or `SpawnFailed`.
    Spawn {
        /// Which process.
        role: Role,
        /// Which spawn of it this is.
        generation: Generation,
        /// Whether what an earlier agent has kept of the TTL check is still true. Nothing for a worker.
        kept_check_is_true: bool,
    },
    /// Send a signal to the process's group.
    Signal {
        /// Which process.
        role: Role,
        /// The leader of the group.
        pid: i32,
        /// signal(7) number.
        signal: u8,
    },
    /// Have the agent take the new tokens and certificates: write its configuration anew and send it SIGHUP, by which it reads it again.
    ReloadAgent {
        /// Its process id.
        pid: i32,
    },
    /// Start probing the process. Answered by `WorkerProbed` and `LivenessProbed`, or by `AgentProbed` and `EntrySeen`, again and again.
    Watch {
        /// Which process.
        role: Role,
        /// Tags the reports.
        generation: Generation,
    },
    /// Stop probing it.
    Unwatch {
        /// Which process.
        role: Role,
    },
    /// Ask the agent. Answered by exactly one `CatalogReplied`; never a second one before that.
    Catalog {
        /// Tags the reply.
        generation: Generation,
        /// What to ask.
        request: Request,
        /// How long to wait for the answer.
        timeout: Duration,
    },
    /// From now on registrations say that the instance has these devices.
    Describe(Devices),
    /// End the supervisor with this status. The last command, given once, with no child alive.
    Exit(u8),
}

/// A request to the Consul agent about our entry.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Request {
    /// Register the service with its TTL check and no other: registering again keeps the state that a check has, and that of an
    /// HTTP check that a restarted agent has restored is critical.
    Register,
    /// Push the state of the TTL check.
    Update(Report),
    /// Let Consul probe the worker, beginning as passing.
    AddHttpCheck,
    /// Stop Consul's probing: the worker is not there to be probed.
    RemoveHttpCheck,
    /// Remove the entry, and confirm at a server that it is gone.
    Deregister,
}
