//! The HTTP probe: what Consul's own check would conclude from the same answer (its documentation on checks: 2xx passing,
//! 429 warning, anything else critical), with silence told apart.

use std::time::Duration;

use lifecycle::{ProbeOutcome, ProbeReport};
use reqwest::{Client, StatusCode};

use crate::consul::api_client::innermost;

/// Whether the worker is ready.
pub(super) async fn readiness(client: &Client, url: &str, timeout: Duration) -> ProbeReport {
    match get(client, url, timeout).await {
        Ok(status) => {
            let outcome = match status.as_u16() {
                200..=299 => ProbeOutcome::Passing,
                429 => ProbeOutcome::Warning,
                _ => ProbeOutcome::Critical,
            };
            ProbeReport { outcome, note: format!("GET {url}: {status}") }
        }
        Err(note) => ProbeReport { outcome: ProbeOutcome::Silent, note },
    }
}

/// Whether the worker is alive: any answer below 500 says so.
pub(super) async fn liveness(client: &Client, url: &str, timeout: Duration) -> Result<(), String> {
    let status = get(client, url, timeout).await?;
    if status.is_server_error() { Err(format!("GET {url}: {status}")) } else { Ok(()) }
}

async fn get(client: &Client, url: &str, timeout: Duration) -> Result<StatusCode, String> {
    match client.get(url).timeout(timeout).send().await {
        Ok(answer) => Ok(answer.status()),
        Err(error) if error.is_timeout() => {
            Err(format!("GET {url}: no answer within {}", humantime::format_duration(timeout)))
        }
        Err(error) => Err(format!("GET {url}: {}", innermost(&error.without_url()))),
    }
}

/// The client for probes: no proxy, no redirects (Consul follows none either), and a fresh connection each time, so that a worker that
/// accepts no more is noticed.
///
/// # Errors
/// The HTTP client cannot be built.
pub fn client() -> Result<Client, String> {
    Client::builder()
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .pool_max_idle_per_host(0)
        .build()
        .map_err(|error| format!("the HTTP client cannot be built: {error}"))
}
