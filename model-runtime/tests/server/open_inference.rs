//! The Open Inference Protocol: NVIDIA's own client for Triton, unmodified, against real models; and what it cannot show.

use std::process::Command;

use serde_json::{Value, json};

use crate::support::{Server, model_dir, other_model};

/// Runs checks of `tests/clients/triton.py` against a server.
fn triton_client(server: &Server, checks: &[&str]) {
    let python = std::env::var_os("PILOTLIGHT_TRITONCLIENT")
        .expect("PILOTLIGHT_TRITONCLIENT is not set: eval \"$(.ci/install/env)\"");
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/clients/triton.py");
    let run = Command::new(&python).arg(script).arg(&server.address).args(checks).output();
    let output = run.unwrap_or_else(|error| {
        panic!("{}: {error}: run .ci/install/tritonclient", python.to_string_lossy())
    });
    let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{}{}", text(&output.stdout), text(&output.stderr));
    assert_eq!(text(&output.stdout).lines().count(), checks.len(), "{}", text(&output.stdout));
}

#[test]
fn tritonclient_asks_a_model_of_tensors_in_json_and_in_binary() {
    let server = Server::of(&other_model("tensors"), &[]);
    triton_client(
        &server,
        &["server", "tensors", "compression", "many_at_once", "body_of_ones_own", "refusals"],
    );
}

#[test]
fn tritonclient_gives_requests_a_deadline() {
    let server =
        Server::of(&other_model("tensors"), &["--max-batch-delay", "100s", "--request-timeout", "101s"]);
    triton_client(&server, &["timeouts"]);
}

#[test]
fn tritonclient_asks_for_entities() {
    let server = Server::of(&model_dir(), &[]);
    triton_client(&server, &["server", "entities"]);
}

#[test]
fn tritonclient_asks_for_labels() {
    let server = Server::of(&other_model("sentiment"), &[]);
    triton_client(&server, &["labels"]);
}

#[test]
fn tritonclient_asks_for_vectors() {
    let server = Server::of(&other_model("embedding"), &[]);
    triton_client(&server, &["vectors"]);
}

#[test]
fn tritonclient_asks_what_is_on_images() {
    let server = Server::of(&other_model("image"), &[]);
    triton_client(&server, &["images"]);
}

async fn post(
    server: &Server,
    path: &str,
    headers: &[(&str, &str)],
    body: impl Into<reqwest::Body>,
) -> (u16, Value) {
    let mut request = reqwest::Client::new().post(format!("{}{path}", server.url)).body(body);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let response = request.send().await.unwrap();
    (response.status().as_u16(), response.json().await.unwrap())
}

fn penguins() -> Value {
    json!({"inputs": [
        {"name": "measurements", "datatype": "FP32", "shape": [1, 4], "data": [[39.1, 18.7, 181, 3750]]},
        {"name": "island", "datatype": "INT64", "shape": [1, 1], "data": [2]},
    ]})
}

const INFER: &str = "/v2/models/penguins/infer";

#[tokio::test]
async fn a_request_in_json_is_answered_in_json_with_the_protocols_fields() {
    let server = Server::of(&other_model("tensors"), &[]);
    let path = "/v2/models/penguins/versions/1/infer";
    let (status, answer) =
        post(&server, path, &[("content-type", "application/json")], penguins().to_string()).await;
    assert_eq!(status, 200, "{answer}");
    assert!(answer.get("id").is_none() && answer["model_name"] == "penguins", "{answer}");
    assert_eq!(
        answer["outputs"][1],
        json!({"name": "species", "datatype": "INT64", "shape": [1, 1], "data": [0]})
    );
    let (_, live) = server.get("/v2/health/live").await;
    let (_, ready) = server.get("/v2/models/penguins/ready").await;
    assert_eq!((live, ready), (json!({"live": true}), json!({"name": "penguins", "ready": true})));
}

/// Path, headers and body of a request; status and type of the error.
type Refusal<'a> = (&'a str, &'a [(&'a str, &'a str)], String, u16, &'a str);

#[tokio::test]
async fn errors_have_the_protocols_field_and_a_type() {
    let server = Server::of(&other_model("tensors"), &["--body-limit", "1KiB"]);
    let json = ("content-type", "application/json");
    let bomb = ("content-encoding", "gzip");
    let mut too_large = penguins();
    too_large["id"] = json!("x".repeat(1024));
    let cases: [Refusal; 9] = [
        (INFER, &[json], "{".to_owned(), 400, "invalid_json"),
        (INFER, &[json], "[]".to_owned(), 400, "invalid_request"),
        (INFER, &[json], r#"{"inputs": []}"#.to_owned(), 422, "validation"),
        (INFER, &[("content-type", "text/plain")], penguins().to_string(), 415, "unsupported_media_type"),
        (INFER, &[json, ("content-encoding", "br")], penguins().to_string(), 415, "unsupported_media_type"),
        (INFER, &[json, bomb], penguins().to_string(), 400, "invalid_request"),
        (
            INFER,
            &[("inference-header-content-length", "100000")],
            penguins().to_string(),
            400,
            "invalid_request",
        ),
        ("/v2/models/other/infer", &[json], penguins().to_string(), 404, "not_found"),
        (INFER, &[json], too_large.to_string(), 413, "payload_too_large"),
    ];
    for (path, headers, body, expected, kind) in cases {
        let (status, error) = post(&server, path, headers, body.clone()).await;
        assert_eq!(
            (status, &error["error_type"]),
            (expected, &json!(kind)),
            "{path} {headers:?} {body}: {error}"
        );
        assert!(error["error"].is_string());
    }
}

#[tokio::test]
async fn more_rows_than_can_ever_wait_are_refused() {
    let server = Server::of(&other_model("tensors"), &["--max-queue", "8"]);
    let mut many = penguins();
    many["inputs"][0]["shape"] = json!([9, 4]);
    many["inputs"][0]["data"] = json!(vec![1.0; 36]);
    many["inputs"][1]["shape"] = json!([9, 1]);
    many["inputs"][1]["data"] = json!(vec![1; 9]);
    let (status, error) = post(&server, INFER, &[], many.to_string()).await;
    assert_eq!(status, 422, "{error}");
    assert!(error["error"].as_str().unwrap().contains("only 8"), "{error}");
}

#[tokio::test]
async fn a_key_guards_the_model_but_not_the_probes() {
    let keys = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(keys.path(), "a-key-of-the-test-0123\n").unwrap();
    let server = Server::of(&other_model("tensors"), &["--api-key-file", keys.path().to_str().unwrap()]);
    for path in ["/v2", "/v2/models/penguins", "/v2/models/penguins/versions/1"] {
        assert_eq!(server.get(path).await.0, 401, "{path}");
    }
    assert_eq!(post(&server, INFER, &[], penguins().to_string()).await.0, 401);
    let key = ("authorization", "Bearer a-key-of-the-test-0123");
    assert_eq!(post(&server, INFER, &[key], penguins().to_string()).await.0, 200);
    for path in ["/v2/health/live", "/v2/health/ready", "/v2/models/penguins/ready"] {
        assert_eq!(server.get(path).await.0, 200, "{path}");
    }
}
