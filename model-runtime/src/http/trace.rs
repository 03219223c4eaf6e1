//! The span of a prediction, from its head to its answer; see [`traces`](crate::traces).

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{MatchedPath, State};
use axum::http::Request;
use axum::middleware::Next;
use axum::response::Response;
use opentelemetry::context::FutureExt as _;

use super::error::Described;
use super::state::App;
use crate::traces::answered;

/// Answers a request within a span, where traces are wanted.
pub(super) async fn follow(State(app): State<Arc<App>>, request: Request<Body>, next: Next) -> Response {
    let Some(traces) = &app.traces else { return next.run(request).await };
    let path = request.uri().path();
    let route = request.extensions().get::<MatchedPath>().map_or(path, MatchedPath::as_str);
    let span = traces.begin(request.method().as_str(), route, path, request.headers());
    let response = next.run(request).with_context(span.clone()).await;
    let error = response.extensions().get::<Described>().map(|described| described.0.as_str());
    answered(&span, response.status().as_u16(), error);
    response
}
