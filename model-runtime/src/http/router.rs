//! The routes.

use std::sync::Arc;

use axum::extract::State;
use axum::http::HeaderValue;
use axum::http::header::CONNECTION;
use axum::middleware::{from_fn, from_fn_with_state, map_response_with_state};
use axum::response::Response;
use axum::routing::{get, post};
use axum::{Extension, Router};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::error::ApiError;
use super::open_inference::{infer, metadata, repository};
use super::openapi::Document;
use super::state::{App, Phase};
use super::{api_key, docs, openapi, predict, probes, request_id, trace};

/// A model's paths may name its version, too.
const VERSION: &str = "/v2/models/{name}/versions/{version}";

/// All routes over this state. Each comes with its part of the document of the interface.
pub fn router(app: Arc<App>) -> Router {
    let predictions = OpenApiRouter::new()
        .routes(routes!(predict::predict))
        .routes(routes!(infer::infer))
        .route(&format!("{VERSION}/infer"), post(infer::infer))
        .route_layer(from_fn_with_state(Arc::clone(&app), trace::follow));
    let guarded = predictions
        .routes(routes!(probes::info))
        .routes(routes!(metadata::server))
        .routes(routes!(metadata::model))
        .routes(routes!(repository::index))
        .routes(routes!(repository::load))
        .routes(routes!(repository::unload))
        .route(VERSION, get(metadata::model))
        .route_layer(from_fn_with_state(Arc::clone(&app), api_key::require));
    let (router, api) = guarded
        .routes(routes!(probes::health))
        .routes(routes!(probes::livez))
        .routes(routes!(probes::readyz))
        .routes(routes!(probes::metrics))
        .routes(routes!(metadata::server_live))
        .routes(routes!(metadata::server_ready))
        .routes(routes!(metadata::model_ready))
        .routes(routes!(openapi::openapi))
        .routes(routes!(docs::page))
        .split_for_parts();
    router
        .route(&format!("{VERSION}/ready"), get(metadata::model_ready))
        .route("/docs/{file}", get(docs::file))
        .fallback(async || ApiError::NotFound)
        // axum adds the Allow header.
        .method_not_allowed_fallback(async || ApiError::MethodNotAllowed)
        .layer(Extension(Document::new(api)))
        .layer(map_response_with_state(Arc::clone(&app), close_while_draining))
        .layer(from_fn(request_id::carry))
        .with_state(app)
}

/// Tells clients to open no further request on a connection that is about to close.
async fn close_while_draining(State(app): State<Arc<App>>, mut response: Response) -> Response {
    if app.phase() == Phase::Draining {
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    response
}
