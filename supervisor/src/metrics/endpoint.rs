//! The HTTP server of `/metrics` and `/healthz`.
//!
//! It may be reached by anybody, so each connection is bounded: one request with a small head, answered and closed within seconds. Where
//! too many are open the oldest gives way: a scrape takes milliseconds, so the oldest is one that dawdles.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::net::{SocketAddr, TcpListener as StdListener};
use std::time::Duration;

use hyper::body::Incoming;
use hyper::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::time::timeout;

use super::Metrics;
use crate::status::Status;

/// For the head of a request, in which a scraper sends 200 bytes at once.
const HEAD_TIMEOUT: Duration = Duration::from_secs(5);
/// For everything: Prometheus' own default for a scrape (its documentation on configuration, `scrape_timeout`).
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(10);
/// The largest head, in bytes; larger ones get 431. The least that hyper takes.
const MAX_HEAD: usize = 8 * 1024;
/// The most headers; more get 431.
const MAX_HEADERS: usize = 32;
/// The most open connections: Prometheus, a second one, some probes, and room for those that dawdle.
const MAX_OPEN: usize = 64;
/// After an error of accept (out of file descriptors, most likely), so that it does not spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Prometheus' text format (its documentation on exposition formats).
const TEXT_FORMAT: HeaderValue = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
const PLAIN: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");

/// The bound address, not served yet.
#[derive(Debug)]
pub struct Endpoint {
    listener: TcpListener,
    address: SocketAddr,
}

impl Endpoint {
    /// Binds the address; port 0 takes a free one. Needs a running tokio runtime.
    ///
    /// # Errors
    /// The reason and the cure, for people.
    pub fn bind(address: SocketAddr) -> Result<Self, String> {
        let bound = || {
            let listener = StdListener::bind(address)?;
            listener.set_nonblocking(true)?;
            let address = listener.local_addr()?;
            Ok(Self { listener: TcpListener::from_std(listener)?, address })
        };
        bound().map_err(|error: std::io::Error| {
            format!("metrics.addr: {address} cannot be listened on: {error}; choose another with --metrics-addr HOST:PORT, or off")
        })
    }

    /// Where it listens, with the real port.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves for ever.
    pub async fn serve(self, metrics: Metrics, status: watch::Receiver<Status>) {
        let mut open = VecDeque::new();
        loop {
            match self.listener.accept().await {
                Ok((stream, _)) => {
                    open.retain(|connection: &tokio::task::AbortHandle| !connection.is_finished());
                    if open.len() >= MAX_OPEN
                        && let Some(oldest) = open.pop_front()
                    {
                        oldest.abort();
                    }
                    let connection = serve_one(stream, metrics.clone(), status.clone());
                    // Whatever goes wrong with one client is over with it.
                    open.push_back(tokio::spawn(timeout(CONNECTION_TIMEOUT, connection)).abort_handle());
                }
                Err(error) => {
                    tracing::warn!(%error, "metrics: accept failed");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }
}

async fn serve_one(stream: TcpStream, metrics: Metrics, status: watch::Receiver<Status>) {
    let answer = service_fn(move |request: Request<Incoming>| {
        let answer = answer(&request, &metrics, &status);
        async move { Ok::<_, Infallible>(answer) }
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_header_size(MAX_HEAD)
        .max_headers(MAX_HEADERS)
        // A connection that idles between two scrapes would take the place of another.
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), answer)
        .await;
    if let Err(error) = served {
        tracing::debug!(%error, "metrics: a connection ended early");
    }
}

fn answer(
    request: &Request<Incoming>,
    metrics: &Metrics,
    status: &watch::Receiver<Status>,
) -> Response<String> {
    let path = request.uri().path();
    if !matches!(path, "/metrics" | "/healthz") {
        return response(StatusCode::NOT_FOUND, PLAIN, "there are /metrics and /healthz\n".to_owned());
    }
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        let mut refusal = response(StatusCode::METHOD_NOT_ALLOWED, PLAIN, "GET or HEAD\n".to_owned());
        refusal.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        return refusal;
    }
    let status = status.borrow().clone();
    if path == "/healthz" {
        let code = if status.healthy { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
        return response(code, PLAIN, format!("{}: {}\n", status.phase, status.reason));
    }
    match metrics.render(&status) {
        Ok(text) => response(StatusCode::OK, TEXT_FORMAT, text),
        Err(error) => response(
            StatusCode::INTERNAL_SERVER_ERROR,
            PLAIN,
            format!("the metrics cannot be rendered: {error}\n"),
        ),
    }
}

fn response(code: StatusCode, content: HeaderValue, body: String) -> Response<String> {
    let mut response = Response::new(body);
    *response.status_mut() = code;
    response.headers_mut().insert(CONTENT_TYPE, content);
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
