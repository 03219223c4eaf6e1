//! The supervisor's policy: what happens next, and nothing else.
//!
//! Everything that happens to an instance arrives here as an [`Event`]; [`Instance::step`] writes it into the facts
//! (*observe*), compares the facts with the goal (*decide*) and returns the [`Command`]s that follow. There is no IO, no
//! clock and no async runtime: the crate's dependency list is empty, so the compiler keeps it that way. Time is an
//! argument, counted from the start of the supervisor ([`Moment`]).
//!
//! ```text
//!  signals, exits, probes,                ┌─▶ Spawn, Signal     the operating system
//!  Consul's replies, control ─▶ Event ─▶ step(now, event) ─┼─▶ Catalog           the Consul agent
//!                                         ├─▶ Watch, Unwatch    the probes
//!                                         └─▶ Exit
//! ```
//!
//! The facts are small machines that do not know each other: a [`process::Supervised`] for the agent and one for the worker, the
//! worker's [`health::Health`], the [`gpu::Gpus`], what the agent says of the cluster ([`link::AgentLink`]), the catalog entry's
//! [`registration::Registration`], and the [`goal::Goal`]. The public [`Phase`] is derived from them and never stored.
//!
//! `search.rs`, a test, visits every reachable state together with a model of the outside world (live processes, the
//! catalog's contents, unanswered requests) and checks the truths listed there.

pub mod backoff;
pub mod command;
pub mod event;
pub mod exit;
pub mod goal;
pub mod gpu;
pub mod health;
pub mod instance;
pub mod link;
pub mod phase;
pub mod policy;
pub mod process;
pub mod registration;
pub mod replacement;
#[cfg(test)]
mod search;
pub mod signal;

pub use command::{Command, Request};
pub use event::{
    AgentReport, Cluster, EntryChange, Event, Failure, Listing, ProbeOutcome, ProbeReport, SpawnFailure, View,
};
pub use exit::Exit;
pub use goal::{Goal, StopReason};
pub use gpu::{Devices, GpuPolicy, GpuReport, GpuSample};
pub use health::{Level, Report};
pub use instance::Instance;
pub use phase::Phase;
pub use policy::{AgentMode, Policy, RestartPolicy, RestartWhen, StopBudget};
pub use signal::SignalPolicy;

/// A point in time: how long after the supervisor's start.
pub type Moment = std::time::Duration;

/// Which spawn of a process a message is about: 1 for the first. Messages of an earlier generation change nothing.
pub type Generation = u32;

/// The two processes that are supervised.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// The Consul client agent.
    Agent,
    /// The inference worker.
    Worker,
}

impl std::fmt::Display for Role {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Agent => "agent",
            Self::Worker => "worker",
        })
    }
}
