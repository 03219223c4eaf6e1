//! What orchestrators, Consul and Prometheus ask: alive, ready, healthy, which model, which figures.

use std::sync::Arc;
use std::time::Instant;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;

use super::error::ApiError;
use super::openapi::{InfoErrors, LivenessErrors, ReadinessErrors};
use super::state::{App, Phase};
use crate::backend::Precision;
use crate::gpu::MemoryStats;
use crate::model::Form;
use crate::task::{Function, Pooling, Strategy, Task, TaskKind};

/// From here on the queue is said to be nearly full: still served, but somebody should know.
const NEARLY_FULL_PERCENT: usize = 90;

/// The state that `/health` reports, with its HTTP status: Consul reads 2xx as passing, 429 as warning, else critical.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
enum Status {
    Ok,
    Degraded,
    Loading,
    Draining,
    Failed,
    Poisoned,
}

/// What this instance really is able to do.
#[derive(Serialize, ToSchema)]
struct Health {
    status: Status,
    /// Why it is not `ok`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    reasons: Vec<String>,
    gpu_count: usize,
    memory_stats: Vec<MemoryStats>,
    /// The model's name; null while it is loading.
    model: Option<String>,
    /// Of the settings that were changed while running, if they have one.
    #[serde(skip_serializing_if = "Option::is_none")]
    settings_version: Option<String>,
    /// Where the model runs.
    device: Option<String>,
    /// Inputs that wait for the model.
    queue_depth: usize,
    /// As many may wait.
    queue_capacity: usize,
    /// Requests being answered.
    in_flight: usize,
    failed_batches: u64,
    last_error: Option<LastError>,
    uptime_seconds: u64,
}

/// What went wrong in the model last.
#[derive(Serialize, ToSchema)]
struct LastError {
    message: String,
    seconds_ago: u64,
}

impl Status {
    fn code(self) -> StatusCode {
        match self {
            Self::Ok => StatusCode::OK,
            Self::Degraded => StatusCode::TOO_MANY_REQUESTS,
            Self::Loading | Self::Draining | Self::Failed | Self::Poisoned => StatusCode::SERVICE_UNAVAILABLE,
        }
    }
}

/// What this instance really is able to do.
#[utoipa::path(
    get,
    path = "/health",
    tag = "probes",
    responses(
        (status = 200, description = "`ok`.", body = Health),
        (status = 429, description = "`degraded`: served, but near a limit. Consul reads it as a warning.", body = Health),
        (status = 503, description = "`loading`, `draining`, `failed` or `poisoned`: not served.", body = Health),
    )
)]
pub(super) async fn health(State(app): State<Arc<App>>) -> Response {
    let health = Health::of(&app, Instant::now());
    (health.status.code(), Json(health)).into_response()
}

impl Health {
    fn of(app: &App, now: Instant) -> Self {
        let serving = app.serving();
        let serving = serving.as_deref();
        let condition = serving.map(|serving| serving.engine.condition());
        let queue = serving.map(|serving| serving.engine.queue());
        let (queue_depth, queue_capacity) = queue.map_or((0, 0), |queue| (queue.depth(), queue.capacity()));
        let memory_stats = app.gpus.stats(now);
        let failures: Vec<String> =
            condition.map(|it| it.inability().into_iter().chain(it.stuck(now)).collect()).unwrap_or_default();
        let poison = app.poison.cause();
        let failures: Vec<String> = poison.iter().cloned().chain(failures).collect();
        let unable = condition.map_or((0, 0), |condition| condition.unable());
        let strains = strains(queue_depth, queue_capacity, unable, &memory_stats);
        let status = match app.phase() {
            _ if poison.is_some() => Status::Poisoned,
            Phase::Loading => Status::Loading,
            Phase::Draining => Status::Draining,
            Phase::Ready if !failures.is_empty() => Status::Failed,
            Phase::Ready if !strains.is_empty() => Status::Degraded,
            Phase::Ready => Status::Ok,
        };
        let last_error = condition.and_then(|condition| condition.last_error()).map(|error| LastError {
            message: error.message,
            seconds_ago: now.saturating_duration_since(error.at).as_secs(),
        });
        Self {
            status,
            reasons: failures.into_iter().chain(strains).collect(),
            gpu_count: memory_stats.len(),
            memory_stats,
            model: serving.map(|serving| serving.model.description.name().to_owned()),
            settings_version: serving.and_then(|serving| serving.settings.version.clone()),
            device: serving.map(|serving| serving.model.devices.to_string()),
            queue_depth,
            queue_capacity,
            in_flight: app.in_flight(),
            failed_batches: condition.map_or(0, |condition| condition.failed_batches()),
            last_error,
            uptime_seconds: now.saturating_duration_since(app.started).as_secs(),
        }
    }
}

/// What makes an instance degraded: able, but near its limits.
fn strains(
    depth: usize,
    capacity: usize,
    (unable, threads): (usize, usize),
    gpus: &[MemoryStats],
) -> Vec<String> {
    let mut strains = Vec::new();
    // Without a model there is no queue yet.
    if capacity > 0 && depth * 100 >= capacity * NEARLY_FULL_PERCENT {
        strains.push(format!("{depth} of {capacity} places in the queue are taken"));
    }
    if unable > 0 {
        strains.push(format!("the model fails on {unable} of {threads} model threads"));
    }
    for gpu in gpus.iter().filter(|gpu| !gpu.healthy) {
        strains.push(format!(
            "GPU {} has {} % of its memory in use or cannot be read",
            gpu.gpu, gpu.memory_used_percent
        ));
    }
    strains
}

/// Alive: the server answers, no model thread hangs, and no GPU is lost. Failing this means: restart me.
pub(super) fn alive(app: &App, now: Instant) -> Result<(), ApiError> {
    let stuck = || app.serving().and_then(|serving| serving.engine.condition().stuck(now));
    app.poison.cause().or_else(stuck).map_or(Ok(()), |problem| Err(ApiError::Unhealthy(problem)))
}

/// Ready: predictions are accepted. Failing this means: send me nothing.
pub(super) fn ready(app: &App) -> Result<(), ApiError> {
    let serving = app.serving();
    let condition = serving.as_ref().map(|serving| serving.engine.condition());
    match app.phase() {
        Phase::Loading => Err(ApiError::Loading),
        Phase::Draining => Err(ApiError::Draining),
        Phase::Ready => match app.poison.cause().or_else(|| condition.and_then(|it| it.inability())) {
            None => Ok(()),
            Some(problem) => Err(ApiError::Unhealthy(problem)),
        },
    }
}

/// Whether the server is alive: it answers, no model thread hangs, no GPU is lost. If not, restart it.
#[utoipa::path(
    get,
    path = "/livez",
    tag = "probes",
    responses((status = 200, description = "Alive.", body = String, content_type = "text/plain"), LivenessErrors)
)]
pub(super) async fn livez(State(app): State<Arc<App>>) -> Response {
    alive(&app, Instant::now()).map(|()| "ok\n").into_response()
}

/// Whether predictions are accepted. If not, send none.
#[utoipa::path(
    get,
    path = "/readyz",
    tag = "probes",
    responses((status = 200, description = "Ready.", body = String, content_type = "text/plain"), ReadinessErrors)
)]
pub(super) async fn readyz(State(app): State<Arc<App>>) -> Response {
    ready(&app).map(|()| "ok\n").into_response()
}

/// Which model this is, and how it is run.
#[derive(Serialize, ToSchema)]
struct Info<'a> {
    model: &'a str,
    model_version: Option<&'a str>,
    license: Option<&'a str>,
    attribution: Option<&'a str>,
    task: &'a str,
    /// In the order of the model's outputs.
    #[serde(default, skip_serializing_if = "<[String]>::is_empty")]
    labels: &'a [String],
    #[serde(skip_serializing_if = "Option::is_none")]
    dimension: Option<usize>,
    inputs: Vec<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_seq_length: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    image_size: Option<ImageSize>,
    #[serde(flatten)]
    defaults: Defaults,
    device: String,
    precision: Precision,
    instances: usize,
    threads: usize,
    max_batch_size: usize,
    max_batch_tokens: usize,
    max_batch_delay_ms: f64,
    max_queue: usize,
    body_limit: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    settings_version: Option<&'a str>,
    runtime: &'static str,
    runtime_version: &'static str,
    torch_version: &'static str,
}

/// What images are made to, in pixels.
#[derive(Serialize, ToSchema)]
struct ImageSize {
    height: usize,
    width: usize,
}

/// What requests that do not say otherwise get.
#[derive(Default, Serialize, ToSchema)]
struct Defaults {
    #[serde(skip_serializing_if = "Option::is_none")]
    aggregation_strategy: Option<Strategy>,
    #[serde(skip_serializing_if = "Option::is_none")]
    function_to_apply: Option<Function>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pooling: Option<Pooling>,
    #[serde(skip_serializing_if = "Option::is_none")]
    normalize: Option<bool>,
}

impl From<Task> for Defaults {
    fn from(task: Task) -> Self {
        let none = Self::default();
        match task {
            Task::TokenClassification { aggregation } => {
                Self { aggregation_strategy: Some(aggregation), ..none }
            }
            Task::TextClassification { function } | Task::ImageClassification { function } => {
                Self { function_to_apply: Some(function), ..none }
            }
            Task::FeatureExtraction { pooling, normalize } => {
                Self { pooling: Some(pooling), normalize: Some(normalize), ..none }
            }
            Task::Tensors => none,
        }
    }
}

/// Which model this is, and how it is run.
#[utoipa::path(
    get,
    path = "/info",
    tag = "documentation",
    responses((status = 200, description = "The model.", body = Info), InfoErrors),
    security((), ("api_key" = []))
)]
pub(super) async fn info(State(app): State<Arc<App>>) -> Response {
    let Some(serving) = app.serving() else { return ApiError::Loading.into_response() };
    let model = &serving.model;
    let description = &model.description;
    let tunables = &serving.settings.tunables;
    let limits = tunables.batching.limits(model.pace);
    Json(Info {
        model: description.name(),
        model_version: description.card.version.as_deref(),
        license: description.card.license.as_deref(),
        attribution: description.card.attribution.as_deref(),
        task: description.task.kind().as_str(),
        labels: &description.labels,
        dimension: model.columns.filter(|_| description.task.kind() == TaskKind::FeatureExtraction),
        inputs: description.form.inputs(),
        max_seq_length: description.form.text().map(|text| text.max_seq_length),
        image_size: match &description.form {
            Form::Image(image) => Some(ImageSize { height: image.height(), width: image.width() }),
            Form::Text(_) | Form::Tensors(_) => None,
        },
        defaults: description.task.into(),
        device: model.devices.to_string(),
        precision: model.precision,
        instances: serving.engine.instances(),
        threads: tunables.running.threads,
        max_batch_size: limits.max_size,
        max_batch_tokens: limits.max_padded_tokens,
        max_batch_delay_ms: limits.max_delay.as_secs_f64() * 1e3,
        max_queue: tunables.max_queue,
        body_limit: tunables.body_limit,
        settings_version: serving.settings.version.as_deref(),
        runtime: env!("CARGO_PKG_NAME"),
        runtime_version: env!("CARGO_PKG_VERSION"),
        torch_version: env!("PILOTLIGHT_TORCH_VERSION"),
    })
    .into_response()
}

/// The figures, for Prometheus.
#[utoipa::path(
    get,
    path = "/metrics",
    tag = "probes",
    responses((status = 200, description = "Prometheus' text format.", body = String, content_type = "text/plain; version=0.0.4; charset=utf-8"))
)]
pub(super) async fn metrics(State(app): State<Arc<App>>) -> Response {
    let serving = app.serving();
    let queue = serving.as_ref().map(|serving| serving.engine.queue());
    let (depth, capacity) = queue.map_or((0, 0), |queue| (queue.depth(), queue.capacity()));
    app.metrics.set_queue(depth, capacity, app.phase() == Phase::Ready);
    for gpu in app.gpus.stats(Instant::now()) {
        app.metrics.set_gpu_memory(&gpu.gpu.to_string(), gpu.used, gpu.total);
    }
    match app.metrics.render() {
        Ok(text) => ([(CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text).into_response(),
        Err(error) => ApiError::Internal(format!("cannot write the metrics: {error}")).into_response(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_nearly_full_queue_and_a_device_that_fails_are_strains() {
        assert!(strains(89, 100, (0, 2), &[]).is_empty());
        assert_eq!(strains(90, 100, (0, 2), &[]).len(), 1);
        assert!(strains(0, 0, (0, 0), &[]).is_empty(), "no model, no queue");
        assert_eq!(strains(0, 100, (1, 2), &[]), ["the model fails on 1 of 2 model threads"]);
        assert_eq!(Status::Degraded.code(), 429);
    }
}
