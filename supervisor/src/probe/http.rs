//! The HTTP probe: what Consul's own check would conclude from the same answer (its documentation on checks: 2xx passing,
//! 429 warning, anything else critical), with silence told apart.

use std::time::Duration;

use lifecycle::{Event, Generation, ProbeOutcome, ProbeReport};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep};

use crate::config::Probe;
use crate::consul::api_client::innermost;
use crate::metrics::Metrics;

/// While the worker is starting, so that it is in rotation as soon as it can be.
const FIRST: Duration = Duration::from_millis(5);
const LAST: Duration = Duration::from_millis(100);

/// What probes, and what is probed.
#[derive(Clone, Debug)]
pub struct Prober {
    /// See [`client`].
    pub client: reqwest::Client,
    /// What is asked, and how often.
    pub probe: Probe,
    /// Where it is counted how long that takes.
    pub metrics: Metrics,
}

impl Prober {
    /// Asks again and again whether the worker is ready, and reports every answer.
    pub async fn run(self, generation: Generation, events: mpsc::Sender<Event>) {
        let Self { client, probe, metrics } = self;
        let mut delay = FIRST;
        loop {
            let began = Instant::now();
            let report = ask(&client, &probe).await;
            metrics.probe_took("readiness", "http", began.elapsed());
            let ready = matches!(report.outcome, ProbeOutcome::Passing | ProbeOutcome::Warning);
            if events.send(Event::WorkerProbed { generation, report }).await.is_err() {
                return;
            }
            sleep(if ready { probe.interval } else { delay.min(probe.interval) }).await;
            delay = if ready { FIRST } else { (delay * 3 / 2).min(LAST) };
        }
    }

    /// Asks again and again whether the worker is alive: any answer below 500 says so. The policy counts, and only once it was ready.
    pub async fn run_liveness(self, url: String, generation: Generation, events: mpsc::Sender<Event>) {
        let Self { client, probe, metrics } = self;
        loop {
            sleep(probe.interval).await;
            let began = Instant::now();
            let answer = client.get(&url).timeout(probe.timeout).send().await;
            metrics.probe_took("liveness", "http", began.elapsed());
            let outcome = match answer {
                Ok(answer) if answer.status().is_server_error() => {
                    Err(format!("GET {url}: {}", answer.status()))
                }
                Ok(_) => Ok(()),
                Err(error) if error.is_timeout() => {
                    Err(format!("GET {url}: no answer within {}", humantime::format_duration(probe.timeout)))
                }
                Err(error) => Err(format!("GET {url}: {}", innermost(&error.without_url()))),
            };
            if events.send(Event::LivenessProbed { generation, outcome }).await.is_err() {
                return;
            }
        }
    }
}

async fn ask(client: &reqwest::Client, probe: &Probe) -> ProbeReport {
    match client.get(&probe.url).timeout(probe.timeout).send().await {
        Ok(answer) => {
            let status = answer.status();
            let outcome = match status.as_u16() {
                200..=299 => ProbeOutcome::Passing,
                429 => ProbeOutcome::Warning,
                _ => ProbeOutcome::Critical,
            };
            ProbeReport { outcome, note: format!("GET {}: {status}", probe.url) }
        }
        Err(error) if error.is_timeout() => ProbeReport {
            outcome: ProbeOutcome::Silent,
            note: format!(
                "GET {}: no answer within {}",
                probe.url,
                humantime::format_duration(probe.timeout)
            ),
        },
        Err(error) => ProbeReport {
            outcome: ProbeOutcome::Silent,
            note: format!("GET {}: {}", probe.url, innermost(&error.without_url())),
        },
    }
}

/// The client for probes: no proxy, no redirects (Consul follows none either), and a fresh connection each time, so that a worker that
/// accepts no more is noticed.
///
/// # Errors
/// The HTTP client cannot be built.
pub fn client() -> Result<reqwest::Client, String> {
    reqwest::Client::builder()
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .pool_max_idle_per_host(0)
        .build()
        .map_err(|error| format!("the HTTP client cannot be built: {error}"))
}
