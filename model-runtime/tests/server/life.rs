//! The server's life: loading, ready, draining, its end; and what keeps it from starting.

use std::net::TcpListener;
use std::process::Output;

use serde_json::json;

use crate::support::{Server, model_copy, model_dir, program, replace};

mod start {
    use super::*;

    /// Runs the program to its end.
    pub(super) fn run(flags: &[&str]) -> Output {
        program().args(flags).output().unwrap()
    }

    /// It must end with this code and one line that says all of this.
    pub(super) fn expect(output: &Output, code: i32, says: &[&str]) {
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{stderr}");
        let message: Vec<&str> = stderr.lines().filter(|line| line.starts_with("model-runtime: ")).collect();
        assert_eq!(message.len(), 1, "one line, no traceback: {stderr}");
        for part in says {
            assert!(message[0].contains(part), "`{part}` is not in {}", message[0]);
        }
    }
}

#[tokio::test]
async fn alive_but_not_ready_while_loading_then_ready() {
    let mut server = Server::listening(&model_dir(), &[]);
    assert_eq!(reqwest::get(format!("{}/livez", server.url)).await.unwrap().status(), 200);
    // Loading takes most of a second; these questions a few milliseconds.
    let (status, body) = server.get("/readyz").await;
    assert_eq!((status, &body["error_type"]), (503, &json!("loading")), "{body}");
    let (status, health) = server.get("/health").await;
    assert_eq!((status, &health["status"]), (503, &json!("loading")));
    assert_eq!(server.predict(&json!({"inputs": "a"})).await.status(), 503);
    server.wait_for_log("ready");
    assert_eq!(reqwest::get(format!("{}/readyz", server.url)).await.unwrap().status(), 200);
    let (status, health) = server.get("/health").await;
    assert_eq!((status, &health["status"]), (200, &json!("ok")));
    assert!(
        health["gpu_count"].is_u64() && health["memory_stats"].is_array() && health["queue_capacity"] == 512
    );
}

#[tokio::test]
async fn requests_in_flight_are_answered_on_sigterm_and_none_is_lost() {
    // Half of them are in the model, half wait in the queue when the signal comes.
    let mut server =
        Server::ready(&["--instances", "1", "--max-batch-size", "1", "--shutdown-timeout", "60s"]);
    let long = "Ada Lovelace wrote to Charles Babbage. ".repeat(10);
    let mut asking = tokio::task::JoinSet::new();
    for _ in 0..40 {
        let request = reqwest::Client::new().post(format!("{}/predict", server.url));
        asking.spawn(request.json(&json!({"inputs": [&long, &long]})).send());
    }
    server.wait_for_health(|_, health| health["in_flight"] == 40).await;
    server.signal(libc::SIGTERM);
    for answer in asking.join_all().await {
        let answer = answer.expect("no connection is cut");
        assert_eq!(answer.status(), 200);
        assert_eq!(answer.json::<Vec<serde_json::Value>>().await.unwrap().len(), 2);
    }
    assert_eq!(server.wait().code(), Some(0));
}

#[tokio::test]
async fn readiness_ends_at_once_on_sigterm_while_a_request_is_answered() {
    let mut server = Server::ready(&["--max-batch-delay", "20s"]);
    // Connected before the signal, asked after it.
    let client = reqwest::Client::builder().pool_max_idle_per_host(1).build().unwrap();
    assert_eq!(client.get(format!("{}/readyz", server.url)).send().await.unwrap().status(), 200);
    server.signal(libc::SIGTERM);
    server.wait_for_log("draining");
    let probe = client.get(format!("{}/readyz", server.url)).send().await;
    // The connection may already be closed: not ready either.
    assert!(probe.is_err() || probe.unwrap().status() == 503);
    assert_eq!(server.wait().code(), Some(0));
}

#[tokio::test]
async fn sigterm_while_loading_ends_it_promptly_with_0() {
    for signal in [libc::SIGTERM, libc::SIGINT] {
        let mut server = Server::listening(&model_dir(), &[]);
        server.signal(signal);
        assert_eq!(server.wait().code(), Some(0), "{}", server.log.join("\n"));
        assert!(
            server.log.iter().any(|line| line.contains("before the model was loaded")),
            "{:?}",
            server.log
        );
    }
}

#[tokio::test]
async fn the_shutdown_timeout_bounds_the_drain_and_a_cut_request_is_an_error() {
    let flags = ["--instances", "1", "--max-batch-size", "1", "--shutdown-timeout", "50ms"];
    let mut server = Server::ready(&flags);
    let long = "Ada Lovelace wrote to Charles Babbage. ".repeat(60);
    let request = reqwest::Client::new().post(format!("{}/predict", server.url));
    let asking = tokio::spawn(request.json(&json!({"inputs": vec![long; 120]})).send());
    server.wait_for_health(|_, health| health["queue_depth"].as_u64() > Some(60)).await;
    assert_eq!(server.stop().code(), Some(1));
    assert!(asking.await.unwrap().is_err());
}

#[test]
fn a_port_in_use_is_named() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let model = model_dir();
    let output = start::run(&["serve", "--model", model.to_str().unwrap(), "--listen", &address]);
    start::expect(&output, 4, &[&address, "in use", "--listen"]);
}

#[test]
fn a_model_directory_that_cannot_be_used_is_named_with_the_cure() {
    start::expect(
        &start::run(&["serve", "--model", "/no/such/dir"]),
        3,
        &["/no/such/dir", "does not exist", "--model"],
    );
    let copy = model_copy();
    let dir = copy.path().to_str().unwrap();
    let serve = ["serve", "--model", dir, "--listen", "127.0.0.1:0"];

    replace(copy.path(), "model.pt", b"not a zip archive");
    start::expect(&start::run(&serve), 3, &["model.pt", "export it again"]);
    let whole = std::fs::read(model_dir().join("model.pt")).unwrap();
    replace(copy.path(), "model.pt", &whole[..whole.len() / 2]);
    start::expect(&start::run(&serve), 3, &["model.pt", "export it again"]);
    start::expect(&start::run(&["check", "--model", dir]), 3, &["model.pt"]);

    std::fs::remove_file(copy.path().join("tokenizer.json")).unwrap();
    start::expect(&start::run(&serve), 3, &["lacks tokenizer.json"]);
}

#[test]
fn a_wrong_setting_is_named() {
    let copy = model_copy();
    let dir = copy.path().to_str().unwrap();
    replace(copy.path(), "runtime.toml", b"max_batch_sise = 3\n");
    start::expect(&start::run(&["serve", "--model", dir]), 2, &["runtime.toml", "line 1", "max_batch_sise"]);
    let model = model_dir();
    let model = model.to_str().unwrap();
    start::expect(&start::run(&["serve", "--model", model, "--log-level", "a=b=c"]), 2, &["a=b=c"]);
    start::expect(
        &start::run(&["serve", "--model", model, "--max-batch-delay", "11m"]),
        2,
        &["request-timeout"],
    );
    let unknown = start::run(&["serve", "--model", model, "--max-batch", "3"]);
    assert_eq!(unknown.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&unknown.stderr).contains("--max-batch-size"));
}

#[test]
fn outputs_that_do_not_match_the_labels_are_found_before_serving() {
    let copy = model_copy();
    let config = std::fs::read_to_string(model_dir().join("config.json")).unwrap();
    let mut config: serde_json::Value = serde_json::from_str(&config).unwrap();
    config["id2label"] = json!({"0": "O", "1": "B-X"});
    replace(copy.path(), "config.json", config.to_string().as_bytes());
    let output = start::run(&["check", "--model", copy.path().to_str().unwrap()]);
    start::expect(&output, 3, &["35 labels", "has 2"]);
}

#[test]
fn check_prints_what_it_found() {
    let output = start::run(&["check", "--model", model_dir().to_str().unwrap()]);
    let text = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(text.contains("task         token-classification") && text.contains("\nok: "), "{text}");
}

#[test]
fn help_lists_the_exit_codes() {
    let output = start::run(&["serve", "--help"]);
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(text.contains("Exit codes:") && text.contains("MODEL_RUNTIME_MAX_QUEUE"), "{text}");
}
