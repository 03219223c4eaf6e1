//! The routes.

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::HeaderValue;
use axum::http::header::CONNECTION;
use axum::middleware::{from_fn, from_fn_with_state, map_response_with_state};
use axum::response::Response;
use axum::routing::{get, post};

use super::error::ApiError;
use super::state::{App, Phase};
use super::{api_key, open_inference, predict, probes, request_id};

/// All routes over this state.
pub fn router(app: Arc<App>) -> Router {
    const MODEL: [&str; 2] = ["/v2/models/{name}", "/v2/models/{name}/versions/{version}"];
    let mut guarded = Router::new()
        .route("/predict", post(predict::predict))
        .route("/info", get(probes::info))
        .route("/v2", get(open_inference::server))
        .route("/v2/repository/index", post(open_inference::index))
        .route("/v2/repository/models/{name}/load", post(open_inference::load_or_unload))
        .route("/v2/repository/models/{name}/unload", post(open_inference::load_or_unload));
    let mut open = Router::new()
        .route("/health", get(probes::health))
        .route("/livez", get(probes::livez))
        .route("/readyz", get(probes::readyz))
        .route("/metrics", get(probes::metrics))
        .route("/v2/health/live", get(open_inference::server_live))
        .route("/v2/health/ready", get(open_inference::server_ready));
    for model in MODEL {
        guarded = guarded
            .route(model, get(open_inference::model))
            .route(&format!("{model}/infer"), post(open_inference::infer));
        open = open.route(&format!("{model}/ready"), get(open_inference::model_ready));
    }
    guarded
        .route_layer(from_fn_with_state(Arc::clone(&app), api_key::require))
        .merge(open)
        .fallback(async || ApiError::NotFound)
        // axum adds the Allow header.
        .method_not_allowed_fallback(async || ApiError::MethodNotAllowed)
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
