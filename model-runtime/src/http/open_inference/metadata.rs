//! What the server and its model are, and whether they are alive and ready.

use std::sync::Arc;
use std::time::Instant;

use axum::Json;
use axum::extract::{Path, State};
use axum::response::{IntoResponse as _, Response};
use serde::Serialize;
use utoipa::ToSchema;

use super::super::error::ApiError;
use super::super::openapi::{KeyErrors, LivenessErrors, ModelErrors, ModelReadinessErrors, ReadinessErrors};
use super::super::probes;
use super::super::state::App;
use super::served_model::{ModelPath, ServedModel};
use super::signature::{Signature, TensorMetadata};
use crate::serving::Serving;

/// What this server can do beyond the protocol, by the names that Triton gives it.
const EXTENSIONS: [&str; 4] = ["binary_tensor_data", "classification", "parameters", "model_repository"];
/// What Triton calls TorchScript.
const PLATFORM: &str = "pytorch_libtorch";

#[derive(Serialize, ToSchema)]
#[schema(as = ServerMetadata)]
struct Server {
    name: &'static str,
    version: &'static str,
    extensions: [&'static str; 4],
}

#[derive(Serialize, ToSchema)]
#[schema(as = ModelMetadata)]
struct Model<'a> {
    name: &'a str,
    versions: [&'a str; 1],
    platform: &'static str,
    inputs: Vec<TensorMetadata>,
    outputs: Vec<TensorMetadata>,
}

#[derive(Serialize, ToSchema)]
struct ServerLive {
    live: bool,
}

#[derive(Serialize, ToSchema)]
struct ServerReady {
    live: bool,
    ready: bool,
}

#[derive(Serialize, ToSchema)]
struct ModelReady<'a> {
    name: &'a str,
    ready: bool,
}

/// What this server is, and which extensions of the protocol it has.
#[utoipa::path(
    get,
    path = "/v2",
    tag = "open inference protocol",
    responses((status = 200, description = "The server.", body = Server), KeyErrors),
    security((), ("api_key" = []))
)]
pub(in crate::http) async fn server() -> Response {
    let (name, version) = (env!("CARGO_PKG_NAME"), env!("CARGO_PKG_VERSION"));
    Json(Server { name, version, extensions: EXTENSIONS }).into_response()
}

/// Whether the server is alive.
#[utoipa::path(
    get,
    path = "/v2/health/live",
    tag = "open inference protocol",
    responses((status = 200, description = "Alive.", body = ServerLive), LivenessErrors)
)]
pub(in crate::http) async fn server_live(State(app): State<Arc<App>>) -> Response {
    answer(probes::alive(&app, Instant::now()).map(|()| Json(ServerLive { live: true })))
}

/// Whether the server is ready.
#[utoipa::path(
    get,
    path = "/v2/health/ready",
    tag = "open inference protocol",
    responses((status = 200, description = "Ready.", body = ServerReady), ReadinessErrors)
)]
pub(in crate::http) async fn server_ready(State(app): State<Arc<App>>) -> Response {
    answer(probes::ready(&app).map(|()| Json(ServerReady { live: true, ready: true })))
}

/// The model's tensors.
#[utoipa::path(
    get,
    path = "/v2/models/{name}",
    tag = "open inference protocol",
    params(("name" = String, Path, description = "The model's name, as `/info` has it.")),
    responses((status = 200, description = "The model.", body = Model), ModelErrors),
    security((), ("api_key" = []))
)]
pub(in crate::http) async fn model(State(app): State<Arc<App>>, Path(path): Path<ModelPath>) -> Response {
    answer(loaded(&app).and_then(|serving| {
        let ServedModel { name, version } = ServedModel::of(&serving.model).asked_for(&path)?;
        let Signature { inputs, outputs } = Signature::of(&serving.model);
        let model = Model { name, versions: [version], platform: PLATFORM, inputs, outputs };
        Ok(Json(model).into_response())
    }))
}

/// Whether the model is ready.
#[utoipa::path(
    get,
    path = "/v2/models/{name}/ready",
    tag = "open inference protocol",
    params(("name" = String, Path, description = "The model's name, as `/info` has it.")),
    responses((status = 200, description = "Ready.", body = ModelReady), ModelReadinessErrors)
)]
pub(in crate::http) async fn model_ready(
    State(app): State<Arc<App>>,
    Path(path): Path<ModelPath>,
) -> Response {
    answer(loaded(&app).and_then(|serving| {
        let ServedModel { name, .. } = ServedModel::of(&serving.model).asked_for(&path)?;
        probes::ready(&app)?;
        Ok(Json(ModelReady { name, ready: true }).into_response())
    }))
}

/// The model, once it has been loaded.
pub(super) fn loaded(app: &App) -> Result<Arc<Serving>, ApiError> {
    app.serving().ok_or(ApiError::Loading)
}

fn answer(result: Result<impl axum::response::IntoResponse, ApiError>) -> Response {
    result
        .map_or_else(axum::response::IntoResponse::into_response, axum::response::IntoResponse::into_response)
}
