//! What Python answers, and how far an answer of ours is from it.

use serde_json::Value;

use crate::support::expected_of;

/// Scores and vectors may differ in their last digits: another order of summing up, other rows in the batch.
pub(crate) const TOLERANCE: f64 = 1e-4;

/// A request and its answer, as `examples/export/export.py --expected` writes them.
#[derive(Debug, Clone, serde::Deserialize)]
pub(crate) struct Expected {
    /// What is special about an image.
    pub(crate) name: Option<String>,
    /// A text, an image in Base64, or the inputs of a model of tensors.
    pub(crate) inputs: Value,
    pub(crate) parameters: Value,
    pub(crate) answer: Value,
}

/// All of a model's.
pub(crate) fn rows(model: &str) -> Vec<Expected> {
    let rows: Vec<Expected> = serde_json::from_str(&expected_of(model)).unwrap();
    assert!(rows.len() > 60, "only {} expected answers: run .ci/install/model {model}", rows.len());
    rows
}

/// The largest difference between two numbers in the same place; everything else must be the same.
pub(crate) fn difference(found: &Value, expected: &Value, place: &str) -> f64 {
    match (found, expected) {
        (Value::Number(found), Value::Number(expected)) => {
            (found.as_f64().unwrap() - expected.as_f64().unwrap()).abs()
        }
        (Value::Array(found), Value::Array(expected)) => {
            assert_eq!(found.len(), expected.len(), "{place}");
            let pairs = found.iter().zip(expected);
            pairs.map(|(found, expected)| difference(found, expected, place)).fold(0.0, f64::max)
        }
        (Value::Object(found), Value::Object(expected)) => {
            assert!(found.keys().eq(expected.keys()), "{place}: {found:?}");
            found.iter().map(|(key, value)| difference(value, &expected[key], place)).fold(0.0, f64::max)
        }
        _ => {
            assert_eq!(found, expected, "{place}");
            0.0
        }
    }
}
