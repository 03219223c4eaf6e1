//! What travels over the admin socket.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::config::{Change, Problem, Setting};
use crate::hot_change::{Outcome, Refusal, RefusalKind, Refused, Report};

/// In bytes. It is shown in every answer, and by `/health`.
const VERSION_MAX: usize = 256;

/// What a client asks for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "command", rename_all = "kebab-case", try_from = "Written")]
pub enum Request {
    /// What is in force?
    Show,
    /// Let these be all overrides there are.
    Apply {
        /// By the keys of `runtime.toml`, and `model_path`; numbers, or texts as a flag takes them.
        settings: Map<String, Value>,
        /// What the client calls this set.
        #[serde(skip_serializing_if = "Option::is_none")]
        version: Option<String>,
    },
}

/// A request as it is written. Serde's own form of a tagged enum would take unknown fields where a variant has none.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    command: Name,
    settings: Option<Map<String, Value>>,
    version: Option<String>,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Name {
    Show,
    Apply,
}

impl TryFrom<Written> for Request {
    type Error = &'static str;

    fn try_from(written: Written) -> Result<Self, Self::Error> {
        match written {
            Written { command: Name::Show, settings: None, version: None } => Ok(Self::Show),
            Written { command: Name::Show, .. } => Err("show takes neither settings nor a version"),
            Written { command: Name::Apply, version: Some(version), .. } if version.len() > VERSION_MAX => {
                Err("a version has 256 bytes at most")
            }
            Written { command: Name::Apply, settings: Some(settings), version } => {
                Ok(Self::Apply { settings, version })
            }
            Written { command: Name::Apply, settings: None, .. } => {
                Err("apply takes settings, an object; {} is no override at all")
            }
        }
    }
}

/// What it is told.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Answer {
    /// Whether the request was accepted.
    pub ok: bool,
    /// What an accepted set did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcome: Option<Outcome>,
    /// Which values an accepted set changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub changes: Option<Vec<Change>>,
    /// Why not, in one line.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// Whether it is worth trying again; absent when the request itself was not understood.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error_type: Option<RefusalKind>,
    /// Why not, by key.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub problems: Vec<Problem>,
    /// What is in force now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<State>,
}

/// What is in force.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct State {
    /// `loading`, `ready` or `draining`.
    pub phase: String,
    /// What the set in force was called; absent when it had no name, or there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// The model; absent while the first one is being loaded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<ModelShown>,
    /// Every setting that may change.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub settings: BTreeMap<String, Setting>,
    /// The last set that was refused for what it says, if none has been accepted since.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refused: Option<Refused>,
}

/// The model that serves.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModelShown {
    /// Its name.
    pub name: String,
    /// Its version, if it says one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// What it does.
    pub task: String,
    /// Where it runs.
    pub device: String,
}

impl Answer {
    /// What is in force.
    pub fn state(state: State) -> Self {
        Self { ok: true, state: Some(state), ..Self::default() }
    }

    /// What became of a set, and what is in force now.
    pub fn of(result: Result<Report, Refusal>, state: State) -> Self {
        match result {
            Ok(Report { outcome, changes }) => Self {
                ok: true,
                outcome: Some(outcome),
                changes: Some(changes),
                state: Some(state),
                ..Self::default()
            },
            Err(Refusal { kind, error, problems }) => Self {
                error: Some(error),
                error_type: Some(kind),
                problems,
                state: Some(state),
                ..Self::default()
            },
        }
    }

    /// The request was not understood.
    pub fn misunderstood(error: String) -> Self {
        Self { error: Some(error), ..Self::default() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Request, String> {
        serde_json::from_str(text).map_err(|error| error.to_string())
    }

    #[test]
    fn a_request_is_read_as_it_is_written_and_nothing_in_it_is_passed_over() {
        assert_eq!(read(r#"{"command":"show"}"#), Ok(Request::Show));
        let apply = read(r#"{"command":"apply","settings":{"max_queue":9},"version":"17"}"#).unwrap();
        assert_eq!(read(&serde_json::to_string(&apply).unwrap()), Ok(apply));
        for (wrong, says) in [
            (r#"{"command":"apply"}"#, "takes settings"),
            (r#"{"command":"apply","settings":[]}"#, "map"),
            (r#"{"command":"show","settings":{}}"#, "neither"),
            (r#"{"command":"show","verbose":true}"#, "verbose"),
            (r#"{"command":"reload"}"#, "`apply`"),
            (r#"{"command":"apply","settings":{},"version":17}"#, "string"),
        ] {
            let error = read(wrong).unwrap_err();
            assert!(error.contains(says), "{wrong}: {error}");
        }
    }
}
