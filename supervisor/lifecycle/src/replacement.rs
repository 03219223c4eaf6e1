//! A worker that is to be restarted while the instance goes on.
//!
//! A restart that somebody asked for takes the instance out of rotation first and lets it finish its requests, like a stop. A
//! worker that is not alive any more has nothing to finish.

use crate::Moment;

/// A restart under way.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Replacement {
    /// Why.
    pub why: Why,
    /// How far it has come.
    pub stage: Stage,
}

/// Why a worker is restarted.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Why {
    /// Somebody asked.
    Requested,
    /// Its liveness probe fails, and this is what it says.
    NotLive(String),
}

impl std::fmt::Display for Why {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Requested => f.write_str("a restart was asked for"),
            Self::NotLive(note) => write!(f, "it is not alive: {note}"),
        }
    }
}

/// A step of the restart.
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
    /// It has been told to end; the limits are in its [`crate::process::Process`].
    Stopping,
}

impl Stage {
    /// When there is something to do again without any event.
    pub fn next_deadline(&self) -> Option<Moment> {
        match self {
            Self::OutOfRotation { until } | Self::Draining { until } => Some(*until),
            Self::Stopping => None,
        }
    }
}
