//! Who may ask: keys from a file, sent as `Authorization: Bearer KEY` (RFC 6750, section 2.1).
//!
//! Predictions and the model's description are guarded. Probes and metrics are not: the supervisor, Consul and Prometheus have no key, and
//! learn nothing that a client sent.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::http::Request;
use axum::http::header::AUTHORIZATION;
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use subtle::ConstantTimeEq as _;

use super::error::ApiError;
use super::state::App;

/// Shorter ones can be tried out.
const SHORTEST: usize = 16;

/// The keys, each of which opens the door.
#[derive(Clone)]
pub struct ApiKeys(Vec<String>);

impl ApiKeys {
    /// Reads a file with a key a line, so that an old and a new one can hold at the same time. Blank lines and those that start with `#` do
    /// not count.
    ///
    /// # Errors
    /// The file cannot be read, holds no key, or one that is too short or cannot be sent in a header. Never shows a key.
    pub fn read(path: &Path) -> Result<Self, String> {
        let place = path.display();
        let text = std::fs::read_to_string(path).map_err(|error| format!("api-key-file {place}: {error}"))?;
        let mut keys = Vec::new();
        for (number, line) in text.lines().map(str::trim).enumerate() {
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            if line.len() < SHORTEST || !line.bytes().all(|byte| byte.is_ascii_graphic()) {
                let line = number + 1;
                return Err(format!(
                    "api-key-file {place}: line {line} is no key; a key is at least {SHORTEST} visible ASCII characters"
                ));
            }
            keys.push(line.to_owned());
        }
        if keys.is_empty() {
            return Err(format!(
                "api-key-file {place} holds no key; write one a line, or leave out --api-key-file"
            ));
        }
        Ok(Self(keys))
    }

    /// Looks at every key, each in constant time, so that the time tells nothing.
    fn open(&self, offered: &[u8]) -> bool {
        self.0.iter().fold(false, |open, key| open | bool::from(key.as_bytes().ct_eq(offered)))
    }
}

impl fmt::Debug for ApiKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} keys", self.0.len())
    }
}

/// Lets a request through that has a key, or all of them where none is set.
pub(super) async fn require(State(app): State<Arc<App>>, request: Request<Body>, next: Next) -> Response {
    let Some(keys) = &app.keys else { return next.run(request).await };
    let offered = request.headers().get(AUTHORIZATION).and_then(|value| bearer(value.as_bytes()));
    if offered.is_some_and(|key| keys.open(key)) {
        next.run(request).await
    } else {
        ApiError::Unauthorized.into_response()
    }
}

/// The token; the scheme's name is taken in any case (RFC 9110, section 11.1).
fn bearer(value: &[u8]) -> Option<&[u8]> {
    let (scheme, token) = value.split_at_checked(b"bearer ".len())?;
    scheme.eq_ignore_ascii_case(b"bearer ").then(|| token.trim_ascii())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<ApiKeys, String> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        ApiKeys::read(file.path())
    }

    #[test]
    fn each_key_of_the_file_opens_and_no_part_of_one() {
        let keys = read("# new\nfirst-key-0123456789\n\n  second-key-012345678 \n").unwrap();
        assert!(keys.open(b"first-key-0123456789") && keys.open(b"second-key-012345678"));
        for wrong in [&b""[..], b"first-key-012345678", b"first-key-01234567890", b"# new"] {
            assert!(!keys.open(wrong));
        }
        assert_eq!(format!("{keys:?}"), "2 keys");
    }

    #[test]
    fn a_file_without_a_good_key_is_refused_without_showing_it() {
        assert!(read("# none\n").unwrap_err().contains("no key"));
        let error = read("good-key-0123456789\nshort\n").unwrap_err();
        assert!(error.contains("line 2") && !error.contains("short"), "{error}");
        assert!(read("a key with blanks in it\n").is_err());
        assert!(ApiKeys::read(Path::new("/no/such/file")).unwrap_err().contains("/no/such/file"));
    }

    #[test]
    fn the_scheme_is_bearer_in_any_case() {
        assert_eq!(bearer(b"Bearer abc"), Some(&b"abc"[..]));
        assert_eq!(bearer(b"bearer  abc "), Some(&b"abc"[..]));
        assert_eq!(bearer(b"Basic abc"), None);
        assert_eq!(bearer(b"abc"), None);
    }
}
