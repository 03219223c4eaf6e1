//! Triton's extension "model repository", as far as one model goes: it can be listed, but neither loaded nor unloaded by clients.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use serde_json::json;

use super::super::error::ApiError;
use super::super::probes;
use super::super::state::App;
use super::metadata::loaded;
use super::served_model::ServedModel;

/// `POST /v2/repository/index`: the model and its state.
pub(in crate::http) async fn index(State(app): State<Arc<App>>) -> Response {
    let serving = match loaded(&app) {
        Ok(serving) => serving,
        Err(error) => return error.into_response(),
    };
    let ServedModel { name, version } = ServedModel::of(&serving.model);
    let (state, reason) = match probes::ready(&app) {
        Ok(()) => ("READY", String::new()),
        Err(problem) => ("UNAVAILABLE", problem.to_string()),
    };
    Json(json!([{"name": name, "version": version, "state": state, "reason": reason}])).into_response()
}

/// `POST /v2/repository/models/{name}/load` and `/unload`.
pub(in crate::http) async fn load_or_unload() -> Response {
    ApiError::NotImplemented(
        "clients cannot load or unload models; the operator says which one is served (--model)",
    )
    .into_response()
}
