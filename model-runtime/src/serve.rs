//! `serve`: listen at once, load beside it, answer until told to stop, finish what was accepted.
//!
//! ```text
//!   listen ──▶ load ──▶ ready ──────▶ SIGTERM ──▶ drain ──▶ exit 0
//!   /livez 200          /readyz 200              /readyz 503, requests in flight are answered
//!   /readyz 503
//! ```

use std::sync::Arc;
use std::thread::available_parallelism;
use std::time::Duration;

use line_socket::Socket;
use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::task::JoinHandle;

use crate::admin;
use crate::config::cli::ServeArgs;
use crate::config::{Overridden, Settings};
use crate::exit::{self, Exit, Failure};
use crate::gpu::Gpus;
use crate::hot_change::{HotChange, LoadError, Loader};
use crate::http::{ApiKeys, App, ConnectionLimits, Connections, router};
use crate::logging;
use crate::metrics::Metrics;
use crate::plan::{Plan, PlanError};
use crate::text::TextPool;
use crate::traces::Traces;

/// Handlers only move bytes; two threads keep probes answered while one of them copies a large body.
const ASYNC_THREADS: usize = 2;
/// How long, once a GPU is lost, the errors may take to reach the clients.
const FAREWELL: Duration = Duration::from_millis(500);
/// How long to wait for the model threads once nothing waits for an answer.
const THREADS_TIMEOUT: Duration = Duration::from_secs(1);
/// How long a collector that hangs may hold up the end.
const TRACES_TIMEOUT: Duration = Duration::from_secs(2);

/// Runs the server to its end.
pub fn serve(args: &ServeArgs) -> Result<Exit, Failure> {
    let usage = |message: String| Failure { exit: Exit::Usage, message };
    let (settings, plan) = read(args)?;
    let keys = args.api_key_file.as_deref().map(ApiKeys::read).transpose().map_err(usage)?;
    logging::start(settings.log_format, &args.log_level).map_err(usage)?;
    let socket = settings.admin_socket.as_deref().map(admin::bind).transpose();
    let socket = socket.map_err(|message| Failure { exit: Exit::Bind, message })?;
    let cores = available_parallelism().map_or(1, usize::from);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(ASYNC_THREADS)
        .thread_name("http")
        .enable_all()
        .build()
        .map_err(|error| Failure::new(Exit::Internal, error))?;
    let result = runtime.block_on(run(Start { args, settings, keys, plan, socket, cores }));
    // Whatever still runs there has been given up on.
    runtime.shutdown_background();
    result
}

/// The settings and the model's directory, with everything that is wrong with the settings.
fn read(args: &ServeArgs) -> Result<(Settings, Plan), Failure> {
    match (Settings::of(args), Plan::read(Overridden::nothing(args.clone()), None)) {
        (Ok(settings), Ok(plan)) => Ok((settings, plan)),
        (Err(mut problems), plan) => {
            if let Err(PlanError::Settings(more)) = plan {
                problems.extend(more);
            }
            Err(PlanError::Settings(problems).into())
        }
        (Ok(_), Err(error)) => Err(error.into()),
    }
}
/// What is known before anything runs.
struct Start<'a> {
    args: &'a ServeArgs,
    settings: Settings,
    keys: Option<ApiKeys>,
    plan: Plan,
    socket: Option<Socket>,
    cores: usize,
}

async fn run(start: Start<'_>) -> Result<Exit, Failure> {
    let Start { args, settings, keys, plan, socket, cores } = start;
    let mut stop = StopSignals::new().map_err(|error| Failure::new(Exit::Internal, error))?;
    let internal = |error: anyhow::Error| Failure::new(Exit::Internal, error);
    let listener = TcpListener::bind(settings.listen).await.map_err(|error| Failure {
        exit: Exit::Bind,
        message: format!(
            "cannot listen on {}: {error}; free the port or choose another with --listen",
            settings.listen
        ),
    })?;
    let metrics = Arc::new(Metrics::new().map_err(|error| internal(error.into()))?);
    let traces = Traces::from_environment(|name| std::env::var(name).ok()).unwrap_or_else(|problem| {
        tracing::warn!("{problem}");
        None
    });
    let app = Arc::new(App::new(settings, keys, metrics, Gpus::watch(), TextPool::new(cores), traces));
    let limits =
        ConnectionLimits { max_open: app.settings.max_connections, head_timeout: app.settings.read_timeout };
    let connections = Connections::accept(listener, router(Arc::clone(&app)), limits);
    let connections = connections.map_err(|error| internal(error.into()))?;
    tracing::info!(address = %connections.address(), model = plan.description.name(), "listening; loading the model");

    let loader = Loader::start(Arc::clone(&app), cores).map_err(|error| internal(error.into()))?;
    let loading = loader.order(plan, None);
    let loading = loading.ok_or_else(|| internal(anyhow::anyhow!("the loading thread takes no order")))?;
    let change = Arc::new(HotChange::new(Arc::clone(&app), args.clone(), loader));
    let admin = Admin::serve(socket, &app, &change);
    let loaded = tokio::select! {
        loaded = loading => loaded.map_err(|error| internal(error.into())),
        name = stop.next() => {
            tracing::info!(signal = name, "stopping before the model was loaded");
            admin.close().await;
            // The loading thread may be deep inside libtorch.
            exit::immediately(Exit::Done);
        }
    };
    if let Err(failure) = loaded.and_then(|loaded| loaded.map_err(LoadError::into_failure)) {
        admin.close().await;
        return Err(failure);
    }
    log_ready(&app);
    tokio::select! {
        name = stop.next() => {
            app.drain();
            tracing::info!(signal = name, in_flight = app.in_flight(), "draining");
        }
        cause = app.poison.reported() => end_poisoned(&cause, connections.finish()).await,
    }
    let all_answered = drain(&app, connections, stop).await;
    finish_traces(&app).await;
    admin.close().await;
    let cut_off = app.in_flight();
    if !all_answered && cut_off > 0 {
        tracing::error!(requests = cut_off, "requests in flight are cut off");
        exit::immediately(Exit::Internal);
    }
    end_model_threads(&app).await;
    if !change.is_idle() {
        tracing::info!("a model is still being loaded, or an old one is still on its way out");
        exit::immediately(Exit::Done);
    }
    tracing::info!("stopped");
    Ok(Exit::Done)
}

/// Nothing that this process could still do with its GPU would succeed; a new process can. All requests in flight get an error, and a moment
/// to hear it.
async fn end_poisoned(cause: &str, all_answered: impl Future<Output = ()>) -> ! {
    tracing::error!(cause, "the GPU is lost to this process: ending it");
    if tokio::time::timeout(FAREWELL, all_answered).await.is_err() {
        tracing::warn!(timeout = ?FAREWELL, "connections are cut off");
    }
    exit::immediately(Exit::Poisoned)
}

fn log_ready(app: &App) {
    let Some(serving) = app.serving() else { return };
    let (model, engine, tunables) = (&serving.model, &serving.engine, &serving.settings.tunables);
    let limits = tunables.batching.limits(model.pace);
    app.gpus.use_gpus(model.devices.gpus());
    tracing::info!(
        model = model.description.name(),
        device = %model.devices,
        precision = %model.precision,
        instances = engine.instances(),
        threads = tunables.running.threads,
        max_batch_size = limits.max_size,
        max_batch_tokens = limits.max_padded_tokens,
        seconds = app.started.elapsed().as_secs_f64(),
        "ready"
    );
}

/// The admin socket, where there is one.
struct Admin(Option<(Arc<Socket>, JoinHandle<()>)>);

impl Admin {
    fn serve(socket: Option<Socket>, app: &Arc<App>, change: &Arc<HotChange>) -> Self {
        Self(socket.map(|socket| {
            let socket = Arc::new(socket);
            let served = admin::serve(Arc::clone(&socket), Arc::clone(app), Arc::clone(change));
            (socket, tokio::spawn(served))
        }))
    }

    /// Nobody is heard any more, and the file is gone.
    async fn close(self) {
        if let Some((socket, task)) = self.0 {
            task.abort();
            let _aborted = task.await;
            drop(socket);
        }
    }
}

/// Answers what was accepted: whether all of it. A second signal or the timeout ends the waiting.
async fn drain(app: &Arc<App>, connections: Connections, mut stop: StopSignals) -> bool {
    if let Some(serving) = app.serving() {
        serving.engine.queue().hurry();
    }
    let finished = connections.finish();
    tokio::pin!(finished);
    tokio::select! {
        () = &mut finished => true,
        cause = app.poison.reported() => end_poisoned(&cause, finished).await,
        () = tokio::time::sleep(app.settings.shutdown_timeout) => {
            tracing::warn!(timeout = ?app.settings.shutdown_timeout, "the shutdown timeout has passed");
            false
        }
        name = stop.next() => {
            tracing::warn!(signal = name, "a second signal: not waiting any longer");
            false
        }
    }
}

/// Sends the last traces. It blocks, and there is nobody left whom that could hold up.
async fn finish_traces(app: &Arc<App>) {
    let app = Arc::clone(app);
    let finish = move || app.traces.as_ref().map(|traces| traces.finish(TRACES_TIMEOUT));
    if let Err(error) = tokio::task::spawn_blocking(finish).await {
        tracing::error!(%error, "sending the last traces failed");
    }
}

async fn end_model_threads(app: &App) {
    let Some(serving) = app.serving() else { return };
    serving.engine.finish();
    let ended = async {
        let mut look = tokio::time::interval(Duration::from_millis(1));
        while !serving.engine.is_finished() {
            look.tick().await;
        }
    };
    if tokio::time::timeout(THREADS_TIMEOUT, ended).await.is_err() {
        tracing::warn!("a model thread is still in a forward that nobody waits for");
        exit::immediately(Exit::Done);
    }
}

/// SIGTERM and SIGINT.
#[derive(Debug)]
struct StopSignals {
    terminate: Signal,
    interrupt: Signal,
}

impl StopSignals {
    fn new() -> std::io::Result<Self> {
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    /// The next one's name.
    async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}
