//! Run, or stop: and how far the stop has come.
//!
//! The stop ladder, in order: out of rotation → drain → deregister → the worker → the agent → exit. A later step never
//! goes back to an earlier one, and each has a limit of its own.

use crate::{Exit, Moment};

/// What the supervisor works towards.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Goal {
    /// Serve.
    Run,
    /// End.
    Stop(Stop),
}

/// Why the instance stops.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum StopReason {
    /// This signal came.
    Signal(u8),
    /// Somebody asked over the control socket.
    Requested,
    /// The worker ended and its restart policy does not want another run.
    WorkerFinished(Exit),
    /// The worker failed more often than its limit allows.
    WorkerExhausted(Exit),
    /// The agent failed more often than its limit allows.
    AgentExhausted(Exit),
    /// Not passing within the start timeout.
    StartTimeout,
}

impl std::fmt::Display for StopReason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Signal(signal) => write!(f, "{} received", crate::signal::name(*signal)),
            Self::Requested => f.write_str("stop requested over the control socket"),
            Self::WorkerFinished(exit) => write!(f, "the worker {exit} and is not to be restarted"),
            Self::WorkerExhausted(exit) => write!(f, "the worker {exit} and has used up its restarts"),
            Self::AgentExhausted(exit) => write!(f, "the agent {exit} and has used up its restarts"),
            Self::StartTimeout => f.write_str("not passing within the start timeout"),
        }
    }
}

/// A stop under way.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Stop {
    /// Why.
    pub why: StopReason,
    /// How far it has come.
    pub stage: Stage,
    /// How often it was asked for: 2 skips the drain, 3 kills.
    pub asked: u8,
    /// When it began: the parts of the budget are counted from here.
    pub began: Moment,
    /// The agent was dead or hung and has been started once more, to remove the entry.
    pub agent_revived: bool,
}

/// A step of the stop ladder.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Stage {
    /// Telling the catalog that the instance is critical.
    OutOfRotation {
        /// The step's limit.
        until: Moment,
    },
    /// The worker still serves clients that do not know yet.
    Draining {
        /// The step's end.
        until: Moment,
    },
    /// Removing the entry.
    Deregistering {
        /// The step's limit.
        until: Moment,
    },
    /// The worker has its grace; the limits are in its [`crate::process::Process`].
    StoppingWorker,
    /// The agent leaves; likewise.
    StoppingAgent,
    /// Nothing lives any more.
    Stopped,
}

impl Stage {
    /// When there is something to do again without any event.
    pub fn next_deadline(&self) -> Option<Moment> {
        match self {
            Self::OutOfRotation { until } | Self::Draining { until } | Self::Deregistering { until } => {
                Some(*until)
            }
            Self::StoppingWorker | Self::StoppingAgent | Self::Stopped => None,
        }
    }
}

impl Goal {
    /// Still to serve.
    pub fn is_run(&self) -> bool {
        matches!(self, Self::Run)
    }
}
