//! A client of the supervisor's metrics that reads what is there, byte by byte.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};

use serde_json::Value;

use super::{PATIENCE, Supervisor};

/// Where a supervisor says that its metrics are.
pub fn address(supervisor: &Supervisor) -> SocketAddr {
    let status =
        supervisor.wait_for_status("the metrics", |status| status.pointer("/supervisor/metrics").is_some());
    let url = status.pointer("/supervisor/metrics").and_then(Value::as_str).expect("a URL");
    let address = url.strip_prefix("http://").and_then(|url| url.strip_suffix("/metrics"));
    address.and_then(|address| address.parse().ok()).expect(url)
}

/// Sends these bytes and gives back what comes until the other side closes.
pub fn ask(address: SocketAddr, request: &str) -> String {
    let mut stream = TcpStream::connect(address).expect("connected");
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    let _closed_early = stream.write_all(request.as_bytes());
    let mut answer = Vec::new();
    let _closed_hard = stream.read_to_end(&mut answer);
    String::from_utf8(answer).expect("UTF-8")
}

pub fn get(address: SocketAddr, path: &str) -> (String, String) {
    let answer = ask(address, &format!("GET {path} HTTP/1.1\r\nHost: test\r\n\r\n"));
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
    (head.to_owned(), body.to_owned())
}

/// The metrics, with a look at their form.
pub fn metrics(address: SocketAddr) -> String {
    let (head, body) = get(address, "/metrics");
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
    assert!(head.contains("content-type: text/plain; version=0.0.4; charset=utf-8"), "{head}");
    body
}

/// The value of a series, as it is written: `name` or `name{label="value"}`.
pub fn value(text: &str, series: &str) -> Option<f64> {
    text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' ')?.parse().ok())
}
