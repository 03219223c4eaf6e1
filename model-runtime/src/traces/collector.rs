//! The HTTP client that brings spans to the collector: blocking, on the exporter's own thread.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use opentelemetry_http::{Bytes, HttpClient, HttpError, Request, Response};

/// As `OTEL_EXPORTER_OTLP_TIMEOUT` has it by default.
const TIMEOUT: Duration = Duration::from_secs(10);
/// More than any collector has to say about what it did not take.
const LONGEST_ANSWER: u64 = 64 << 10;

#[derive(Debug)]
pub(super) struct Collector {
    endpoint: String,
    agent: ureq::Agent,
    failing: AtomicBool,
}

impl Collector {
    pub(super) fn new(endpoint: &str) -> Self {
        let config = ureq::Agent::config_builder()
            .timeout_global(Some(TIMEOUT))
            // The exporter reads the status: some are worth another try.
            .http_status_as_error(false)
            .build();
        Self { endpoint: endpoint.to_owned(), agent: config.into(), failing: AtomicBool::new(false) }
    }

    fn send(&self, request: Request<Bytes>) -> Result<Response<Bytes>, ureq::Error> {
        let (head, body) = self.agent.run(request.map(|body| body.to_vec()))?.into_parts();
        let answer = body.into_with_config().limit(LONGEST_ANSWER).read_to_vec()?;
        Ok(Response::from_parts(head, Bytes::from(answer)))
    }

    /// Says when the collector stops to take traces and when it does again; not every few seconds.
    fn note(&self, problem: Option<String>) {
        let failed = self.failing.swap(problem.is_some(), Ordering::Relaxed);
        match problem {
            Some(problem) if !failed => {
                tracing::warn!(collector = self.endpoint, problem, "traces cannot be sent");
            }
            None if failed => tracing::info!(collector = self.endpoint, "traces are sent again"),
            Some(_) | None => {}
        }
    }
}

#[async_trait]
impl HttpClient for Collector {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let sent = self.send(request);
        self.note(match &sent {
            Ok(response) if response.status().is_success() => None,
            Ok(response) => Some(format!("status {}", response.status())),
            Err(error) => Some(error.to_string()),
        });
        Ok(sent?)
    }
}
