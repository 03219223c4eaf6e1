//! Triton's extension "model repository", as far as one model goes: it can be listed, but neither loaded nor unloaded by clients.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use serde::Serialize;
use utoipa::ToSchema;

use super::super::error::ApiError;
use super::super::openapi::{IndexErrors, LoadErrors};
use super::super::probes;
use super::super::state::App;
use super::metadata::loaded;
use super::served_model::ServedModel;

/// A model that is there.
#[derive(Serialize, ToSchema)]
struct IndexEntry<'a> {
    name: &'a str,
    version: &'a str,
    /// `READY` or `UNAVAILABLE`.
    state: &'static str,
    /// Why it is not ready.
    reason: String,
}

/// The model and its state.
#[utoipa::path(
    post,
    path = "/v2/repository/index",
    tag = "open inference protocol",
    responses((status = 200, description = "The only model.", body = Vec<IndexEntry>), IndexErrors),
    security((), ("api_key" = []))
)]
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
    Json([IndexEntry { name, version, state, reason }]).into_response()
}

/// Loads no model: that is the operator's.
#[utoipa::path(
    post,
    path = "/v2/repository/models/{name}/load",
    tag = "open inference protocol",
    params(("name" = String, Path, description = "Any.")),
    responses(LoadErrors),
    security((), ("api_key" = []))
)]
pub(in crate::http) async fn load() -> Response {
    not_the_clients()
}

/// Unloads no model: that is the operator's.
#[utoipa::path(
    post,
    path = "/v2/repository/models/{name}/unload",
    tag = "open inference protocol",
    params(("name" = String, Path, description = "Any.")),
    responses(LoadErrors),
    security((), ("api_key" = []))
)]
pub(in crate::http) async fn unload() -> Response {
    not_the_clients()
}

fn not_the_clients() -> Response {
    ApiError::NotImplemented(
        "clients cannot load or unload models; the operator says which one is served (--model)",
    )
    .into_response()
}
