//! The few calls of the agent's HTTP API that are needed, typed. Paths and fields are those of Consul's documentation of its HTTP
//! API (agent/service, agent/check, catalog, status).

use std::sync::Arc;
use std::time::Duration;

use lifecycle::{Cluster, Failure, Level, Report};
use reqwest::{Method, RequestBuilder, StatusCode};
use serde_json::{Value, json};
use tokio::sync::watch;

use super::connection::Connection;
use super::trouble::{Names, Permission};
use crate::config::{Check, CheckTarget, Secret, Service};
use crate::metrics::Metrics;
use crate::metrics::consul_request::Measured;

/// The most of an answer that is kept: what is asked for is small, and a message needs to be readable.
const REASON_MAX: usize = 300;

/// What newer servers say where they have left something out of a list (Consul's documentation on ACLs, since 1.11).
const FILTERED: &str = "X-Consul-Results-Filtered-By-ACLs";

/// A client of one agent.
#[derive(Clone, Debug)]
pub struct ApiClient {
    connection: watch::Receiver<Connection>,
    names: Arc<Names>,
    metrics: Metrics,
}

/// What an agent says of itself.
#[derive(Clone, Debug)]
pub struct Myself {
    /// Its node's name.
    pub node: String,
    /// Its node's id.
    pub node_id: String,
    /// Its version and its neighbours.
    pub cluster: Cluster,
}

/// A good answer.
struct Answer {
    text: String,
    index: Option<u64>,
    filtered: bool,
}

impl ApiClient {
    /// A client for the agent's API, by a connection that may be replaced.
    pub fn new(connection: watch::Receiver<Connection>, names: Names, metrics: Metrics) -> Self {
        Self { connection, names: Arc::new(names), metrics }
    }

    /// The leader's address; empty while there is none.
    ///
    /// # Errors
    /// See [`Failure`]; 500 `No known Consul servers` before any server was found.
    pub async fn leader(&self, timeout: Duration) -> Result<String, Failure> {
        let answer = self.send(self.request(Method::GET, "/v1/status/leader"), timeout, &[]).await?;
        Ok(answer.trim().trim_matches('"').to_owned())
    }

    /// The node's address in the catalog, as the servers see it; `None` if it is not there.
    ///
    /// # Errors
    /// See [`Failure`].
    pub async fn node_address(&self, node: &str, timeout: Duration) -> Result<Option<String>, Failure> {
        let request = self.request(Method::GET, &format!("/v1/catalog/node/{node}"));
        let answer = self.send(request, timeout, &[Permission::node(node, "read")]).await?;
        Ok(parse(&answer)?.pointer("/Node/Address").and_then(Value::as_str).map(str::to_owned))
    }

    /// Our entry on `node` as the servers show it, with all its checks, once it is another than at `index` or `wait` is over; and the index
    /// of this answer (Consul's documentation on blocking queries). One query for the entry and its checks: an agent takes 200
    /// connections from one address, and a host's agent may serve a hundred instances.
    ///
    /// # Errors
    /// See [`Failure`]; refused also where an empty answer proves nothing, since the token may not read the entry.
    pub async fn entry(
        &self,
        service: &Service,
        node: Option<&str>,
        index: u64,
        wait: Duration,
        timeout: Duration,
    ) -> Result<(Option<Value>, u64), Failure> {
        let path = format!("/v1/health/service/{}", service.name);
        let filter = format!("Service.ID == \"{}\"", service.id);
        let (index, wait) = (index.to_string(), milliseconds(wait));
        let query = [("filter", filter.as_str()), ("index", &index), ("wait", &wait)];
        let url = reqwest::Url::parse_with_params(&format!("{}{path}", self.connection.borrow().base), query)
            .map_err(|error| Failure::Refused(format!("the agent's address is not a URL: {error}")))?;
        let request = self.connection.borrow().http.request(Method::GET, url);
        let answer = self.answer(request, timeout, &to_read(service, node)).await?;
        let entry = parse(&answer.text)?.as_array().and_then(|entries| entries.first()).cloned();
        if entry.is_none() {
            self.check_readable(service, node, answer.filtered, timeout).await?;
        }
        Ok((entry, answer.index.unwrap_or(0)))
    }

    /// Whether the token may read the entry: the servers leave out of a list what it may not, with a 200.
    ///
    /// The node is asked for at the servers, who know a permission at once; about the service only the agent can be asked, which remembers
    /// a policy for up to 30 s (`acl.policy_ttl`).
    async fn check_readable(
        &self,
        service: &Service,
        node: Option<&str>,
        filtered: bool,
        timeout: Duration,
    ) -> Result<(), Failure> {
        let needed = to_read(service, node);
        let mut missing = self.missing(&needed, None, timeout).await?;
        if let (true, Some(node)) = (missing.is_empty(), node)
            && self.node_address(node, timeout).await?.is_none()
        {
            missing.push(Permission::node(node, "read"));
        }
        match (missing.is_empty(), filtered) {
            (true, false) => Ok(()),
            (true, true) => Err(Failure::Refused(self.names.lacks(&needed))),
            (false, _) => Err(Failure::Refused(self.names.lacks(&missing))),
        }
    }

    /// Which of these the token (or `other`) does not permit; none where there are no ACLs, or Consul cannot tell.
    ///
    /// Consul's own user interface asks so (`POST /v1/internal/acl/authorize`, Consul 1.8 and later, `agent/acl_endpoint.go`).
    ///
    /// # Errors
    /// See [`Failure`].
    pub async fn missing(
        &self,
        permissions: &[Permission],
        other: Option<&Secret>,
        timeout: Duration,
    ) -> Result<Vec<Permission>, Failure> {
        let questions: Vec<Value> = permissions
            .iter()
            .map(|Permission { resource, name, access }| {
                json!({ "Resource": resource, "Segment": name, "Access": access })
            })
            .collect();
        let mut request = self.request(Method::POST, "/v1/internal/acl/authorize").json(&questions);
        if let Some(Secret(token)) = other {
            let value = reqwest::header::HeaderValue::from_str(token);
            let mut value = value.map_err(|_| Failure::Refused("a token that is none".to_owned()))?;
            value.set_sensitive(true);
            request = request.header("X-Consul-Token", value);
        }
        let answer = match self.answer(request, timeout, &[]).await {
            Ok(answer) => parse(&answer.text)?,
            // 401: ACL support disabled. 404, 405: a Consul that does not know the question.
            Err(Failure::Refused(why)) if ["401", "404", "405"].iter().any(|code| why.starts_with(code)) => {
                return Ok(Vec::new());
            }
            Err(failure) => return Err(failure),
        };
        let allowed =
            |at: usize| answer.get(at).and_then(|answer| answer.get("Allow")).and_then(Value::as_bool);
        let missing = permissions.iter().enumerate().filter(|(at, _)| allowed(*at) == Some(false));
        Ok(missing.map(|(_, permission)| permission.clone()).collect())
    }

    /// Why a node is not to be found in the catalog, where that can be known.
    ///
    /// # Errors
    /// See [`Failure`].
    pub async fn why_no_node(&self, node: &str, timeout: Duration) -> Result<String, Failure> {
        let missing = self.missing(&[Permission::node(node, "read")], None, timeout).await?;
        if !missing.is_empty() {
            return Ok(format!(
                "the token cannot see node {node} in the catalog: {}",
                self.names.lacks(&missing)
            ));
        }
        // The servers themselves are in every catalog. An agent without ACLs asks servers that have them as nobody.
        let servers =
            self.send(self.request(Method::GET, "/v1/catalog/service/consul"), timeout, &[]).await?;
        if parse(&servers)?.as_array().is_some_and(Vec::is_empty) {
            let needed = [Permission::node(node, "read")];
            return Ok(format!("the servers show nothing of the catalog: {}", self.names.lacks(&needed)));
        }
        Ok(format!("node {node} is not in the catalog yet"))
    }

    /// What is wrong with the token that an agent of ours uses itself; `None` if nothing is. Consul works without it: the servers put
    /// every member of the gossip into the catalog; but what the agent has to say of its node stays unsaid.
    ///
    /// # Errors
    /// See [`Failure`].
    pub async fn own_token_trouble(&self, node: &str, timeout: Duration) -> Result<Option<String>, Failure> {
        let Some(own) = self.connection.borrow().credentials.own_token.clone() else { return Ok(None) };
        let rule = Permission::node(node, "write");
        let whose = "the agent's own token (agent.own-token-file, or else agent.token-file)";
        match self.missing(std::slice::from_ref(&rule), Some(&own), timeout).await {
            Ok(missing) if missing.is_empty() => Ok(None),
            Ok(_) => Ok(Some(format!("{whose} lacks a permission; add to its policy: {rule}"))),
            Err(Failure::Refused(why)) if why.contains("ACL not found") => {
                Ok(Some(format!("{whose} is unknown to Consul: put a valid one there")))
            }
            Err(failure) => Err(failure),
        }
    }

    /// What the agent says of itself. `node` is its name, where that is known.
    ///
    /// # Errors
    /// See [`Failure`].
    pub async fn myself(&self, node: Option<&str>, timeout: Duration) -> Result<Myself, Failure> {
        let needed = [Permission::agent(node.unwrap_or("NODE"), "read")];
        let answer = self.send(self.request(Method::GET, "/v1/agent/self"), timeout, &needed).await?;
        let answer = parse(&answer)?;
        let text = |path: &str| answer.pointer(path).and_then(Value::as_str).map(str::to_owned);
        let count = |key: &str| text(&format!("/Stats/serf_lan/{key}"))?.parse::<u32>().ok();
        let gone = count("failed").unwrap_or(0).saturating_add(count("left").unwrap_or(0));
        let unsaid = |what: &str| Failure::Refused(format!("the agent does not say its node's {what}"));
        Ok(Myself {
            node: text("/Config/NodeName").ok_or_else(|| unsaid("name"))?,
            node_id: text("/Config/NodeID").ok_or_else(|| unsaid("id"))?,
            cluster: Cluster {
                version: text("/Config/Version").unwrap_or_default(),
                members: count("members").map(|members| members.saturating_sub(gone)),
                trouble: String::new(),
            },
        })
    }

    /// Registers the service with its TTL check; checks of an earlier registration that are not in this one go.
    ///
    /// # Errors
    /// See [`Failure`].
    pub async fn register(&self, service: &Service, check: &Check, timeout: Duration) -> Result<(), Failure> {
        let body = json!({
            "Name": service.name,
            "ID": service.id,
            "Address": service.address,
            "Port": service.port,
            "Tags": service.tags,
            "Meta": service.meta,
            "Weights": { "Passing": service.weight_passing, "Warning": service.weight_warning },
            "Check": {
                "CheckID": ttl_check_id(service),
                "Name": "supervisor",
                "TTL": milliseconds(check.ttl),
                "DeregisterCriticalServiceAfter": milliseconds(check.deregister_after),
            },
        });
        let request =
            self.request(Method::PUT, "/v1/agent/service/register?replace-existing-checks=true").json(&body);
        self.send(request, timeout, &to_write(service)).await.map(drop)
    }

    /// Pushes the TTL check's state.
    ///
    /// # Errors
    /// See [`Failure`]; refused where the agent has no such check.
    pub async fn update(&self, service: &Service, report: &Report, timeout: Duration) -> Result<(), Failure> {
        let status = match report.level {
            Level::Passing => "passing",
            Level::Warning => "warning",
            Level::Critical => "critical",
        };
        let path = format!("/v1/agent/check/update/{}", ttl_check_id(service));
        let request =
            self.request(Method::PUT, &path).json(&json!({ "Status": status, "Output": report.note }));
        self.send(request, timeout, &to_write(service)).await.map(drop)
    }

    /// Adds Consul's own check of the worker to the registered service, beginning as passing: the worker has just been probed, and
    /// Consul's first probe would come at a random moment of the interval.
    ///
    /// # Errors
    /// See [`Failure`].
    pub async fn add_http_check(
        &self,
        service: &Service,
        check: &Check,
        timeout: Duration,
    ) -> Result<(), Failure> {
        let (kind, target) = match &check.target {
            CheckTarget::Http(url) => ("HTTP", url),
            CheckTarget::Tcp(address) => ("TCP", address),
        };
        let body = json!({
            "ID": http_check_id(service),
            "ServiceID": service.id,
            "Name": "worker",
            (kind): target,
            "Interval": milliseconds(check.interval),
            "Timeout": milliseconds(check.timeout),
            "Status": "passing",
            // Without a time after which Consul removes the entry: the supervisor's own check lapses where nobody is left.
        });
        let request = self.request(Method::PUT, "/v1/agent/check/register").json(&body);
        self.send(request, timeout, &to_write(service)).await.map(drop)
    }

    /// Removes Consul's own check of the worker. That it is gone already is no error.
    ///
    /// # Errors
    /// See [`Failure`].
    pub async fn remove_http_check(&self, service: &Service, timeout: Duration) -> Result<(), Failure> {
        let path = format!("/v1/agent/check/deregister/{}", http_check_id(service));
        self.send_gone_is_fine(self.request(Method::PUT, &path), timeout, &to_write(service)).await
    }

    /// Removes the service from the agent. That it is gone already is no error.
    ///
    /// # Errors
    /// See [`Failure`].
    pub async fn deregister(&self, service: &Service, timeout: Duration) -> Result<(), Failure> {
        let path = format!("/v1/agent/service/deregister/{}", service.id);
        self.send_gone_is_fine(self.request(Method::PUT, &path), timeout, &to_write(service)).await
    }

    /// Whether the servers' catalog still lists the instance. Asked of the leader itself (`consistent`): a follower may be behind.
    ///
    /// # Errors
    /// See [`Failure`]; refused also where an empty answer proves nothing, since the token may not read the entry.
    pub async fn is_listed(
        &self,
        service: &Service,
        node: Option<&str>,
        timeout: Duration,
    ) -> Result<bool, Failure> {
        let (listed, filtered) = self.look(service, node, timeout).await?;
        if listed {
            return Ok(true);
        }
        self.check_readable(service, node, filtered, timeout).await?;
        // Once more: the permission may have come between the two.
        Ok(self.look(service, node, timeout).await?.0)
    }

    async fn look(
        &self,
        service: &Service,
        node: Option<&str>,
        timeout: Duration,
    ) -> Result<(bool, bool), Failure> {
        let path = format!("/v1/catalog/service/{}?consistent", service.name);
        let answer = self.answer(self.request(Method::GET, &path), timeout, &to_read(service, node)).await?;
        let entries = parse(&answer.text)?;
        let ours = |entry: &Value| entry.get("ServiceID").and_then(Value::as_str) == Some(&service.id);
        match entries.as_array() {
            Some(entries) => Ok((entries.iter().any(ours), answer.filtered)),
            None => Err(Failure::Refused("the catalog's answer is not a list".to_owned())),
        }
    }

    fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let connection = self.connection.borrow();
        connection.http.request(method, format!("{}{path}", connection.base))
    }

    async fn send_gone_is_fine(
        &self,
        request: RequestBuilder,
        timeout: Duration,
        needed: &[Permission],
    ) -> Result<(), Failure> {
        match self.send(request, timeout, needed).await {
            Err(Failure::Refused(reason)) if reason.starts_with("404") || reason.contains("Unknown") => {
                Ok(())
            }
            other => other.map(drop),
        }
    }

    /// Sends a request and gives the body of a 200 back. Anything else is refused, with the answer's first line and what to do.
    async fn send(
        &self,
        request: RequestBuilder,
        timeout: Duration,
        needed: &[Permission],
    ) -> Result<String, Failure> {
        self.answer(request, timeout, needed).await.map(|answer| answer.text)
    }

    /// The same, with what Consul says in the answer's head.
    async fn answer(
        &self,
        request: RequestBuilder,
        timeout: Duration,
        needed: &[Permission],
    ) -> Result<Answer, Failure> {
        let unanswered = |error: reqwest::Error| {
            let slow = error.is_timeout();
            let reason = innermost(&error.without_url());
            if slow {
                Failure::Unanswered(reason)
            } else {
                Failure::Unreachable(self.with_problem(self.names.unreachable(&reason)))
            }
        };
        let request = request.timeout(timeout).build().map_err(unanswered)?;
        let measured = Measured::begin(&self.metrics, request.url());
        let http = self.connection.borrow().http.clone();
        let answered = async {
            let answer = http.execute(request).await?;
            let head = |name: &str| answer.headers().get(name)?.to_str().ok().map(str::to_owned);
            let index = head("X-Consul-Index").and_then(|index| index.parse().ok());
            let filtered = head(FILTERED).is_some_and(|filtered| filtered == "true");
            Ok((answer.status(), Answer { index, filtered, text: answer.text().await? }))
        };
        let answered = answered.await;
        measured.end(&answered);
        let (status, answer) = answered.map_err(unanswered)?;
        if status == StatusCode::OK {
            return Ok(answer);
        }
        let line: String = answer.text.lines().next().unwrap_or_default().chars().take(REASON_MAX).collect();
        let refused = self.names.refused(status.as_u16(), &line, needed);
        Err(Failure::Refused(self.with_problem(refused)))
    }

    /// A failure may come from what was replaced and cannot be used.
    fn with_problem(&self, reason: String) -> String {
        match &self.connection.borrow().problem {
            Some(problem) => format!("{reason} ({problem}; the earlier one is still used)"),
            None => reason,
        }
    }
}

/// What it takes to see the entry. The node of an agent that is not ours is not known before it has answered.
fn to_read(service: &Service, node: Option<&str>) -> Vec<Permission> {
    let node = node.map(|node| Permission::node(node, "read"));
    [Permission::service(&service.name, "read")].into_iter().chain(node).collect()
}

/// What it takes to register, to update the checks, and to deregister.
fn to_write(service: &Service) -> [Permission; 1] {
    [Permission::service(&service.name, "write")]
}

/// The words of the error that caused it all: the outer ones only say that a request failed.
pub fn innermost(error: &(dyn std::error::Error + 'static)) -> String {
    let mut innermost = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    innermost.to_string()
}

fn parse(text: &str) -> Result<Value, Failure> {
    serde_json::from_str(text).map_err(|error| Failure::Refused(format!("the answer is not JSON: {error}")))
}

/// The id of the check that the supervisor pushes.
pub fn ttl_check_id(service: &Service) -> String {
    format!("{}:supervisor", service.id)
}

/// The id of the check that Consul makes.
pub fn http_check_id(service: &Service) -> String {
    format!("{}:worker", service.id)
}

/// A duration as Go reads it (time.ParseDuration).
fn milliseconds(duration: Duration) -> String {
    format!("{}ms", duration.as_millis())
}
