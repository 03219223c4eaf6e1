//! Every error that a client can get: status, type, and a message that says what to do.

use std::time::Duration;

use axum::Json;
use axum::http::header::{CONNECTION, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;

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
    #[error("no such path; see /docs for those that there are")]
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

/// The body of every error.
#[derive(Serialize, ToSchema)]
#[schema(as = Error)]
pub(super) struct ErrorBody {
    /// What is wrong, and what to do.
    error: String,
    error_type: ErrorType,
}

/// The kind of an error, for programs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum ErrorType {
    InvalidJson,
    InvalidRequest,
    Validation,
    Unauthorized,
    NotFound,
    NotImplemented,
    MethodNotAllowed,
    RequestTimeout,
    PayloadTooLarge,
    UnsupportedMediaType,
    Overloaded,
    Inference,
    OutOfMemory,
    Poisoned,
    Internal,
    DeadlineExceeded,
    Loading,
    Draining,
    Unhealthy,
}

impl ErrorType {
    pub(super) fn status(self) -> StatusCode {
        match self {
            Self::InvalidJson | Self::InvalidRequest => StatusCode::BAD_REQUEST,
            Self::Unauthorized => StatusCode::UNAUTHORIZED,
            Self::NotFound => StatusCode::NOT_FOUND,
            Self::NotImplemented => StatusCode::NOT_IMPLEMENTED,
            Self::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
            Self::RequestTimeout => StatusCode::REQUEST_TIMEOUT,
            Self::PayloadTooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::UnsupportedMediaType => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::Validation => StatusCode::UNPROCESSABLE_ENTITY,
            Self::Overloaded => StatusCode::TOO_MANY_REQUESTS,
            Self::Inference | Self::Internal => StatusCode::INTERNAL_SERVER_ERROR,
            Self::OutOfMemory
            | Self::Poisoned
            | Self::DeadlineExceeded
            | Self::Loading
            | Self::Draining
            | Self::Unhealthy => StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    /// Whether the answer says, in `Retry-After`, when to come again.
    pub(super) fn passes(self) -> bool {
        match self {
            Self::Overloaded
            | Self::OutOfMemory
            | Self::Poisoned
            | Self::DeadlineExceeded
            | Self::Loading
            | Self::Draining => true,
            Self::InvalidJson
            | Self::InvalidRequest
            | Self::Validation
            | Self::Unauthorized
            | Self::NotFound
            | Self::NotImplemented
            | Self::MethodNotAllowed
            | Self::RequestTimeout
            | Self::PayloadTooLarge
            | Self::UnsupportedMediaType
            | Self::Inference
            | Self::Internal
            | Self::Unhealthy => false,
        }
    }
}

impl ApiError {
    fn error_type(&self) -> ErrorType {
        match self {
            Self::InvalidJson(_) => ErrorType::InvalidJson,
            Self::WrongShape(_) => ErrorType::InvalidRequest,
            Self::Unusable(_) => ErrorType::Validation,
            Self::Unauthorized => ErrorType::Unauthorized,
            Self::NotFound | Self::NoSuchModel { .. } => ErrorType::NotFound,
            Self::NotImplemented(_) => ErrorType::NotImplemented,
            Self::MethodNotAllowed => ErrorType::MethodNotAllowed,
            Self::TooSlow(_) => ErrorType::RequestTimeout,
            Self::TooLarge(_) => ErrorType::PayloadTooLarge,
            Self::MediaType(_) | Self::NoImageType(_) | Self::ContentEncoding(_) => {
                ErrorType::UnsupportedMediaType
            }
            Self::Overloaded { .. } => ErrorType::Overloaded,
            Self::Inference(_) => ErrorType::Inference,
            Self::OutOfMemory(_) => ErrorType::OutOfMemory,
            Self::Poisoned(_) => ErrorType::Poisoned,
            Self::Internal(_) => ErrorType::Internal,
            Self::DeadlineExceeded(_) => ErrorType::DeadlineExceeded,
            Self::Loading => ErrorType::Loading,
            Self::Draining => ErrorType::Draining,
            Self::Unhealthy(_) => ErrorType::Unhealthy,
        }
    }

    /// When it makes sense to come again, in seconds.
    fn retry_after(&self) -> Option<u64> {
        match self {
            Self::Overloaded { retry_after, .. } => Some(*retry_after),
            other => other.error_type().passes().then_some(1),
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
        let error_type = self.error_type();
        let error = shortened(self.to_string());
        let body = ErrorBody { error: error.clone(), error_type };
        let mut response = (error_type.status(), Json(body)).into_response();
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
