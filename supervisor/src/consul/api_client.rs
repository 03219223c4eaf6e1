//! The few calls of the agent's HTTP API that are needed, typed. Paths and fields are those of Consul's documentation of its HTTP
//! API (agent/service, agent/check, catalog, status).

use std::time::Duration;

use reqwest::{Method, RequestBuilder, StatusCode};
use serde_json::{Value, json};

use crate::config::{Agent, Api, Check, CheckTarget, Service};
use crate::metrics::Metrics;
use crate::metrics::consul_request::Measured;
use lifecycle::{Failure, Level, Report};

/// The most of an answer that is kept: what is asked for is small, and a message needs to be readable.
const REASON_MAX: usize = 300;

/// A client of one agent.
#[derive(Clone, Debug)]
pub struct ApiClient {
    http: reqwest::Client,
    base: String,
    metrics: Metrics,
}

impl ApiClient {
    /// A client for the agent's API. No connection is made yet.
    ///
    /// # Errors
    /// The token holds characters that no header can, or the HTTP client cannot be built.
    pub fn new(agent: &Agent, metrics: Metrics) -> Result<Self, String> {
        let mut headers = reqwest::header::HeaderMap::new();
        if let Some(token) = &agent.token {
            let mut value = reqwest::header::HeaderValue::from_str(&token.0)
                .map_err(|_| "CONSUL_HTTP_TOKEN holds characters that a token cannot have".to_owned())?;
            value.set_sensitive(true);
            headers.insert("X-Consul-Token", value);
        }
        // The agent is here: neither a proxy nor a redirect has any business in between.
        let builder = reqwest::Client::builder()
            .default_headers(headers)
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none());
        let (builder, base) = match &agent.api {
            Api::Tcp(..) => (builder, agent.api.to_string()),
            Api::Unix(path) => (builder.unix_socket(path.clone()), "http://localhost".to_owned()),
        };
        let http = builder.build().map_err(|error| format!("the HTTP client cannot be built: {error}"))?;
        Ok(Self { http, base, metrics })
    }

    /// The leader's address; empty while there is none.
    ///
    /// # Errors
    /// See [`Failure`]; 500 `No known Consul servers` before any server was found.
    pub async fn leader(&self, timeout: Duration) -> Result<String, Failure> {
        let answer = self.send(self.request(Method::GET, "/v1/status/leader"), timeout).await?;
        Ok(answer.trim().trim_matches('"').to_owned())
    }

    /// The node's address in the catalog, as the servers see it; `None` if it is not there.
    ///
    /// # Errors
    /// See [`Failure`].
    pub async fn node_address(&self, node: &str, timeout: Duration) -> Result<Option<String>, Failure> {
        let answer =
            self.send(self.request(Method::GET, &format!("/v1/catalog/node/{node}")), timeout).await?;
        Ok(parse(&answer)?.pointer("/Node/Address").and_then(Value::as_str).map(str::to_owned))
    }

    /// Our entry as the servers show it, with all its checks, once it is another than at `index` or `wait` is over; and the index of
    /// this answer (Consul's documentation on blocking queries). One query for the entry and its checks: an agent takes 200
    /// connections from one address, and a host's agent may serve a hundred instances.
    ///
    /// # Errors
    /// See [`Failure`].
    pub async fn entry(
        &self,
        service: &Service,
        index: u64,
        wait: Duration,
        timeout: Duration,
    ) -> Result<(Option<Value>, u64), Failure> {
        let path = format!("/v1/health/service/{}", service.name);
        let filter = format!("Service.ID == \"{}\"", service.id);
        let (index, wait) = (index.to_string(), milliseconds(wait));
        let query = [("filter", filter.as_str()), ("index", &index), ("wait", &wait)];
        let url = reqwest::Url::parse_with_params(&format!("{}{path}", self.base), query)
            .map_err(|error| Failure::Refused(format!("the agent's address is not a URL: {error}")))?;
        let (text, index) = self.send_indexed(self.http.request(Method::GET, url), timeout).await?;
        let entry = parse(&text)?.as_array().and_then(|entries| entries.first()).cloned();
        Ok((entry, index.unwrap_or(0)))
    }

    /// The name of the agent's node.
    ///
    /// # Errors
    /// See [`Failure`].
    pub async fn own_node_name(&self, timeout: Duration) -> Result<String, Failure> {
        let answer = self.send(self.request(Method::GET, "/v1/agent/self"), timeout).await?;
        let name = parse(&answer)?.pointer("/Config/NodeName").and_then(Value::as_str).map(str::to_owned);
        name.ok_or_else(|| Failure::Refused("the agent does not say its node name".to_owned()))
    }

    /// The agent's own id: whether the one that answers is the one that we started.
    ///
    /// # Errors
    /// See [`Failure`].
    pub async fn own_node_id(&self, timeout: Duration) -> Result<String, Failure> {
        let answer = self.send(self.request(Method::GET, "/v1/agent/self"), timeout).await?;
        let id = parse(&answer)?.pointer("/Config/NodeID").and_then(Value::as_str).map(str::to_owned);
        id.ok_or_else(|| Failure::Refused("the agent does not say its node id".to_owned()))
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
        self.send(request, timeout).await.map(drop)
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
        self.send(request, timeout).await.map(drop)
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
        self.send(request, timeout).await.map(drop)
    }

    /// Removes Consul's own check of the worker. That it is gone already is no error.
    ///
    /// # Errors
    /// See [`Failure`].
    pub async fn remove_http_check(&self, service: &Service, timeout: Duration) -> Result<(), Failure> {
        let path = format!("/v1/agent/check/deregister/{}", http_check_id(service));
        self.send_gone_is_fine(self.request(Method::PUT, &path), timeout).await
    }

    /// Removes the service from the agent. That it is gone already is no error.
    ///
    /// # Errors
    /// See [`Failure`].
    pub async fn deregister(&self, service: &Service, timeout: Duration) -> Result<(), Failure> {
        let path = format!("/v1/agent/service/deregister/{}", service.id);
        self.send_gone_is_fine(self.request(Method::PUT, &path), timeout).await
    }

    /// Whether the servers' catalog still lists the instance. Asked of the leader itself (`consistent`): a follower may be behind.
    ///
    /// # Errors
    /// See [`Failure`].
    pub async fn is_listed(&self, service: &Service, timeout: Duration) -> Result<bool, Failure> {
        let path = format!("/v1/catalog/service/{}?consistent", service.name);
        let answer = self.send(self.request(Method::GET, &path), timeout).await?;
        let entries = parse(&answer)?;
        let ours = |entry: &Value| entry.get("ServiceID").and_then(Value::as_str) == Some(&service.id);
        match entries.as_array() {
            Some(entries) => Ok(entries.iter().any(ours)),
            None => Err(Failure::Refused("the catalog's answer is not a list".to_owned())),
        }
    }

    fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.http.request(method, format!("{}{path}", self.base))
    }

    async fn send_gone_is_fine(&self, request: RequestBuilder, timeout: Duration) -> Result<(), Failure> {
        match self.send(request, timeout).await {
            Err(Failure::Refused(reason)) if reason.starts_with("404") || reason.contains("Unknown") => {
                Ok(())
            }
            other => other.map(drop),
        }
    }

    /// Sends a request and gives the body of a 200 back. Anything else is refused, with the answer's first line.
    async fn send(&self, request: RequestBuilder, timeout: Duration) -> Result<String, Failure> {
        self.send_indexed(request, timeout).await.map(|(text, _)| text)
    }

    /// The same, and the index that Consul gives its answer, for a blocking query.
    async fn send_indexed(
        &self,
        request: RequestBuilder,
        timeout: Duration,
    ) -> Result<(String, Option<u64>), Failure> {
        let unanswered = |error: reqwest::Error| {
            let slow = error.is_timeout();
            let reason = innermost(&error.without_url());
            if slow { Failure::Unanswered(reason) } else { Failure::Unreachable(reason) }
        };
        let request = request.timeout(timeout).build().map_err(unanswered)?;
        let measured = Measured::begin(&self.metrics, request.url());
        let answered = async {
            let answer = self.http.execute(request).await?;
            let index =
                answer.headers().get("X-Consul-Index").and_then(|index| index.to_str().ok()?.parse().ok());
            Ok((answer.status(), (answer.text().await?, index)))
        };
        let answered = answered.await;
        measured.end(&answered);
        let (status, (text, index)) = answered.map_err(unanswered)?;
        if status == StatusCode::OK {
            return Ok((text, index));
        }
        let line: String = text.lines().next().unwrap_or_default().chars().take(REASON_MAX).collect();
        Err(Failure::Refused(format!("{} {line}", status.as_u16())))
    }
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
