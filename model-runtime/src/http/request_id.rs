//! A name for each request, so that a client's complaint and a line of the log can be put together.
//!
//! Whatever is logged while a request is worked on is logged within its span, on whichever thread, and so has its id.

use axum::body::Body;
use axum::http::{HeaderName, HeaderValue, Request};
use axum::middleware::Next;
use axum::response::Response;
use tracing::Instrument as _;
use uuid::Uuid;

use super::error::Described;

/// Where clients and proxies write theirs, and where we answer it.
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// Longer ones would only fill the log.
const LONGEST: usize = 128;

/// Gives the request the client's id, or a new one; answers it; and logs with it what went wrong inside.
pub(super) async fn carry(request: Request<Body>, next: Next) -> Response {
    let id = request.headers().get(REQUEST_ID).filter(|id| is_usable(id)).cloned();
    let id = id.unwrap_or_else(new_id);
    let path = request.uri().path().to_owned();
    // At the highest level, so that it is there for whatever is logged at all.
    let span = tracing::error_span!("request", request_id = %String::from_utf8_lossy(id.as_bytes()));
    let mut response = next.run(request).instrument(span.clone()).await;
    let status = response.status().as_u16();
    let error = response.extensions().get::<Described>().map_or("", |described| described.0.as_str());
    span.in_scope(|| match status {
        500 => tracing::error!(path, status, error, "a request failed"),
        _ => tracing::debug!(path, status, error, "answered"),
    });
    response.headers_mut().insert(REQUEST_ID, id);
    response
}

fn new_id() -> HeaderValue {
    let id = Uuid::new_v4().to_string();
    HeaderValue::from_str(&id).unwrap_or_else(|_| HeaderValue::from_static("-"))
}

fn is_usable(id: &HeaderValue) -> bool {
    (1..=LONGEST).contains(&id.len()) && id.as_bytes().iter().all(u8::is_ascii_graphic)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_short_and_visible() {
        let usable = |text: &str| is_usable(&HeaderValue::from_str(text).unwrap());
        assert!(usable("4bf92f35-77b3"));
        assert!(!usable("") && !usable("two words") && !usable(&"x".repeat(LONGEST + 1)));
        assert_ne!(new_id(), new_id());
    }
}
