//! The timings and limits that the policy works with. Validated where the configuration is read; not checked here.

use std::time::Duration;

use crate::backoff::Backoff;
use crate::gpu::GpuPolicy;
use crate::signal::SignalPolicy;

/// Timings and limits of one instance.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Policy {
    /// Whose Consul agent there is, if any.
    pub agent: AgentMode,
    /// Whether the worker is probed. Without probes it counts as ready once it runs.
    pub probe: bool,
    /// How many probes in a row must stay unanswered before the worker counts as failed.
    pub failure_threshold: u32,
    /// How many probes in a row must pass before a worker that failed counts as ready.
    pub success_threshold: u32,
    /// How many liveness probes in a row must fail before the worker is restarted.
    pub liveness_threshold: u32,
    /// How many questions in a row the agent may leave unanswered before it counts as hung and is killed.
    pub silence_threshold: u32,
    /// How long the agent may take to answer.
    pub agent_patience: Duration,
    /// An entry of an earlier life may still be there: somewhere to look before believing that there is none.
    pub entry_may_exist: bool,
    /// How long the servers may show something else than what the agent has acknowledged before that counts as somebody's doing.
    pub settle: Duration,
    /// How soon an entry that stays critical is registered again, so that Consul does not remove it as dead.
    pub refresh: Duration,
    /// When and how often the worker is started again.
    pub worker_restart: RestartPolicy,
    /// When and how often the agent is started again.
    pub agent_restart: RestartPolicy,
    /// How soon a failed catalog request is tried again.
    pub catalog_retry: Backoff,
    /// How often the TTL check is pushed when nothing changes.
    pub heartbeat: Duration,
    /// What the GPUs are held to; `None` where nobody looks at them.
    pub gpu: Option<GpuPolicy>,
    /// Give up if the instance has not been passing by then.
    pub start_timeout: Option<Duration>,
    /// The parts of the stop timeout.
    pub stop: StopBudget,
    /// How signals are handed on.
    pub signals: SignalPolicy,
    /// Exit statuses of the worker (128+n for signal n) that are as good as 0.
    pub exit_ok: Vec<u8>,
}

/// Whose Consul agent there is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AgentMode {
    /// Ours: started, restarted and stopped with the instance.
    Child,
    /// Somebody else's: only asked.
    External,
    /// None, and so no catalog entry: the supervisor is a plain init.
    None,
}

/// When and how often a process is started again.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct RestartPolicy {
    /// After which exits.
    pub when: RestartWhen,
    /// The delay before each attempt.
    pub backoff: Backoff,
    /// A run this long was a good one: the delay starts over.
    pub stable_after: Duration,
    /// How many restarts within `window` are allowed.
    pub limit: u32,
    /// The window of `limit`.
    pub window: Duration,
}

/// After which exits a process is started again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RestartWhen {
    /// After every exit.
    Always,
    /// After an exit other than status 0.
    OnFailure,
    /// Never: the first exit ends the instance.
    Never,
}

/// The stop timeout, divided among the steps of the stop ladder. Each part is a limit and not a wait: what a step leaves
/// over goes to the steps after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct StopBudget {
    /// To tell the catalog that the instance is critical.
    pub out_of_rotation: Duration,
    /// How long the worker goes on serving after that, for clients that do not know yet. The only part that is waited out.
    pub drain_window: Duration,
    /// To remove the entry and see it gone at a server.
    pub deregister: Duration,
    /// For the worker to finish the requests in flight after TERM; then KILL.
    pub worker_grace: Duration,
    /// For the agent to leave the cluster after TERM; then KILL.
    pub agent_leave: Duration,
    /// After each KILL, for the kernel to hand over the dead. A process stuck in the kernel (a GPU driver, say) is left behind.
    pub reap: Duration,
}

impl StopBudget {
    /// All parts together: never more than the stop timeout.
    pub fn total(&self) -> Duration {
        self.until_worker_reaped() + self.agent_leave + self.reap
    }

    /// From the request to stop until the worker gets KILL.
    pub fn until_worker_killed(&self) -> Duration {
        self.out_of_rotation + self.drain_window + self.deregister + self.worker_grace
    }

    /// From the request to stop until a killed worker is given up on.
    pub fn until_worker_reaped(&self) -> Duration {
        self.until_worker_killed() + self.reap
    }
}
