//! Predictions of the real model: equal to Python's, alone, batched and concurrent, with offsets in characters.

use serde_json::{Value, json};

use crate::support::Server;

/// Scores may differ in their last digits: another order of summing up, other rows in the batch.
const TOLERANCE: f64 = 1e-4;

/// One row of `expected/ner.json`, which `examples/export/expected_outputs.py` writes.
#[derive(Debug, Clone, serde::Deserialize)]
pub(crate) struct Expected {
    pub(crate) text: String,
    pub(crate) aggregation_strategy: String,
    pub(crate) entities: Vec<Value>,
}

pub(crate) mod expected {
    use super::*;

    /// Words that transformers glues together because the tokenizer stripped combining marks off the second one (see
    /// `task::token_classification`). Here they stay apart, as they do in transformers' own `simple` strategy.
    const GLUED_BY_PYTHON: &str = "Zoe\u{308} and Andre\u{301} Nu\u{303}n\u{303}ez";

    pub(crate) fn all() -> Vec<Expected> {
        let rows: Vec<Expected> = serde_json::from_str(include_str!("../expected/ner.json")).unwrap();
        assert!(rows.len() >= 20, "too few expected outputs: run examples/export/expected_outputs.py");
        let simple = |text: &str| {
            let found = rows.iter().find(|row| row.text == text && row.aggregation_strategy == "simple");
            found.unwrap().entities.clone()
        };
        let is_glued = |row: &&Expected| {
            row.text == GLUED_BY_PYTHON
                && ["first", "average", "max"].contains(&row.aggregation_strategy.as_str())
        };
        let mend = |row: &Expected| match Some(row).filter(is_glued) {
            Some(row) => Expected { entities: simple(&row.text), ..row.clone() },
            None => row.clone(),
        };
        rows.iter().map(mend).collect()
    }

    pub(super) fn assert_equal(found: &Value, expected: &Expected) {
        let found = found.as_array().unwrap();
        let place = format!("{:?} by {}: {found:#?}", expected.text, expected.aggregation_strategy);
        assert_eq!(found.len(), expected.entities.len(), "{place}");
        for (found, expected) in found.iter().zip(&expected.entities) {
            for key in ["entity", "entity_group", "word", "start", "end"] {
                assert_eq!(found.get(key), expected.get(key), "{key} in {place}");
            }
            let difference = found["score"].as_f64().unwrap() - expected["score"].as_f64().unwrap();
            assert!(difference.abs() < TOLERANCE, "score differs by {difference} in {place}");
        }
    }
}

fn request(inputs: impl Into<Value>, strategy: &str) -> Value {
    json!({"inputs": inputs.into(), "parameters": {"aggregation_strategy": strategy}})
}

#[tokio::test]
async fn answers_equal_those_of_python_one_by_one() {
    let server = Server::ready(&[]);
    for row in expected::all() {
        let response = server.predict(&request(row.text.as_str(), &row.aggregation_strategy)).await;
        assert_eq!(response.status(), 200);
        expected::assert_equal(&response.json().await.unwrap(), &row);
    }
}

#[tokio::test]
async fn answers_equal_those_of_python_all_in_one_request() {
    let server =
        Server::ready(&["--max-batch-tokens", "4096", "--max-batch-padding", "4096", "--instances", "1"]);
    for strategy in ["none", "simple", "first", "average", "max"] {
        let rows: Vec<_> =
            expected::all().into_iter().filter(|row| row.aggregation_strategy == strategy).collect();
        let texts: Vec<&str> = rows.iter().map(|row| row.text.as_str()).collect();
        let found: Value = server.predict(&request(texts, strategy)).await.json().await.unwrap();
        for (found, row) in found.as_array().unwrap().iter().zip(&rows) {
            expected::assert_equal(found, row);
        }
    }
    let metrics = reqwest::get(format!("{}/metrics", server.url)).await.unwrap().text().await.unwrap();
    let batches = |line: &&str| line.starts_with("model_runtime_batch_size_count");
    let count: usize = metrics.lines().find(batches).unwrap().rsplit(' ').next().unwrap().parse().unwrap();
    assert!(count < expected::all().len() / 2, "texts were batched, {count} batches");
}

#[tokio::test]
async fn answers_equal_those_of_python_when_all_ask_at_once() {
    let server = Server::ready(&[]);
    let mut asking = tokio::task::JoinSet::new();
    for row in expected::all() {
        let asked = reqwest::Client::new().post(format!("{}/predict", server.url));
        let asked = asked.json(&request(row.text.as_str(), &row.aggregation_strategy)).send();
        asking.spawn(async move { (asked.await.unwrap().json::<Value>().await.unwrap(), row) });
    }
    for (found, row) in asking.join_all().await {
        expected::assert_equal(&found, &row);
    }
}

#[tokio::test]
async fn offsets_are_characters_of_the_text_after_emoji_and_cjk() {
    let server = Server::ready(&[]);
    let text = "👩‍🚀🇩🇪 東京 – My name is Zoë Müller.";
    let found: Value = server.predict(&request(text, "first")).await.json().await.unwrap();
    let characters: Vec<char> = text.chars().collect();
    let slice = |entity: &Value| {
        let place = |key: &str| usize::try_from(entity[key].as_u64().unwrap()).unwrap();
        characters[place("start")..place("end")].iter().collect::<String>()
    };
    let slices: Vec<String> = found.as_array().unwrap().iter().map(slice).collect();
    assert!(slices.contains(&"Zoë".to_owned()) && slices.contains(&"Müller".to_owned()), "{found}");
}

#[tokio::test]
async fn a_long_text_is_cut_and_said_so_or_refused_as_asked() {
    let server = Server::ready(&["--max-seq-length", "16"]);
    let long = "My name is Zoë Müller and I live in Berlin. ".repeat(4);
    let both = server.predict(&json!({"inputs": ["Zoë", long]})).await;
    assert_eq!(both.status(), 200);
    assert_eq!(both.headers()["x-truncated"], "1");
    assert_eq!(both.headers()["x-truncated-inputs"], "1");
    let short = server.predict(&json!({"inputs": "Zoë"})).await;
    assert!(!short.headers().contains_key("x-truncated"));
    let refused = server.predict(&json!({"inputs": long, "parameters": {"truncate": false}})).await;
    assert_eq!(refused.status(), 422);
    assert!(refused.text().await.unwrap().contains("longer than 16 tokens"));
}

#[tokio::test]
async fn texts_without_words_have_no_entities() {
    let server = Server::ready(&[]);
    let found: Value = server.predict(&json!({"inputs": ["", "   ", "\u{0}"]})).await.json().await.unwrap();
    assert_eq!(found, json!([[], [], []]));
    let one: Value = server.predict(&json!({"inputs": ""})).await.json().await.unwrap();
    assert_eq!(one, json!([]));
}

#[tokio::test]
async fn info_names_the_model_and_how_it_is_run() {
    let server = Server::ready(&["--instances", "1"]);
    let (status, info) = server.get("/info").await;
    assert_eq!(status, 200);
    assert_eq!(info["task"], "token-classification");
    assert_eq!(info["instances"], 1);
    assert!(info["labels"].as_array().unwrap().len() > 2 && info["torch_version"].is_string(), "{info}");
}
