//! All that can happen to an instance, in the past tense.

use std::fmt;

use crate::{Exit, Generation, GpuReport, Level, Policy, Role};

/// Something that happened outside the policy.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Event {
    /// The supervisor is set up: begin.
    Started,
    /// A signal was sent to the supervisor (signal(7) number).
    Signalled(u8),
    /// `supervisor stop`, or whatever else asks for an orderly end.
    StopRequested,
    /// `supervisor drain`: out of rotation, the worker keeps running.
    DrainRequested,
    /// `supervisor resume`: back into rotation.
    ResumeRequested,
    /// `supervisor restart`: a worker drains first, an agent is replaced without its entry leaving the catalog.
    RestartRequested(Role),
    /// The configuration was read again: these timings and limits hold from now on, and the entry is or is not as it was.
    Reconfigured(Box<Policy>, EntryChange),
    /// A spawn succeeded.
    Spawned {
        /// Which process.
        role: Role,
        /// Its process id.
        pid: i32,
    },
    /// A spawn failed.
    SpawnFailed {
        /// Which process.
        role: Role,
        /// Why.
        failure: SpawnFailure,
    },
    /// A child was reaped.
    Exited {
        /// Which process.
        role: Role,
        /// Its process id: an exit is about one process, never about a role.
        pid: i32,
        /// How it ended.
        exit: Exit,
    },
    /// The worker was probed.
    WorkerProbed {
        /// Which spawn of the worker.
        generation: Generation,
        /// What it answered.
        report: ProbeReport,
    },
    /// The worker's liveness was probed.
    LivenessProbed {
        /// Which spawn of the worker.
        generation: Generation,
        /// Alive, or what speaks against it.
        outcome: Result<(), String>,
    },
    /// The agent was asked about the cluster.
    AgentProbed {
        /// Which spawn of the agent.
        generation: Generation,
        /// What it answered.
        report: AgentReport,
    },
    /// The servers' view of our entry has changed, or cannot be had.
    EntrySeen {
        /// Which spawn of the agent it was asked through.
        generation: Generation,
        /// What they say.
        view: View,
    },
    /// The one catalog request in flight was answered, or gave up waiting.
    CatalogReplied {
        /// Which spawn of the agent it was sent to.
        generation: Generation,
        /// What came of it.
        outcome: Result<(), Failure>,
    },
    /// A token or certificate has been replaced in its file: whoever holds the old one is told the new one.
    CredentialsChanged,
    /// The GPUs were looked at, or one of them reported an error.
    GpusReported(GpuReport),
    /// A deadline has passed. Carries nothing: deciding always looks at the time.
    DeadlineReached,
}

/// What a new configuration means for the catalog entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum EntryChange {
    /// It stays as it is.
    Same,
    /// Tags, metadata, weights or checks are others: it has to be registered again.
    Changed,
}

/// Why a process could not be spawned.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum SpawnFailure {
    /// No such program.
    NotFound,
    /// It is there and may not be executed.
    NotExecutable,
    /// Anything else, in the operating system's words.
    Other(String),
}

impl fmt::Display for SpawnFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotFound => f.write_str("not found"),
            Self::NotExecutable => f.write_str("may not be executed"),
            Self::Other(why) => f.write_str(why),
        }
    }
}

impl SpawnFailure {
    /// The exit status that stands for it: 127 not found, 126 not executable (POSIX.1-2017, Shell Command Language, 2.8.2).
    pub fn exit(&self) -> Exit {
        match self {
            Self::NotFound => Exit::Status(127),
            Self::NotExecutable | Self::Other(_) => Exit::Status(126),
        }
    }
}

/// One probe of the worker.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ProbeReport {
    /// The verdict.
    pub outcome: ProbeOutcome,
    /// One line for people: the answer's status, or why there was none.
    pub note: String,
}

/// The verdict of one probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ProbeOutcome {
    /// It is well (2xx).
    Passing,
    /// It is degraded, and still wants requests (429).
    Warning,
    /// It says itself that it cannot serve (any other status): believed at once.
    Critical,
    /// It did not answer: believed after the failure threshold, since one slow answer is no illness.
    Silent,
}

/// What the agent says of the cluster.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum AgentReport {
    /// A leader is known and the agent's own node is in the catalog.
    Ready {
        /// The leader's address.
        leader: String,
        /// What the agent says of itself and its neighbours.
        cluster: Cluster,
    },
    /// Not yet, or no longer, and why.
    NotReady(String),
    /// There is nobody to ask, and why: no connection, or it broke.
    Unreachable(String),
    /// It took the question and did not answer in time.
    Silent(String),
}

/// The agent's version and how many it knows.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Cluster {
    /// The agent's version; empty where it does not say.
    pub version: String,
    /// Members that are alive, the agent itself and the servers included; `None` where it does not say.
    pub members: Option<u32>,
    /// What does not keep it from working and wants to be mended, for people; empty if nothing.
    pub trouble: String,
}

/// Our entry as the Consul servers see it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum View {
    /// They cannot be asked, and why.
    Unknown(String),
    /// There is no entry.
    Absent,
    /// There is one.
    Listed(Listing),
}

/// An entry as the Consul servers see it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Listing {
    /// What somebody has changed about it; `None` if it is as it was registered.
    pub altered: Option<String>,
    /// The TTL check, if it is there.
    pub ttl_check: Option<Level>,
    /// Consul's own check of the worker, if it is there.
    pub worker_check: Option<Level>,
    /// The worst of all its checks, the node's and maintenance included: whether it is among the passing.
    pub level: Level,
    /// The first check that is not passing, for people.
    pub note: String,
}

/// Why a catalog request failed.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Failure {
    /// The agent answered no: what it is believed to hold may be untrue.
    Refused(String),
    /// There is nobody to ask: no connection, or it broke. Nothing is known.
    Unreachable(String),
    /// No answer in time: nothing is known, and the agent may hang.
    Unanswered(String),
}

impl Failure {
    /// The reason, for people.
    pub fn reason(&self) -> &str {
        match self {
            Self::Refused(reason) | Self::Unreachable(reason) | Self::Unanswered(reason) => reason,
        }
    }
}
