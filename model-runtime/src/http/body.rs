//! Reading the body of a request: its type, its size, its time.

use axum::body::{Body, Bytes};
use axum::http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use axum::http::{HeaderMap, Request};

use super::error::ApiError;
use super::state::App;
use crate::serving::Serving;

/// The body, if it is JSON, small enough, and arrives in time.
pub(super) async fn read_json(
    app: &App,
    serving: &Serving,
    request: Request<Body>,
) -> Result<Bytes, ApiError> {
    let kind = media_type(request.headers());
    match kind {
        Some(kind) if is_json(&kind) => read(app, serving, request).await,
        Some(kind) => Err(ApiError::MediaType(format!("`{kind}`"))),
        None => Err(ApiError::MediaType("missing".to_owned())),
    }
}

/// The body, if it is small enough and arrives in time.
pub(super) async fn read(app: &App, serving: &Serving, request: Request<Body>) -> Result<Bytes, ApiError> {
    let (head, body) = request.into_parts();
    let limit = serving.settings.tunables.body_limit;
    let announced =
        head.headers.get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse::<usize>().ok());
    if announced.is_some_and(|length| length > limit) {
        return Err(ApiError::TooLarge(limit));
    }
    let timeout = app.settings.read_timeout;
    let read = tokio::time::timeout(timeout, axum::body::to_bytes(body, limit)).await;
    read.map_err(|_| ApiError::TooSlow(timeout))?.map_err(|error| {
        let too_large =
            std::error::Error::source(&error).is_some_and(|cause| cause.to_string().contains("length limit"));
        if too_large {
            ApiError::TooLarge(limit)
        } else {
            ApiError::WrongShape(format!("the body broke off: {error}"))
        }
    })
}

/// The type of the body without its parameters, in lower case.
pub(super) fn media_type(headers: &HeaderMap) -> Option<String> {
    let text = String::from_utf8_lossy(headers.get(CONTENT_TYPE)?.as_bytes());
    Some(text.split(';').next().unwrap_or_default().trim().to_ascii_lowercase())
}

/// JSON, or a type that is written in it (RFC 6839, section 3.1).
fn is_json(kind: &str) -> bool {
    kind == "application/json" || (kind.starts_with("application/") && kind.ends_with("+json"))
}
