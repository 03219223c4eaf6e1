//! The routes.

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::HeaderValue;
use axum::http::header::CONNECTION;
use axum::middleware::map_response_with_state;
use axum::response::Response;
use axum::routing::{get, post};

use super::error::ApiError;
use super::state::{App, Phase};
use super::{predict, probes};

/// All routes over this state.
pub fn router(app: Arc<App>) -> Router {
    Router::new()
        .route("/predict", post(predict::predict))
        .route("/health", get(probes::health))
        .route("/livez", get(probes::livez))
        .route("/readyz", get(probes::readyz))
        .route("/info", get(probes::info))
        .route("/metrics", get(probes::metrics))
        .fallback(async || ApiError::NotFound)
        // axum adds the Allow header.
        .method_not_allowed_fallback(async || ApiError::MethodNotAllowed)
        .layer(map_response_with_state(Arc::clone(&app), close_while_draining))
        .with_state(app)
}

/// Tells clients to open no further request on a connection that is about to close.
async fn close_while_draining(State(app): State<Arc<App>>, mut response: Response) -> Response {
    if app.phase() == Phase::Draining {
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    response
}
