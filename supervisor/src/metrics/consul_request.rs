//! What a request to the Consul agent is called in the metrics, and how it can end.

use std::time::Instant;

use reqwest::{StatusCode, Url};

use super::Metrics;

/// How a request ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It was answered.
    Answered,
    /// It was a blocking query and was answered, whenever that was.
    Blocked,
    /// It failed: an HTTP status, `timeout` or `connection`.
    Failed(String),
}

/// A request that has been sent.
#[derive(Debug)]
pub struct Measured<'a> {
    metrics: &'a Metrics,
    name: String,
    blocks: bool,
    began: Instant,
}

impl<'a> Measured<'a> {
    /// It is sent now.
    pub fn begin(metrics: &'a Metrics, url: &Url) -> Self {
        // The parameters that make a query a blocking one (Consul's documentation on blocking queries).
        let blocks = url.query_pairs().any(|(key, _)| key == "index" || key == "hash");
        Self { metrics, name: name(url.path()), blocks, began: Instant::now() }
    }

    /// It is answered, or will not be. That something is not there (404) is an answer.
    pub fn end<T>(self, answered: &Result<(StatusCode, T), reqwest::Error>) {
        let outcome = match answered {
            Ok((status, _)) if !status.is_success() && *status != StatusCode::NOT_FOUND => {
                Outcome::Failed(status.as_u16().to_string())
            }
            Ok(_) if self.blocks => Outcome::Blocked,
            Ok(_) => Outcome::Answered,
            Err(error) if error.is_timeout() => Outcome::Failed("timeout".to_owned()),
            Err(_) => Outcome::Failed("connection".to_owned()),
        };
        self.metrics.consul_answered(&self.name, self.began.elapsed(), outcome);
    }
}

/// Words of the API's paths. Anything else in a path is a name or an id, of which there may be any number.
const WORDS: [&str; 42] = [
    "acl",
    "agent",
    "authorize",
    "ca",
    "catalog",
    "check",
    "checks",
    "config",
    "connect",
    "create",
    "critical",
    "datacenters",
    "deregister",
    "destroy",
    "fail",
    "force-leave",
    "health",
    "info",
    "internal",
    "join",
    "kv",
    "leader",
    "leave",
    "login",
    "maintenance",
    "members",
    "node",
    "nodes",
    "operator",
    "pass",
    "peers",
    "register",
    "reload",
    "renew",
    "self",
    "service",
    "services",
    "session",
    "status",
    "token",
    "txn",
    "update",
];

/// The path of a request without `/v1/`, names and ids: `agent/check/update`. It ends at the first word that is none of the API's, and
/// where a name must come, which may be such a word.
pub fn name(path: &str) -> String {
    let path = path.strip_prefix("/v1/").unwrap_or(path);
    let words: Vec<&str> = path.split('/').take_while(|word| WORDS.contains(word)).collect();
    let most = match words.as_slice() {
        ["kv", ..] => 1,
        ["catalog" | "health" | "session", ..] => 2,
        _ => 3,
    };
    let name = words.into_iter().take(most).collect::<Vec<_>>().join("/");
    if name.is_empty() { "other".to_owned() } else { name }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_ids_are_left_out() {
        for (path, expected) in [
            ("/v1/status/leader", "status/leader"),
            ("/v1/agent/self", "agent/self"),
            ("/v1/agent/service/register", "agent/service/register"),
            ("/v1/agent/service/deregister/demo-node-8000", "agent/service/deregister"),
            ("/v1/agent/service/demo-node-8000", "agent/service"),
            ("/v1/agent/check/update/demo-node-8000:supervisor", "agent/check/update"),
            ("/v1/agent/check/update/leader", "agent/check/update"),
            ("/v1/catalog/service/demo", "catalog/service"),
            ("/v1/catalog/service/services", "catalog/service"),
            ("/v1/catalog/node/node-1", "catalog/node"),
            ("/v1/health/service/status", "health/service"),
            ("/v1/kv/agent/demo/tags", "kv"),
            ("/v1/session/renew/0c1d", "session/renew"),
            ("/v1/internal/acl/authorize", "internal/acl/authorize"),
            ("/secret/path", "other"),
            ("", "other"),
        ] {
            assert_eq!(name(path), expected, "{path}");
        }
    }
}
