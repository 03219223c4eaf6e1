//! PID 1 of an inference container: it runs the Consul agent and the worker, keeps the catalog true, and takes the
//! instance out of rotation before it stops.
//!
//! # Theory of operation
//!
//! [`event_loop`] is the only place where things happen. Signals, exits, probes, Consul's replies and deadlines become
//! [`lifecycle::Event`]s; [`lifecycle::Instance::step`], a pure function, answers with commands; [`executor`] hands each to the
//! mechanism that does it ([`os`], [`consul`], [`probe`]); [`journal`] logs the step; the resulting [`status::Status`] is
//! published for the [`control`] socket. One task owns the state, and it never waits for IO.

pub mod config;
pub mod consul;
pub mod control;
pub mod event_loop;
pub mod executor;
pub mod journal;
pub mod logging;
pub mod os;
pub mod preflight;
pub mod probe;
pub mod status;
pub mod status_text;

use lifecycle::Instance;
use tokio::sync::{mpsc, watch};

use config::Config;
use control::server::ControlSocket;
use event_loop::EventLoop;
use executor::Executor;
use os::signals::Signals;
use status::{Clock, Status};

/// Runs the instance to its end and returns the status to exit with. Signals must be blocked already
/// ([`os::signals::block_all`]).
///
/// # Errors
/// What kept it from starting; nothing was started then.
pub fn run(config: &Config) -> Result<u8, String> {
    // One thread: the supervisor does little, and rarely two things at once.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| format!("the runtime cannot be built: {error}"))?;
    let status = runtime.block_on(supervise(config))?;
    // Tasks that wait for an answer have nothing to wait for.
    runtime.shutdown_background();
    Ok(status)
}

async fn supervise(config: &Config) -> Result<u8, String> {
    let signals = Signals::open().map_err(|error| format!("signals cannot be read: {error}"))?;
    let socket = match ControlSocket::bind(&config.control_socket) {
        Ok(socket) => Some(socket),
        Err(reason) if config.control_socket_chosen => return Err(reason),
        Err(reason) => {
            tracing::warn!(reason, "running without `supervisor status`, `health` and `stop`");
            None
        }
    };
    let (events, inbox) = mpsc::channel(event_loop::INBOX);
    let executor = Executor::new(config, events.clone())?;
    let instance = Instance::new(config.policy.clone());
    let clock = Clock::start();
    let (status, published) = watch::channel(Status::of(&instance, config, &clock));
    if let Some(socket) = socket {
        tokio::spawn(socket.serve(published, events));
    }
    Ok(EventLoop { signals, inbox, executor, status, clock }.run(instance, config).await)
}
