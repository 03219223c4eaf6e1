//! Reading the body of a request: its type, its size, its time, its compression.

use std::io::Read;

use axum::body::{Body, Bytes};
use axum::http::header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE};
use axum::http::{HeaderMap, Request};
use flate2::read::{MultiGzDecoder, ZlibDecoder};
use serde::Deserialize;
use serde::de::IgnoredAny;

use super::error::ApiError;
use super::state::App;
use crate::serving::Serving;

/// A body as it came, small enough and in time.
#[derive(Debug)]
pub(super) struct Received {
    bytes: Bytes,
    coding: Coding,
    limit: usize,
}

/// How a body is compressed (RFC 9110, section 8.4.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Coding {
    Identity,
    Gzip,
    /// In the format of zlib, as the RFC says.
    Deflate,
}

/// The body, if it is JSON, small enough, and arrives in time.
pub(super) async fn read_json(
    app: &App,
    serving: &Serving,
    request: Request<Body>,
) -> Result<Received, ApiError> {
    let kind = media_type(request.headers());
    match kind {
        Some(kind) if is_json(&kind) => read(app, serving, request).await,
        Some(kind) => Err(ApiError::MediaType(format!("`{kind}`"))),
        None => Err(ApiError::MediaType("missing".to_owned())),
    }
}

/// The body, if it is small enough and arrives in time.
pub(super) async fn read(app: &App, serving: &Serving, request: Request<Body>) -> Result<Received, ApiError> {
    let (head, body) = request.into_parts();
    let coding = Coding::of(&head.headers)?;
    let limit = serving.settings.tunables.body_limit;
    let announced =
        head.headers.get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse::<usize>().ok());
    if announced.is_some_and(|length| length > limit) {
        return Err(ApiError::TooLarge(limit));
    }
    let timeout = app.settings.read_timeout;
    let read = tokio::time::timeout(timeout, axum::body::to_bytes(body, limit)).await;
    let bytes = read.map_err(|_| ApiError::TooSlow(timeout))?.map_err(|error| {
        let too_large =
            std::error::Error::source(&error).is_some_and(|cause| cause.to_string().contains("length limit"));
        if too_large {
            ApiError::TooLarge(limit)
        } else {
            ApiError::WrongShape(format!("the body broke off: {error}"))
        }
    })?;
    Ok(Received { bytes, coding, limit })
}

impl Received {
    /// The body without its compression. CPU work: not for async threads.
    ///
    /// # Errors
    /// It is damaged, or grows beyond the limit of bodies; so much is unpacked at most.
    pub(super) fn decode(self) -> Result<Bytes, ApiError> {
        let Self { bytes, coding, limit } = self;
        match coding {
            Coding::Identity => Ok(bytes),
            Coding::Gzip => unpack(MultiGzDecoder::new(bytes.as_ref()), limit),
            Coding::Deflate => unpack(ZlibDecoder::new(bytes.as_ref()), limit),
        }
    }
}

fn unpack(packed: impl Read, limit: usize) -> Result<Bytes, ApiError> {
    let mut bytes = Vec::new();
    let one_more = u64::try_from(limit).unwrap_or(u64::MAX).saturating_add(1);
    packed.take(one_more).read_to_end(&mut bytes).map_err(|error| {
        ApiError::WrongShape(format!("the body is not compressed as its content-encoding says: {error}"))
    })?;
    if bytes.len() > limit { Err(ApiError::TooLarge(limit)) } else { Ok(Bytes::from(bytes)) }
}

impl Coding {
    fn of(headers: &HeaderMap) -> Result<Self, ApiError> {
        let Some(named) = headers.get(CONTENT_ENCODING) else { return Ok(Self::Identity) };
        match named.as_bytes().trim_ascii().to_ascii_lowercase().as_slice() {
            b"identity" | b"" => Ok(Self::Identity),
            b"gzip" | b"x-gzip" => Ok(Self::Gzip),
            b"deflate" => Ok(Self::Deflate),
            other => Err(ApiError::ContentEncoding(String::from_utf8_lossy(other).into_owned())),
        }
    }
}

/// An object of this shape.
///
/// # Errors
/// What is wrong with the text, or with its shape; `example` shows a right one.
pub(super) fn parse_object<'de, T: Deserialize<'de>>(body: &'de [u8], example: &str) -> Result<T, ApiError> {
    // Read as a struct, an array would be taken for the object's values in order.
    if body.trim_ascii_start().first() != Some(&b'{') {
        let json: Result<IgnoredAny, _> = serde_json::from_slice(body);
        json.map_err(|error| ApiError::InvalidJson(error.to_string()))?;
        return Err(ApiError::WrongShape(format!("the body must be an object: {example}")));
    }
    serde_json::from_slice(body).map_err(|error| match error.classify() {
        serde_json::error::Category::Data => ApiError::WrongShape(error.to_string()),
        _ => ApiError::InvalidJson(error.to_string()),
    })
}

/// The type of the body without its parameters, in lower case.
pub(super) fn media_type(headers: &HeaderMap) -> Option<String> {
    let text = String::from_utf8_lossy(headers.get(CONTENT_TYPE)?.as_bytes());
    Some(text.split(';').next().unwrap_or_default().trim().to_ascii_lowercase())
}

/// JSON, or a type that is written in it (RFC 6839, section 3.1).
pub(super) fn is_json(kind: &str) -> bool {
    kind == "application/json" || (kind.starts_with("application/") && kind.ends_with("+json"))
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use flate2::Compression;
    use flate2::write::{GzEncoder, ZlibEncoder};

    use super::*;

    fn decode(bytes: Vec<u8>, coding: Coding, limit: usize) -> Result<Bytes, ApiError> {
        Received { bytes: Bytes::from(bytes), coding, limit }.decode()
    }

    fn gzip(text: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
        encoder.write_all(text).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn what_was_compressed_is_read_as_it_was() {
        let mut encoder = ZlibEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(b"{}").unwrap();
        assert_eq!(decode(encoder.finish().unwrap(), Coding::Deflate, 2).unwrap(), "{}");
        assert_eq!(decode(gzip(b"{}"), Coding::Gzip, 2).unwrap(), "{}");
        assert_eq!(decode(b"{}".to_vec(), Coding::Identity, 2).unwrap(), "{}");
    }

    #[test]
    fn a_bomb_is_stopped_at_the_limit_and_damage_is_said() {
        let bomb = gzip(&vec![b' '; 1 << 20]);
        assert!(bomb.len() < 2_000);
        assert_eq!(decode(bomb, Coding::Gzip, 10_000), Err(ApiError::TooLarge(10_000)));
        let mut broken = gzip(b"{}");
        broken.truncate(broken.len() - 1);
        for (bytes, coding) in [(broken, Coding::Gzip), (b"{}".to_vec(), Coding::Deflate)] {
            let error = decode(bytes, coding, 100).unwrap_err();
            assert!(error.to_string().contains("content-encoding"), "{error}");
        }
    }

    #[test]
    fn an_unknown_coding_is_named() {
        let coding = |name: &'static str| {
            Coding::of(&HeaderMap::from_iter([(
                CONTENT_ENCODING,
                axum::http::HeaderValue::from_static(name),
            )]))
        };
        assert_eq!(coding("GZIP"), Ok(Coding::Gzip));
        assert_eq!(coding("br"), Err(ApiError::ContentEncoding("br".to_owned())));
        assert!(coding("gzip, deflate").is_err());
        assert_eq!(Coding::of(&HeaderMap::new()), Ok(Coding::Identity));
    }
}
