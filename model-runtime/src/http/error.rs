//! Every error that a client can get: status, type, and a message that says what to do.

use std::time::Duration;

use axum::Json;
use axum::http::header::{CONNECTION, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use crate::backend::ForwardError;

/// A request that is not answered with a prediction.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ApiError {
    #[error("the body is not valid JSON: {0}")]
    InvalidJson(String),
    #[error("{0}")]
    WrongShape(String),
    #[error("{0}")]
    Unusable(String),
    #[error("a key is needed: send it as `Authorization: Bearer KEY`")]
    Unauthorized,
    #[error("no such path; the server has /predict, /v2, /health, /livez, /readyz, /info and /metrics")]
    NotFound,
    #[error("there is no model `{asked}` here; this server has {served}")]
    NoSuchModel { asked: String, served: String },
    #[error("{0}")]
    NotImplemented(&'static str),
    #[error("this path does not take that method; see the Allow header")]
    MethodNotAllowed,
    #[error("the request did not arrive within {0:?}; send it faster, or raise --read-timeout")]
    TooSlow(Duration),
    #[error("the body is larger than {0} bytes; send fewer inputs at once, or raise --body-limit")]
    TooLarge(usize),
    #[error("the content type must be application/json (or application/octet-stream for /v2), not {0}")]
    MediaType(String),
    #[error("the content type must be application/json, image/jpeg, image/png or image/webp, not {0}")]
    NoImageType(String),
    #[error("the content encoding `{0}` is not known; compress with gzip or deflate, or not at all")]
    ContentEncoding(String),
    #[error("{depth} of {capacity} places in the queue are taken; try again in {retry_after} s")]
    Overloaded { depth: usize, capacity: usize, retry_after: u64 },
    #[error("the model failed on this input: {0}")]
    Inference(String),
    #[error("the model has no memory for this input: {0}; send a shorter one, or try again")]
    OutOfMemory(String),
    #[error("this instance has lost its GPU and is about to end ({0}); ask another instance")]
    Poisoned(String),
    #[error("{0}")]
    Internal(String),
    #[error("not answered within {0:?}; the work was dropped")]
    DeadlineExceeded(Duration),
    #[error("the model is still loading; wait for /readyz")]
    Loading,
    #[error("the server is shutting down; ask another instance")]
    Draining,
    #[error("{0}")]
    Unhealthy(String),
}

/// What went wrong, for the log; travels with the response inside the server.
#[derive(Debug, Clone)]
pub(super) struct Described(pub(super) String);

#[derive(Serialize)]
struct Body<'a> {
    error: String,
    error_type: &'a str,
}

impl ApiError {
    fn kind(&self) -> (StatusCode, &'static str) {
        match self {
            Self::InvalidJson(_) => (StatusCode::BAD_REQUEST, "invalid_json"),
            Self::WrongShape(_) => (StatusCode::BAD_REQUEST, "invalid_request"),
            Self::Unusable(_) => (StatusCode::UNPROCESSABLE_ENTITY, "validation"),
            Self::Unauthorized => (StatusCode::UNAUTHORIZED, "unauthorized"),
            Self::NotFound | Self::NoSuchModel { .. } => (StatusCode::NOT_FOUND, "not_found"),
            Self::NotImplemented(_) => (StatusCode::NOT_IMPLEMENTED, "not_implemented"),
            Self::MethodNotAllowed => (StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed"),
            Self::TooSlow(_) => (StatusCode::REQUEST_TIMEOUT, "request_timeout"),
            Self::TooLarge(_) => (StatusCode::PAYLOAD_TOO_LARGE, "payload_too_large"),
            Self::MediaType(_) | Self::NoImageType(_) | Self::ContentEncoding(_) => {
                (StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type")
            }
            Self::Overloaded { .. } => (StatusCode::TOO_MANY_REQUESTS, "overloaded"),
            Self::Inference(_) => (StatusCode::INTERNAL_SERVER_ERROR, "inference"),
            Self::OutOfMemory(_) => (StatusCode::SERVICE_UNAVAILABLE, "out_of_memory"),
            Self::Poisoned(_) => (StatusCode::SERVICE_UNAVAILABLE, "poisoned"),
            Self::Internal(_) => (StatusCode::INTERNAL_SERVER_ERROR, "internal"),
            Self::DeadlineExceeded(_) => (StatusCode::SERVICE_UNAVAILABLE, "deadline_exceeded"),
            Self::Loading => (StatusCode::SERVICE_UNAVAILABLE, "loading"),
            Self::Draining => (StatusCode::SERVICE_UNAVAILABLE, "draining"),
            Self::Unhealthy(_) => (StatusCode::SERVICE_UNAVAILABLE, "unhealthy"),
        }
    }

    /// When it makes sense to come again, in seconds.
    fn retry_after(&self) -> Option<u64> {
        match self {
            Self::Overloaded { retry_after, .. } => Some(*retry_after),
            Self::DeadlineExceeded(_)
            | Self::Loading
            | Self::Draining
            | Self::OutOfMemory(_)
            | Self::Poisoned(_) => Some(1),
            _ => None,
        }
    }

    /// Whether the rest of the request may still be under way, so that the connection cannot be used again.
    fn leaves_body_unread(&self) -> bool {
        matches!(
            self,
            Self::TooSlow(_)
                | Self::TooLarge(_)
                | Self::MediaType(_)
                | Self::NoImageType(_)
                | Self::ContentEncoding(_)
                | Self::Unauthorized
                | Self::NoSuchModel { .. }
        )
    }
}

/// Messages quote what was sent, which may be a megabyte; nobody reads more than this, in characters.
const LONGEST_MESSAGE: usize = 1_000;

fn shortened(message: String) -> String {
    match message.char_indices().nth(LONGEST_MESSAGE) {
        Some((end, _)) => format!("{} …", message.get(..end).unwrap_or_default()),
        None => message,
    }
}

impl From<ForwardError> for ApiError {
    fn from(error: ForwardError) -> Self {
        match error {
            ForwardError::Failed(problem) => Self::Inference(problem),
            ForwardError::OutOfMemory(problem) => Self::OutOfMemory(problem),
            ForwardError::Poisoned(cause) => Self::Poisoned(cause),
        }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let (status, error_type) = self.kind();
        let error = shortened(self.to_string());
        let mut response = (status, Json(Body { error: error.clone(), error_type })).into_response();
        response.extensions_mut().insert(Described(error));
        if matches!(self, Self::Unauthorized) {
            // RFC 9110, section 11.6.1, wants it with every 401.
            response.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        if let Some(seconds) = self.retry_after() {
            response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        if self.leaves_body_unread() {
            response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }
}
