//! PID 1 of an inference container: it runs the Consul agent and the worker, keeps the catalog true, and takes the
//! instance out of rotation before it stops.
//!
//! # Theory of operation
//!
//! [`event_loop`] is the only place where things happen. Signals, exits, probes, Consul's replies and deadlines become
//! [`lifecycle::Event`]s; [`lifecycle::Instance::step`], a pure function, answers with commands; [`executor`] hands each to the
//! mechanism that does it ([`os`], [`consul`], [`probe`], [`gpu`]); [`journal`] logs the step; the resulting [`status::Status`] is
//! published for the [`control`] socket and the [`metrics`]. One task owns the state, and it never waits for IO.
//! [`reload`] reads the configuration again, beside the loop; [`configuration`] keeps what is in effect.

pub mod config;
pub mod configuration;
pub mod consul;
pub mod control;
pub mod event_loop;
pub mod executor;
pub mod gpu;
pub mod journal;
pub mod logging;
pub mod metrics;
pub mod os;
pub mod output;
pub mod preflight;
pub mod probe;
pub mod reload;
pub mod status;
pub mod status_text;

use lifecycle::{Event, GpuReport, Instance};
use line_socket::Socket;
use tokio::sync::{mpsc, watch};

use config::{Invocation, Loaded};
use configuration::Configuration;
use control::server::Reach;
use event_loop::EventLoop;
use executor::Executor;
use metrics::{Endpoint, Metrics};
use os::signals::Signals;
use reload::Reader;
use status::{Clock, Status};

/// Runs the instance to its end and returns the status to exit with. Signals must be blocked already
/// ([`os::signals::block_all`]).
///
/// # Errors
/// What kept it from starting; nothing was started then.
pub fn run(invocation: Invocation, loaded: Loaded) -> Result<u8, String> {
    // One thread: the supervisor does little, and rarely two things at once.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| format!("the runtime cannot be built: {error}"))?;
    let status = runtime.block_on(supervise(invocation, loaded))?;
    // Tasks that wait for an answer have nothing to wait for.
    runtime.shutdown_background();
    Ok(status)
}

async fn supervise(invocation: Invocation, loaded: Loaded) -> Result<u8, String> {
    let mut configuration = Configuration::new(loaded, &invocation);
    let config = &configuration.config;
    let signals = Signals::open().map_err(|error| format!("signals cannot be read: {error}"))?;
    let socket = match Socket::bind(&config.control_socket, control::NAMES) {
        Ok(socket) => Some(socket),
        Err(reason) if config.control_socket_chosen => return Err(reason),
        Err(reason) => {
            tracing::warn!(reason, "running without `supervisor status`, `health` and `stop`");
            None
        }
    };
    if config.catalog.is_some() {
        // Somebody may have chosen one already: that will do.
        let _chosen_already = rustls::crypto::ring::default_provider().install_default();
    }
    if let Some(signal) = config.parent_death_signal {
        os::signals::on_parents_death(signal).map_err(|error| {
            format!("the kernel takes no signal for the parent's death (signals.parent-death): {error}")
        })?;
    }
    if config.holds_secrets()
        && let Err(error) = os::privacy::hide()
    {
        tracing::warn!(%error, "other processes of this user can read this one's memory, and the tokens in it");
    }
    if let Some(address) = config.catalog.as_ref().and_then(config::Catalog::is_open) {
        tracing::warn!(%address, "the agent's API is open to the network, as agent.http-addr says: whoever reaches it can change the catalog, unless ACLs forbid it");
    }
    for warning in configuration.started().warnings() {
        tracing::warn!("{warning}");
    }
    let (metrics, endpoint) = match configuration.config.metrics {
        Some(address) => {
            let metrics = Metrics::on().map_err(|error| format!("the metrics cannot be set up: {error}"))?;
            (metrics, Some(Endpoint::bind(address)?))
        }
        None => (Metrics::default(), None),
    };
    if let Some(endpoint) = &endpoint {
        configuration.serve_metrics_at(endpoint.address());
    }
    let config = &configuration.config;
    let (events, inbox) = mpsc::channel(event_loop::INBOX);
    let (orderer, orders) = mpsc::channel(probe::exec::ORDERS);
    let executor = Executor::new(config, events.clone(), orderer, &metrics)?;
    if let Some(config) = config.gpu.clone()
        && let Err(error) = gpu::watch(config, events.clone())
    {
        let why = format!("the thread that watches them cannot be started: {error}");
        // The inbox is new and empty.
        let _has_room = events.try_send(Event::GpusReported(GpuReport::Absent(why)));
    }
    let instance = Instance::new(config.policy.clone());
    let clock = Clock::start();
    let (status, published) = watch::channel(Status::of(&instance, config, &clock));
    if let Some(endpoint) = endpoint {
        tracing::info!(address = %endpoint.address(), "metrics are served");
        tokio::spawn(endpoint.serve(metrics.clone(), published.clone()));
    }
    let (reloads, requests) = mpsc::channel(reload::QUEUE);
    let (readings, read) = mpsc::channel(1);
    let reader = Reader { invocation, sources: configuration.started(), config: config.clone() };
    tokio::spawn(reader.run(requests, readings));
    if let Some(socket) = socket {
        let reach = Reach { status: published, events, reloads: reloads.clone() };
        tokio::spawn(control::server::serve(socket, reach));
    }
    let event_loop =
        EventLoop { signals, inbox, orders, executor, status, clock, metrics, configuration, reloads, read };
    Ok(event_loop.run(instance).await)
}
