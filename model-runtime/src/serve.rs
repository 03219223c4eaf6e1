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

use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::oneshot;

use crate::backend::Backend;
use crate::config::cli::ServeArgs;
use crate::config::{RuntimeToml, Settings};
use crate::engine::{Engine, EngineParts};
use crate::exit::{self, Exit, Failure};
use crate::gpu::Gpus;
use crate::http::{ApiKeys, App, ConnectionLimits, Connections, Serving, router};
use crate::loading::load;
use crate::logging;
use crate::metrics::Metrics;
use crate::model::Description;
use crate::text::TextPool;

/// Handlers only move bytes; two threads keep probes answered while one of them copies a large body.
const ASYNC_THREADS: usize = 2;
/// How long to wait for the model threads once nothing waits for an answer.
const THREADS_TIMEOUT: Duration = Duration::from_secs(1);

/// Runs the server to its end.
pub fn serve(args: &ServeArgs) -> Result<Exit, Failure> {
    let file = RuntimeToml::read(&args.model.model).map_err(|error| Failure::new(Exit::Usage, error))?;
    let usage = |message: String| Failure { exit: Exit::Usage, message };
    let mut settings = Settings::merge(args, &file).map_err(usage)?;
    let keys = args.api_key_file.as_deref().map(ApiKeys::read).transpose().map_err(usage)?;
    logging::start(settings.log_format, &args.log_level).map_err(usage)?;
    let description = Description::read(&args.model.model, &file, &settings.running)
        .map_err(|error| Failure::new(Exit::Model, error))?;
    settings.suit(args, &file, &description.form);
    let cores = available_parallelism().map_or(1, usize::from);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(ASYNC_THREADS)
        .thread_name("http")
        .enable_all()
        .build()
        .map_err(|error| Failure::new(Exit::Internal, error))?;
    let result = runtime.block_on(run(settings, keys, description, cores));
    // Whatever still runs there has been given up on.
    runtime.shutdown_background();
    result
}

async fn run(
    settings: Settings,
    keys: Option<ApiKeys>,
    description: Description,
    cores: usize,
) -> Result<Exit, Failure> {
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
    let app = Arc::new(App::new(settings, keys, Arc::clone(&metrics), Gpus::watch(), TextPool::new(cores)));
    let limits =
        ConnectionLimits { max_open: app.settings.max_connections, head_timeout: app.settings.read_timeout };
    let connections = Connections::accept(listener, router(Arc::clone(&app)), limits);
    let connections = connections.map_err(|error| internal(error.into()))?;
    tracing::info!(address = %connections.address(), model = description.name(), "listening; loading the model");

    let loading = start_loading(&app, description, cores)?;
    tokio::select! {
        loaded = loading => {
            let ended = |_| Failure { exit: Exit::Internal, message: "the loading thread panicked".to_owned() };
            adopt(&app, loaded.map_err(ended)??);
        }
        name = stop.next() => {
            tracing::info!(signal = name, "stopping before the model was loaded");
            // The loading thread may be deep inside libtorch.
            exit::immediately(Exit::Done);
        }
    }
    let name = stop.next().await;
    app.drain();
    tracing::info!(signal = name, in_flight = app.in_flight(), "draining");
    Ok(drain(&app, connections, stop).await)
}

fn adopt(app: &App, serving: Serving) {
    app.adopt(serving);
    let Some(Serving { model, engine }) = app.serving().map(AsRef::as_ref) else { return };
    let limits = app.settings.batching.limits(model.device.is_gpu());
    tracing::info!(
        model = model.description.name(),
        device = %model.device,
        instances = engine.instances(),
        threads = app.settings.running.threads,
        max_batch_size = limits.max_size,
        max_batch_tokens = limits.max_padded_tokens,
        seconds = app.started.elapsed().as_secs_f64(),
        "ready"
    );
}

/// Loads the model and starts its threads, on a thread of its own.
fn start_loading(
    app: &Arc<App>,
    description: Description,
    cores: usize,
) -> Result<oneshot::Receiver<Result<Serving, Failure>>, Failure> {
    let (loaded, receiver) = oneshot::channel();
    let app = Arc::clone(app);
    let thread = std::thread::Builder::new().name("loading".to_owned());
    let work = move || {
        // Nobody listens only when the process is about to end.
        let _ = loaded.send(load_and_start(&app, description, cores));
    };
    thread.spawn(work).map_err(|error| Failure::new(Exit::Internal, error))?;
    Ok(receiver)
}

fn load_and_start(app: &App, description: Description, cores: usize) -> Result<Serving, Failure> {
    let settings = &app.settings;
    let loaded = load(description, &settings.running).map_err(|error| Failure::new(Exit::Model, error))?;
    let (model, backend) = loaded;
    let on_gpu = model.device.is_gpu();
    let trial = model.description.form.trial();
    let parts = EngineParts {
        limits: settings.batching.limits(on_gpu),
        capacity: settings.max_queue,
        instances: settings.batching.instances(on_gpu, cores),
        trial,
        metrics: Arc::clone(&app.metrics),
    };
    let backend: Arc<dyn Backend> = Arc::new(backend);
    let engine = Engine::start(backend, parts).map_err(|message| Failure { exit: Exit::Model, message })?;
    Ok(Serving { model, engine })
}

/// Answers what was accepted; a second signal or the timeout ends the waiting.
async fn drain(app: &Arc<App>, connections: Connections, mut stop: StopSignals) -> Exit {
    if let Some(serving) = app.serving() {
        serving.engine.queue().hurry();
    }
    let all_answered = tokio::select! {
        () = connections.finish() => true,
        () = tokio::time::sleep(app.settings.shutdown_timeout) => {
            tracing::warn!(timeout = ?app.settings.shutdown_timeout, "the shutdown timeout has passed");
            false
        }
        name = stop.next() => {
            tracing::warn!(signal = name, "a second signal: not waiting any longer");
            false
        }
    };
    let cut_off = app.in_flight();
    if !all_answered && cut_off > 0 {
        tracing::error!(requests = cut_off, "requests in flight are cut off");
        exit::immediately(Exit::Internal);
    }
    end_model_threads(app).await;
    tracing::info!("stopped");
    Exit::Done
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
