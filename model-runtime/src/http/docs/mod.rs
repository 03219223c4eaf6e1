//! `/docs`: the interface as a page to read and try, which loads nothing from elsewhere.
//!
//! The page is Swagger UI, from the crate that carries its files. Links are relative, so that it works behind a proxy's prefix, too.

use std::sync::{Arc, LazyLock};

use axum::extract::Path;
use axum::http::HeaderValue;
use axum::http::header::{CACHE_CONTROL, CONTENT_ENCODING, CONTENT_SECURITY_POLICY, CONTENT_TYPE};
use axum::response::{IntoResponse as _, Response};
use utoipa_swagger_ui::Config;

use super::error::ApiError;

const PAGE: &str = include_str!("page.html");
const SCRIPT: &str = include_str!("page.js");

/// Holds browsers to it: nothing from elsewhere. Swagger UI writes styles into the page, and has its pictures inside its style sheet.
const POLICY: HeaderValue = HeaderValue::from_static(
    "default-src 'none'; connect-src 'self'; img-src 'self' data:; script-src 'self'; style-src 'self' 'unsafe-inline'",
);
/// The files change with the server only.
const AN_HOUR: HeaderValue = HeaderValue::from_static("max-age=3600");

/// The interface as a page to read and try.
#[utoipa::path(get, path = "/docs", tag = "documentation", responses((status = 200, description = "The page.", body = String, content_type = "text/html")))]
pub(super) async fn page() -> Response {
    (
        [
            (CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8")),
            (CONTENT_SECURITY_POLICY, POLICY),
        ],
        PAGE,
    )
        .into_response()
}

/// A file of the page.
pub(super) async fn file(Path(name): Path<String>) -> Response {
    if name == "page.js" {
        let kind = HeaderValue::from_static("text/javascript; charset=utf-8");
        return ([(CONTENT_TYPE, kind), (CACHE_CONTROL, AN_HOUR)], SCRIPT).into_response();
    }
    static CONFIG: LazyLock<Arc<Config<'static>>> = LazyLock::new(|| Arc::new(Config::from("openapi.json")));
    let found = match name.as_str() {
        "swagger-ui-bundle.js" | "swagger-ui.css" | "favicon-32x32.png" => {
            utoipa_swagger_ui::serve(&name, Arc::clone(&CONFIG))
        }
        _ => Ok(None),
    };
    match found {
        Ok(Some(file)) => {
            let mut response = file.bytes.into_owned().into_response();
            let headers = response.headers_mut();
            if let Ok(kind) = HeaderValue::from_str(&file.content_type) {
                headers.insert(CONTENT_TYPE, kind);
            }
            if file.gzpipped {
                headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
            }
            headers.insert(CACHE_CONTROL, AN_HOUR);
            response
        }
        Ok(None) => ApiError::NotFound.into_response(),
        Err(error) => ApiError::Internal(format!("cannot read a file of the page: {error}")).into_response(),
    }
}
