//! Who may ask, and how a request is found again in the log.

use serde_json::json;

use crate::support::{Server, key_file, model_dir, program};

const KEY: &str = "a-key-for-the-tests-0123456789";
const NEXT_KEY: &str = "the-key-that-comes-after-it-0123";

#[tokio::test]
async fn without_a_key_there_is_no_prediction_but_probes_and_metrics_are_open() {
    let file = key_file(&format!("# two, while clients change over\n{KEY}\n{NEXT_KEY}\n"));
    let mut server = Server::ready(&["--api-key-file", file.path().to_str().unwrap()]);
    let client = reqwest::Client::new();
    let ask = |key: Option<&str>| {
        let request = client.post(format!("{}/predict", server.url)).json(&json!({"inputs": "Zoë"}));
        key.map_or_else(|| request.try_clone().unwrap(), |key| request.try_clone().unwrap().bearer_auth(key))
            .send()
    };
    for wrong in [None, Some("not-the-key-of-the-tests"), Some(&KEY[..KEY.len() - 1])] {
        let refused = ask(wrong).await.unwrap();
        assert_eq!(refused.status(), 401);
        assert_eq!(refused.headers()["www-authenticate"], "Bearer");
        let body: serde_json::Value = refused.json().await.unwrap();
        assert_eq!(body["error_type"], "unauthorized");
    }
    assert_eq!(ask(Some(KEY)).await.unwrap().status(), 200);
    assert_eq!(ask(Some(NEXT_KEY)).await.unwrap().status(), 200);
    assert_eq!(server.get("/info").await.0, 401);
    for open in ["/livez", "/readyz", "/health", "/metrics", "/openapi.json", "/docs"] {
        assert_eq!(reqwest::get(format!("{}{open}", server.url)).await.unwrap().status(), 200, "{open}");
    }
    server.stop();
    assert!(!server.log.iter().any(|line| line.contains(KEY)), "the key is in the log");
}

#[test]
fn a_key_file_that_opens_to_nobody_is_refused_at_the_start() {
    let file = key_file("short\n");
    let mut serve = program();
    serve.args(["serve", "--listen", "127.0.0.1:0", "--model"]).arg(model_dir());
    let output = serve.arg("--api-key-file").arg(file.path()).output().unwrap();
    let message = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{message}");
    assert!(message.contains("line 1") && !message.contains("short"), "{message}");
}

#[tokio::test]
async fn each_answer_has_the_id_of_its_request_and_so_has_the_log() {
    let mut server = Server::ready(&["--log-level", "debug"]);
    let client = reqwest::Client::new();
    let request = client.post(format!("{}/predict", server.url)).header("x-request-id", "complaint-4711");
    let answer = request.json(&json!({"inputs": "Zoë"})).send().await.unwrap();
    assert_eq!(answer.headers()["x-request-id"], "complaint-4711");
    let logged = server.wait_for_log("answered");
    let id = &logged["span"]["request_id"];
    assert_eq!((id, &logged["path"]), (&json!("complaint-4711"), &json!("/predict")));

    let mut made = Vec::new();
    for path in ["/readyz", "/nowhere"] {
        // What cannot be shown in a log is replaced.
        let request = client.get(format!("{}{path}", server.url)).header("x-request-id", "two words");
        let answer = request.send().await.unwrap();
        made.push(answer.headers()["x-request-id"].to_str().unwrap().to_owned());
    }
    assert!(made[0].len() == 36 && made[0] != made[1], "{made:?}");
}
