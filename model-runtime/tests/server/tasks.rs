//! Text classification, feature extraction and image classification: real models, answers equal to those of transformers.

use serde_json::{Value, json};

use crate::expected::{TOLERANCE, difference, rows};
use crate::support::{Server, other_model};

async fn answers_one_by_one(model: &str) {
    let server = Server::of(&other_model(model), &[]);
    for row in rows(model) {
        let input = row.name.unwrap_or_else(|| row.inputs.to_string());
        let place = format!("{input} with {}", row.parameters);
        let response = server.predict(&json!({"inputs": row.inputs, "parameters": row.parameters})).await;
        assert_eq!(response.status(), 200, "{place}");
        let found = difference(&response.json().await.unwrap(), &row.answer, &place);
        assert!(found < TOLERANCE, "{place} differs by {found}");
    }
}

/// All inputs with the same parameters in one request, mixed in length and in few batches.
async fn answers_batched(model: &str) {
    let batches = ["--max-batch-tokens", "4096", "--max-batch-padding", "4096", "--instances", "1"];
    // One request with everything in it takes a while on a busy machine.
    let flags = [&batches[..], &["--request-timeout", "120s"]].concat();
    let server = Server::of(&other_model(model), &flags);
    let mut rows = rows(model);
    while let Some(parameters) = rows.first().map(|row| row.parameters.clone()) {
        let (same, others): (Vec<_>, Vec<_>) = rows.into_iter().partition(|row| row.parameters == parameters);
        rows = others;
        let texts: Vec<&str> = same.iter().map(|row| row.inputs.as_str().unwrap()).collect();
        let response = server.predict(&json!({"inputs": texts, "parameters": parameters})).await;
        assert_eq!(response.status(), 200, "{parameters}");
        let found: Value = response.json().await.unwrap();
        let expected: Vec<Value> = same.iter().map(|row| row.answer.clone()).collect();
        let place = format!("{} inputs with {parameters}", same.len());
        let found = difference(&found, &Value::Array(expected), &place);
        assert!(found < TOLERANCE, "{place} differ by {found}");
    }
}

#[tokio::test]
async fn labels_equal_those_of_python_one_by_one() {
    answers_one_by_one("sentiment").await;
}

#[tokio::test]
async fn vectors_equal_those_of_python_one_by_one() {
    answers_one_by_one("embedding").await;
}

#[tokio::test]
async fn vectors_equal_those_of_python_batched() {
    answers_batched("embedding").await;
}

#[tokio::test]
async fn labels_of_images_equal_those_of_python_one_by_one() {
    answers_one_by_one("image").await;
}

#[tokio::test]
async fn labels_of_images_equal_those_of_python_batched() {
    answers_batched("image").await;
}

#[tokio::test]
async fn labels_equal_those_of_python_batched_in_the_shape_of_the_pipeline() {
    // Without top_k the pipeline answers one text by a list of one label, and several by a list of labels, not of lists.
    let server = Server::of(&other_model("sentiment"), &[]);
    let rows: Vec<_> = rows("sentiment").into_iter().filter(|row| row.parameters == json!({})).collect();
    let texts: Vec<&str> = rows.iter().map(|row| row.inputs.as_str().unwrap()).collect();
    let found: Value = server.predict(&json!({"inputs": texts})).await.json().await.unwrap();
    let expected: Vec<Value> = rows.iter().map(|row| row.answer[0].clone()).collect();
    assert!(difference(&found, &Value::Array(expected), "all texts") < TOLERANCE, "{found}");
    // With it, a list for each.
    let all: Value =
        server.predict(&json!({"inputs": texts, "parameters": {"top_k": null}})).await.json().await.unwrap();
    assert!(all.as_array().unwrap().iter().all(|labels| labels.as_array().unwrap().len() == 2), "{all}");
}

#[tokio::test]
async fn info_and_check_say_what_the_model_does() {
    let server = Server::of(&other_model("embedding"), &[]);
    let (_, info) = server.get("/info").await;
    assert_eq!(info["task"], "feature-extraction");
    assert_eq!((&info["pooling"], &info["normalize"]), (&json!("mean"), &json!(true)));
    assert_eq!(info["dimension"], 384);
    assert!(info.get("labels").is_none() && info.get("aggregation_strategy").is_none(), "{info}");

    let server = Server::of(&other_model("sentiment"), &[]);
    let (_, info) = server.get("/info").await;
    assert_eq!(info["task"], "text-classification");
    assert_eq!(info["labels"], json!(["negative", "positive"]));
    assert_eq!(info["function_to_apply"], "softmax");

    let server = Server::of(&other_model("image"), &[]);
    let (_, info) = server.get("/info").await;
    assert_eq!(info["task"], "image-classification");
    assert_eq!(info["image_size"], json!({"height": 224, "width": 224}));
    assert_eq!((&info["inputs"], &info["body_limit"]), (&json!(["pixel_values"]), &json!(10 << 20)));
    assert!(info.get("max_seq_length").is_none() && info["labels"][285] == "Egyptian cat", "{info}");

    for (model, says) in [
        ("image", "a gradient"),
        ("embedding", "mean, normalised, 384 numbers"),
        ("sentiment", "have a label"),
    ] {
        let mut check = crate::support::program();
        let output = check.args(["check", "--model"]).arg(other_model(model)).output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && text.contains(says), "{text}");
    }
}

#[tokio::test]
async fn a_parameter_of_another_task_is_refused_and_names_those_of_this_one() {
    let server = Server::of(&other_model("sentiment"), &[]);
    let request = json!({"inputs": "a", "parameters": {"aggregation_strategy": "first"}});
    let response = server.predict(&request).await;
    assert_eq!(response.status(), 422);
    assert!(response.text().await.unwrap().contains("top_k, function_to_apply"));
}

#[test]
fn a_model_that_does_not_suit_its_task_is_refused_before_serving() {
    let copy = crate::support::copy_of(&other_model("embedding"));
    crate::support::replace(copy.path(), "runtime.toml", b"task = \"text-classification\"\n");
    let config = std::fs::read_to_string(other_model("sentiment").join("config.json")).unwrap();
    crate::support::replace(copy.path(), "config.json", config.as_bytes());
    let output = crate::support::program().args(["check", "--model"]).arg(copy.path()).output().unwrap();
    let message = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(3), "{message}");
    assert!(message.contains("a row for each token") && message.contains("runtime.toml"), "{message}");
}
