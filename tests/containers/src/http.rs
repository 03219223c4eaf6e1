//! Just enough HTTP to ask a server and to call a worker.
//!
//! Requests are HTTP/1.0, so replies come whole and unchunked and the end of the connection is the end of the body.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result};

/// A reply: status, header lines as they came, body.
#[derive(Debug)]
pub struct Reply {
    /// The status code.
    pub status: u16,
    /// The body.
    pub body: String,
    head: String,
}

impl Reply {
    /// The value of a header, found without regard to case.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.head
            .lines()
            .filter_map(|line| line.split_once(':'))
            .find_map(|(key, value)| key.trim().eq_ignore_ascii_case(name).then_some(value.trim()))
    }

    /// The body as JSON.
    pub fn json(&self) -> Result<serde_json::Value> {
        serde_json::from_str(&self.body).with_context(|| format!("not JSON: {:?}", self.body))
    }
}

/// GET; `timeout` bounds each wait for bytes.
pub fn get(address: &str, path: &str, timeout: Duration) -> Result<Reply> {
    exchange(address, &format!("GET {path} HTTP/1.0\r\nHost: {address}\r\n\r\n"), timeout)
}

/// POST of a JSON body; `timeout` bounds each wait for bytes.
pub fn post(address: &str, path: &str, body: &str, timeout: Duration) -> Result<Reply> {
    let head = format!(
        "POST {path} HTTP/1.0\r\nHost: {address}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    exchange(address, &(head + body), timeout)
}

fn exchange(address: &str, request: &str, timeout: Duration) -> Result<Reply> {
    let to: SocketAddr = address.parse().with_context(|| format!("{address:?} is no address and port"))?;
    let mut stream = TcpStream::connect_timeout(&to, timeout).with_context(|| format!("connect to {to}"))?;
    stream.set_read_timeout(Some(timeout))?;
    stream.write_all(request.as_bytes())?;
    let mut reply = Vec::new();
    stream.read_to_end(&mut reply).with_context(|| format!("read from {to}"))?;
    let reply = String::from_utf8_lossy(&reply);
    let (head, body) =
        reply.split_once("\r\n\r\n").with_context(|| format!("{to} sent no HTTP: {reply:?}"))?;
    let status = head.split_whitespace().nth(1).and_then(|code| code.parse().ok());
    let status = status.with_context(|| format!("{to} sent no status: {head:?}"))?;
    Ok(Reply { status, body: body.to_owned(), head: head.to_owned() })
}
