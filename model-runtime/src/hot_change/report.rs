//! What became of a set of overrides.

use serde::{Deserialize, Serialize};

use crate::config::{Change, Problem};

/// What an accepted set did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// Every value was as the set has it.
    Unchanged,
    /// Settings changed, the model stayed.
    Adjusted,
    /// Another model serves, or the same one loaded anew.
    Swapped,
}

impl Outcome {
    /// Its name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unchanged => "unchanged",
            Self::Adjusted => "adjusted",
            Self::Swapped => "swapped",
        }
    }
}

/// An accepted set.
#[derive(Debug, Clone, PartialEq)]
pub struct Report {
    /// What it did.
    pub outcome: Outcome,
    /// Which values are different.
    pub changes: Vec<Change>,
}

/// Why a set was not accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RefusalKind {
    /// The set is wrong, or the model it names: the same set will be refused again.
    Refused,
    /// Another set is being applied, or the first model is still being loaded: try again.
    Busy,
    /// The server is on its way to its end.
    Stopping,
}

impl RefusalKind {
    /// Its name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Refused => "refused",
            Self::Busy => "busy",
            Self::Stopping => "stopping",
        }
    }
}

/// A set that was not accepted; nothing has changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// Whether it is worth trying again.
    pub kind: RefusalKind,
    /// One line: what is wrong, and what to do.
    pub error: String,
    /// The same by key, where it is about keys.
    pub problems: Vec<Problem>,
}

impl Refusal {
    /// About the whole set.
    pub fn new(kind: RefusalKind, error: impl Into<String>) -> Self {
        Self { kind, error: error.into(), problems: Vec::new() }
    }

    /// About some of its keys.
    pub fn of(problems: Vec<Problem>) -> Self {
        let sentences: Vec<&str> = problems.iter().map(|problem| problem.problem.as_str()).collect();
        Self { kind: RefusalKind::Refused, error: sentences.join("; "), problems }
    }
}

/// The last set that was refused for what it says; forgotten when another one is accepted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refused {
    /// When (RFC 3339, UTC).
    pub at: String,
    /// What whoever applied it called it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// Why.
    pub error: String,
}
