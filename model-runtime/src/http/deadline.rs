//! How long a request may take: the operator's limit, or less if the client says so.

use std::time::Duration;

use axum::http::{HeaderMap, HeaderName};

use super::error::ApiError;

/// Milliseconds from the last byte of the request to its answer. Who waits no longer than this wants no work done in vain.
const TIMEOUT: HeaderName = HeaderName::from_static("x-request-timeout-ms");

/// The client's limit, at most the operator's.
///
/// # Errors
/// The header is not a number of milliseconds from 1 on.
pub(super) fn of(headers: &HeaderMap, most: Duration) -> Result<Duration, ApiError> {
    let Some(header) = headers.get(TIMEOUT) else { return Ok(most) };
    let text = String::from_utf8_lossy(header.as_bytes());
    match text.trim().parse::<u64>() {
        Ok(milliseconds) if milliseconds > 0 => Ok(Duration::from_millis(milliseconds).min(most)),
        _ => Err(ApiError::WrongShape(format!(
            "the header {TIMEOUT} is `{text}`; it must be a number of milliseconds from 1 on"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::HeaderValue;

    #[test]
    fn a_client_may_ask_for_less_time_but_not_for_more() {
        let most = Duration::from_secs(30);
        let limit =
            |value: &str| of(&HeaderMap::from_iter([(TIMEOUT, HeaderValue::from_str(value).unwrap())]), most);
        assert_eq!(limit("250"), Ok(Duration::from_millis(250)));
        assert_eq!(limit("60000"), Ok(most));
        assert_eq!(of(&HeaderMap::new(), most), Ok(most));
        for wrong in ["0", "-1", "1.5", "", "soon", "99999999999999999999"] {
            assert!(limit(wrong).unwrap_err().to_string().contains("milliseconds"), "{wrong}");
        }
    }
}
