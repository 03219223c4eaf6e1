//! Probes of the worker: whether it is ready, and whether it is alive.

pub mod exec;
pub mod http;
mod tcp;

use std::time::Duration;

use lifecycle::{Event, Generation, ProbeOutcome, ProbeReport};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep};

use crate::config::{Ask, Probe};
use crate::metrics::Metrics;

/// While the worker is starting, so that it is in rotation as soon as it can be.
const FIRST: Duration = Duration::from_millis(5);
const LAST: Duration = Duration::from_millis(100);
/// The same where each look is a process.
const FIRST_PROCESS: Duration = Duration::from_millis(100);
const LAST_PROCESS: Duration = Duration::from_secs(1);

/// What probes, and what is probed.
#[derive(Clone, Debug)]
pub struct Prober {
    /// See [`http::client`].
    pub client: reqwest::Client,
    /// Who starts commands.
    pub orders: mpsc::Sender<exec::Order>,
    /// What is asked, and how often.
    pub probe: Probe,
    /// Where it is counted how long that takes.
    pub metrics: Metrics,
}

/// What came of a look that is no HTTP answer.
type Look = Result<(), Failure>;

/// What kept a look from being good.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Failure {
    /// Nobody said anything, which counts only when it happens again.
    silent: bool,
    note: String,
}

impl Prober {
    /// Asks again and again whether the worker is ready, and reports every answer.
    pub async fn run(self, generation: Generation, events: mpsc::Sender<Event>) {
        let ask = &self.probe.readiness;
        let (first, last) =
            if matches!(ask, Ask::Exec(_)) { (FIRST_PROCESS, LAST_PROCESS) } else { (FIRST, LAST) };
        let mut delay = first;
        loop {
            let began = Instant::now();
            let report = self.look_for_readiness(ask).await;
            self.metrics.probe_took("readiness", kind(ask), began.elapsed());
            let ready = matches!(report.outcome, ProbeOutcome::Passing | ProbeOutcome::Warning);
            if events.send(Event::WorkerProbed { generation, report }).await.is_err() {
                return;
            }
            sleep(if ready { self.probe.interval } else { delay.min(self.probe.interval) }).await;
            delay = if ready { first } else { (delay * 3 / 2).min(last) };
        }
    }

    /// Asks again and again whether the worker is alive. The policy counts, and only once it was ready.
    pub async fn run_liveness(self, ask: Ask, generation: Generation, events: mpsc::Sender<Event>) {
        loop {
            sleep(self.probe.interval).await;
            let began = Instant::now();
            let outcome = self.look_for_life(&ask).await;
            self.metrics.probe_took("liveness", kind(&ask), began.elapsed());
            if events.send(Event::LivenessProbed { generation, outcome }).await.is_err() {
                return;
            }
        }
    }

    async fn look_for_readiness(&self, ask: &Ask) -> ProbeReport {
        let look = match ask {
            Ask::Http(url) => return http::readiness(&self.client, url, self.probe.timeout).await,
            other => self.look(other).await,
        };
        match look {
            Ok(()) => ProbeReport { outcome: ProbeOutcome::Passing, note: good(ask) },
            Err(Failure { silent, note }) => ProbeReport {
                outcome: if silent { ProbeOutcome::Silent } else { ProbeOutcome::Critical },
                note,
            },
        }
    }

    async fn look_for_life(&self, ask: &Ask) -> Result<(), String> {
        match ask {
            Ask::Http(url) => http::liveness(&self.client, url, self.probe.timeout).await,
            other => self.look(other).await.map_err(|failure| failure.note),
        }
    }

    async fn look(&self, ask: &Ask) -> Look {
        match ask {
            Ask::Http(url) => http::liveness(&self.client, url, self.probe.timeout)
                .await
                .map_err(|note| Failure { silent: true, note }),
            Ask::Tcp { address, port } => tcp::connect((*address, *port).into(), self.probe.timeout).await,
            Ask::Exec(program) => exec::run(&self.orders, program, self.probe.timeout).await,
        }
    }
}

/// What the check's output says of a good look.
fn good(ask: &Ask) -> String {
    match ask {
        Ask::Http(url) => format!("GET {url}: answered"),
        Ask::Tcp { address, port } => {
            format!("TCP {}: connected", std::net::SocketAddr::new(*address, *port))
        }
        Ask::Exec(program) => format!("{}: exit status 0", exec::name(program)),
    }
}

/// The metrics' word for it.
fn kind(ask: &Ask) -> &'static str {
    match ask {
        Ask::Http(_) => "http",
        Ask::Tcp { .. } => "tcp",
        Ask::Exec(_) => "exec",
    }
}
