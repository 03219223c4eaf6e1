//! What the server says to requests that it does not answer with a prediction, and that it stays well.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::Server;

/// A response that must be a JSON error of this type.
mod error {
    use super::*;

    pub(super) async fn expect(response: reqwest::Response, status: u16, error_type: &str) -> String {
        assert_eq!(response.status().as_u16(), status);
        let body: Value = response.json().await.expect("errors are JSON");
        assert_eq!(body["error_type"], error_type, "{body}");
        body["error"].as_str().unwrap().to_owned()
    }

    pub(super) async fn post(
        server: &Server,
        content_type: &str,
        body: impl Into<reqwest::Body>,
    ) -> reqwest::Response {
        let request = reqwest::Client::new().post(format!("{}/predict", server.url));
        request.header("content-type", content_type).body(body).send().await.unwrap()
    }
}

#[tokio::test]
async fn the_callers_faults_are_named_with_their_own_status_and_the_next_request_is_served() {
    let server = Server::ready(&["--body-limit", "1KiB", "--max-queue", "8"]);
    let json = "application/json";
    for broken in ["", "{", "[1,", "{\"inputs\": \"\\ud800\"}"] {
        error::expect(error::post(&server, json, broken).await, 400, "invalid_json").await;
    }
    error::expect(error::post(&server, json, &b"{\"inputs\": \"\xff\"}"[..]).await, 400, "invalid_json")
        .await;
    for shape in ["[]", "{}", r#"{"inputs": 7}"#, r#"{"inputs": [[]]}"#, r#"{"inputs": "a", "imputs": "b"}"#]
    {
        error::expect(error::post(&server, json, shape).await, 400, "invalid_request").await;
    }
    let unusable = [
        json!({"inputs": []}),
        json!({"inputs": "a", "parameters": {"aggregation_strategy": "best"}}),
        json!({"inputs": "a", "parameters": {"stride": 3}}),
        json!({"inputs": vec!["a"; 9]}),
    ];
    for body in unusable {
        error::expect(server.predict(&body).await, 422, "validation").await;
    }
    error::expect(error::post(&server, "text/plain", "{}").await, 415, "unsupported_media_type").await;
    error::expect(server.predict(&json!({"inputs": "a".repeat(2000)})).await, 413, "payload_too_large").await;
    let nowhere = reqwest::get(format!("{}/predictions", server.url)).await.unwrap();
    error::expect(nowhere, 404, "not_found").await;
    let wrong_method = reqwest::get(format!("{}/predict", server.url)).await.unwrap();
    assert_eq!(wrong_method.headers()["allow"], "POST");
    error::expect(wrong_method, 405, "method_not_allowed").await;

    assert_eq!(server.predict(&json!({"inputs": "Zoë"})).await.status(), 200);
    let (status, health) = server.get("/health").await;
    assert_eq!((status, &health["status"], &health["last_error"]), (200, &json!("ok"), &Value::Null));
}

#[tokio::test]
async fn a_body_of_unknown_length_is_limited_too() {
    let server = Server::ready(&["--body-limit", "1KiB"]);
    let mut stream = TcpStream::connect(&server.address).unwrap();
    let chunk = format!("200\r\n{}\r\n", "a".repeat(512));
    let head = "POST /predict HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n";
    stream.write_all(format!("{head}{}", chunk.repeat(4)).as_bytes()).unwrap();
    let mut start = [0; 12];
    stream.read_exact(&mut start).unwrap();
    assert_eq!(&start, b"HTTP/1.1 413");
}

#[tokio::test]
async fn a_head_that_is_too_large_is_refused() {
    let server = Server::ready(&[]);
    let request = reqwest::Client::new().get(format!("{}/livez", server.url));
    let response = request.header("x-large", "a".repeat(100_000)).send().await.unwrap();
    assert_eq!(response.status(), 431);
}

#[tokio::test]
async fn a_full_queue_refuses_at_once_with_retry_after_and_health_is_a_warning() {
    // The first request waits for company and so fills the queue for as long as the test needs.
    let flags = [
        "--max-queue",
        "1",
        "--max-batch-size",
        "2",
        "--max-batch-delay",
        "100s",
        "--request-timeout",
        "101s",
    ];
    let mut server = Server::ready(&flags);
    let url = format!("{}/predict", server.url);
    let waiting = reqwest::Client::new().post(url).json(&json!({"inputs": "Zoë"})).send();
    let waiting = tokio::spawn(waiting);
    let (status, health) = server.wait_for_health(|_, health| health["queue_depth"] == 1).await;
    assert_eq!((status, &health["status"]), (429, &json!("degraded")));

    let refused = server.predict(&json!({"inputs": "too many"})).await;
    assert_eq!(refused.headers()["retry-after"], "1");
    let message = error::expect(refused, 429, "overloaded").await;
    assert!(message.contains("1 of 1"), "{message}");

    assert!(server.stop().success());
    assert_eq!(
        waiting.await.unwrap().unwrap().status(),
        200,
        "the one who waited is answered before the end"
    );
}

#[tokio::test]
async fn the_work_of_a_departed_client_is_dropped() {
    let server =
        Server::ready(&["--max-queue", "4", "--max-batch-delay", "100s", "--request-timeout", "101s"]);
    let body = r#"{"inputs": ["a", "b"]}"#;
    let mut stream = TcpStream::connect(&server.address).unwrap();
    let head = format!(
        "POST /predict HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: {}",
        body.len()
    );
    stream.write_all(format!("{head}\r\n\r\n{body}").as_bytes()).unwrap();
    server.wait_for_health(|_, health| health["queue_depth"] == 2).await;
    drop(stream);
    server.wait_for_health(|_, health| health["queue_depth"] == 0 && health["in_flight"] == 0).await;
}

#[tokio::test]
async fn a_request_that_is_not_answered_in_time_is_told_so_and_its_work_dropped() {
    let server = Server::ready(&["--request-timeout", "100ms", "--instances", "1", "--max-batch-size", "1"]);
    let long = "Ada wrote a letter. ".repeat(80);
    let late = server.predict(&json!({"inputs": vec![long; 50]})).await;
    assert_eq!(late.headers()["retry-after"], "1");
    error::expect(late, 503, "deadline_exceeded").await;
    server.wait_for_health(|_, health| health["queue_depth"] == 0).await;
}

#[tokio::test]
async fn slow_clients_are_let_go() {
    let server = Server::ready(&["--read-timeout", "200ms"]);
    let connect = |text: &str| {
        let mut stream = TcpStream::connect(&server.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        stream.write_all(text.as_bytes()).unwrap();
        stream
    };
    let mut slow_head = connect("POST /predict HTT");
    let mut slow_body = connect(
        "POST /predict HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 100\r\n\r\n{",
    );
    let mut answer = String::new();
    slow_body.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 408") && answer.contains("request_timeout"), "{answer}");
    let mut rest = Vec::new();
    slow_head.read_to_end(&mut rest).unwrap();
}
