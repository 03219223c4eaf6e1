//! What the server and its model are, and whether they are alive and ready.

use std::sync::Arc;
use std::time::Instant;

use axum::Json;
use axum::extract::{Path, State};
use axum::response::{IntoResponse as _, Response};
use serde::Serialize;
use serde_json::json;

use super::super::error::ApiError;
use super::super::probes;
use super::super::state::App;
use super::served_model::{ModelPath, ServedModel};
use super::signature::{Signature, TensorMetadata};
use crate::serving::Serving;

/// What this server can do beyond the protocol, by the names that Triton gives it.
const EXTENSIONS: [&str; 4] = ["binary_tensor_data", "classification", "parameters", "model_repository"];
/// What Triton calls TorchScript.
const PLATFORM: &str = "pytorch_libtorch";

#[derive(Serialize)]
struct Server {
    name: &'static str,
    version: &'static str,
    extensions: [&'static str; 4],
}

#[derive(Serialize)]
struct Model<'a> {
    name: &'a str,
    versions: [&'a str; 1],
    platform: &'static str,
    inputs: Vec<TensorMetadata>,
    outputs: Vec<TensorMetadata>,
}

/// `GET /v2`.
pub(in crate::http) async fn server() -> Response {
    let (name, version) = (env!("CARGO_PKG_NAME"), env!("CARGO_PKG_VERSION"));
    Json(Server { name, version, extensions: EXTENSIONS }).into_response()
}

/// `GET /v2/health/live`.
pub(in crate::http) async fn server_live(State(app): State<Arc<App>>) -> Response {
    answer(probes::alive(&app, Instant::now()).map(|()| Json(json!({"live": true}))))
}

/// `GET /v2/health/ready`.
pub(in crate::http) async fn server_ready(State(app): State<Arc<App>>) -> Response {
    answer(probes::ready(&app).map(|()| Json(json!({"live": true, "ready": true}))))
}

/// `GET /v2/models/{name}[/versions/{version}]`.
pub(in crate::http) async fn model(State(app): State<Arc<App>>, Path(path): Path<ModelPath>) -> Response {
    answer(loaded(&app).and_then(|serving| {
        let ServedModel { name, version } = ServedModel::of(&serving.model).asked_for(&path)?;
        let Signature { inputs, outputs } = Signature::of(&serving.model);
        let model = Model { name, versions: [version], platform: PLATFORM, inputs, outputs };
        Ok(Json(model).into_response())
    }))
}

/// `GET /v2/models/{name}[/versions/{version}]/ready`.
pub(in crate::http) async fn model_ready(
    State(app): State<Arc<App>>,
    Path(path): Path<ModelPath>,
) -> Response {
    answer(loaded(&app).and_then(|serving| {
        let ServedModel { name, .. } = ServedModel::of(&serving.model).asked_for(&path)?;
        probes::ready(&app)?;
        Ok(Json(json!({"name": name, "ready": true})).into_response())
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
