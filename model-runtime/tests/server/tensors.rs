//! Plain tensors through `/predict`: answers equal to those of plain torch, alone and batched, and deadlines that a client sets.

use serde_json::{Value, json};

use crate::expected::{TOLERANCE, difference, rows};
use crate::support::{Server, other_model};

const ONE: &str = r#"{"inputs": {"measurements": [39.1, 18.7, 181, 3750], "island": [2]}}"#;

#[tokio::test]
async fn tensors_equal_those_of_python_one_by_one() {
    let server = Server::of(&other_model("tensors"), &[]);
    for row in rows("tensors") {
        let response = server.predict(&json!({"inputs": row.inputs})).await;
        assert_eq!(response.status(), 200, "{}", row.inputs);
        let found = difference(&response.json().await.unwrap(), &row.answer, &row.inputs.to_string());
        assert!(found < TOLERANCE, "{} differs by {found}", row.inputs);
    }
}

#[tokio::test]
async fn tensors_equal_those_of_python_batched() {
    let server = Server::of(&other_model("tensors"), &["--instances", "1", "--max-batch-size", "64"]);
    let rows = rows("tensors");
    let column = |of: fn(&crate::expected::Expected) -> &Value, name: &str| -> Vec<Value> {
        rows.iter().map(|row| of(row)[name].clone()).collect()
    };
    let inputs = ["measurements", "island"].map(|name| (name, column(|row| &row.inputs, name)));
    let answers = ["probabilities", "species"].map(|name| (name, column(|row| &row.answer, name)));
    let request = json!({"inputs": serde_json::Map::from_iter(inputs.map(|(name, values)| (name.to_owned(), json!(values))))});
    let found: Value = server.predict(&request).await.json().await.unwrap();
    for (name, values) in answers {
        let difference = difference(&found[name], &json!(values), name);
        assert!(difference < TOLERANCE, "{name} differs by {difference}");
    }
    let metrics = reqwest::get(format!("{}/metrics", server.url)).await.unwrap().text().await.unwrap();
    let batches =
        metrics.lines().find_map(|line| line.strip_prefix("model_runtime_batch_size_count ")).unwrap();
    assert!(
        batches.parse::<usize>().unwrap() * 32 < rows.len() + 64,
        "{} rows in {batches} batches",
        rows.len()
    );
}

#[tokio::test]
async fn what_is_no_tensor_of_the_model_is_refused_with_its_place() {
    let server = Server::of(&other_model("tensors"), &[]);
    let cases = [
        (json!([[1, 2, 3, 4]]), "send `inputs` as an object"),
        (json!({"measurements": [1, 2, 3, 4]}), "input `island` is missing"),
        (json!({"measurements": [1, 2, 3, 4], "island": [1], "wing": 1}), "no input `wing`"),
        (json!({"measurements": [1, 2, "3", 4], "island": [1]}), "input `measurements`: "),
        (json!({"measurements": [1, 2, 3, 4], "island": [1.5]}), "input `island`: [0]: "),
        (
            json!({"measurements": [[1, 2, 3, 4], [1, 2, 3]], "island": [[1], [1]]}),
            "[1]: a list has 3 elements",
        ),
        (json!({"measurements": [[1, 2, 3, 4]], "island": [1]}), "each row of input `island`"),
        (json!({"measurements": [1, 2, 3], "island": [1]}), "[4], not [3]"),
    ];
    for (inputs, says) in cases {
        let response = server.predict(&json!({"inputs": inputs})).await;
        assert_eq!(response.status(), 422, "{inputs}");
        let error: Value = response.json().await.unwrap();
        assert!(error["error"].as_str().unwrap().contains(says), "{inputs}: {error}");
    }
    let parameter = server.predict(&json!({"inputs": {}, "parameters": {"top_k": 1}})).await;
    assert!(parameter.text().await.unwrap().contains("has none"));
}

#[tokio::test]
async fn a_client_may_set_a_shorter_deadline_and_the_work_is_dropped() {
    let server =
        Server::of(&other_model("tensors"), &["--max-batch-delay", "100s", "--request-timeout", "101s"]);
    let ask = |milliseconds: &'static str| {
        let request = reqwest::Client::new().post(format!("{}/predict", server.url)).body(ONE);
        request.header("content-type", "application/json").header("x-request-timeout-ms", milliseconds).send()
    };
    let late = ask("50").await.unwrap();
    assert_eq!(late.status(), 503);
    let error: Value = late.json().await.unwrap();
    assert_eq!(error["error_type"], "deadline_exceeded");
    assert!(error["error"].as_str().unwrap().contains("50ms"), "{error}");
    server.wait_for_health(|_, health| health["queue_depth"] == 0).await;
    for wrong in ["0", "soon"] {
        let refused = ask(wrong).await.unwrap();
        assert_eq!(refused.status(), 400);
        assert!(refused.text().await.unwrap().contains("x-request-timeout-ms"));
    }
}
