//! The wire shape of `/predict`: Hugging Face's pipelines.
//!
//! `{"inputs": "text" | ["text", …], "parameters": {…}}`; images are texts, too, in Base64
//!
//! JSON that does not parse or has another shape is the sender's program gone wrong (400); a shape that is right with a
//! value that means nothing here is 422, and so is a parameter that this server does not know: silence would hide typing
//! errors.

use std::fmt;

use bytes::Bytes;
use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, SeqAccess, Visitor};
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use super::super::body::parse_object;
use super::super::error::ApiError;
use super::parameters::Parameters;
use crate::task::Task;

/// A request that can be worked on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Request<I> {
    pub(super) inputs: I,
    pub(super) parameters: Parameters,
}

/// One input, answered alone, or several, answered by a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Inputs {
    One(String),
    Many(Vec<String>),
    /// An image that was the body, all of it.
    File(Bytes),
}

impl Inputs {
    pub(super) fn texts(&self) -> &[String] {
        match self {
            Self::One(text) => std::slice::from_ref(text),
            Self::Many(texts) => texts,
            Self::File(_) => &[],
        }
    }

    pub(super) fn len(&self) -> usize {
        match self {
            Self::One(_) | Self::File(_) => 1,
            Self::Many(texts) => texts.len(),
        }
    }

    /// Whether there is one input that is not in a list.
    pub(super) fn is_alone(&self) -> bool {
        match self {
            Self::One(_) | Self::File(_) => true,
            Self::Many(_) => false,
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Body<I> {
    inputs: I,
    #[serde(default)]
    parameters: Option<Map<String, Value>>,
    /// Clients of Hugging Face's hosted service send it; nothing in it concerns us.
    #[serde(default, rename = "options")]
    _options: Option<IgnoredAny>,
}

impl Request<Inputs> {
    /// An image that was the body, without parameters.
    pub(super) fn of_file(file: Bytes, task: &Task) -> Self {
        Self { inputs: Inputs::File(file), parameters: Parameters::of(task) }
    }

    /// Reads the body of a request to a model of texts or images.
    pub(super) fn of_inputs(body: &[u8], task: &Task) -> Result<Self, ApiError> {
        let body: Body<Inputs> = parse_object(body, "{\"inputs\": \"some text\"}")?;
        if body.inputs.len() == 0 {
            return Err(ApiError::Unusable("`inputs` is an empty list; send at least one".to_owned()));
        }
        body.of(task)
    }
}

impl<'a> Request<&'a RawValue> {
    /// Reads the body of a request to a model of plain tensors, whose inputs are read once it is known what they are.
    pub(super) fn of_tensors(body: &'a [u8], task: &Task) -> Result<Self, ApiError> {
        let body: Body<&RawValue> = parse_object(body, "{\"inputs\": [[0.5, 1.5]]}")?;
        body.of(task)
    }
}

impl<I> Body<I> {
    fn of(self, task: &Task) -> Result<Request<I>, ApiError> {
        let mut parameters = Parameters::of(task);
        for (name, value) in self.parameters.unwrap_or_default() {
            parameters.set(&name, &value).map_err(ApiError::Unusable)?;
        }
        Ok(Request { inputs: self.inputs, parameters })
    }
}

impl<'de> Deserialize<'de> for Inputs {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(InputsVisitor)
    }
}

struct InputsVisitor;

impl<'de> Visitor<'de> for InputsVisitor {
    type Value = Inputs;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("`inputs` to be a string or a list of strings")
    }

    fn visit_str<E>(self, text: &str) -> Result<Inputs, E> {
        Ok(Inputs::One(text.to_owned()))
    }

    fn visit_string<E>(self, text: String) -> Result<Inputs, E> {
        Ok(Inputs::One(text))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Inputs, A::Error> {
        let mut texts = Vec::new();
        while let Some(text) = list.next_element()? {
            texts.push(text);
        }
        Ok(Inputs::Many(texts))
    }
}

#[cfg(test)]
mod tests {
    use super::super::parameters::OfTask;
    use super::*;
    use crate::task::Strategy;

    const TASK: Task = Task::TokenClassification { aggregation: Strategy::First };

    fn parse(body: &str) -> Result<Request<Inputs>, ApiError> {
        Request::of_inputs(body.as_bytes(), &TASK)
    }

    #[test]
    fn one_text_and_several_are_told_apart() {
        assert_eq!(parse(r#"{"inputs": "a"}"#).unwrap().inputs, Inputs::One("a".to_owned()));
        assert_eq!(parse(r#"{"inputs": ["a"]}"#).unwrap().inputs, Inputs::Many(vec!["a".to_owned()]));
    }

    #[test]
    fn parameters_are_read() {
        let request = parse(
            r#"{"inputs": "a", "options": {"wait_for_model": true},
                "parameters": {"aggregation_strategy": "MAX", "ignore_labels": [], "truncate": false}}"#,
        );
        let Parameters { truncate, of_task } = request.unwrap().parameters;
        assert_eq!(
            of_task,
            OfTask::TokenClassification { strategy: Strategy::Max, ignore_labels: Vec::new() }
        );
        assert!(!truncate);
        let silent = parse(r#"{"inputs": "a", "parameters": null}"#).unwrap().parameters;
        assert_eq!(silent, Parameters::of(&TASK));
    }

    #[test]
    fn what_is_not_json_or_not_the_shape_is_a_bad_request() {
        let nested = format!("{{\"inputs\": \"a\", \"options\": {}", "[".repeat(10_000));
        for broken in ["", "{", "[1,", "{\"inputs\": \"\\ud800\"}", "nonsense", &nested] {
            assert!(matches!(parse(broken), Err(ApiError::InvalidJson(_))), "{broken}");
        }
        assert!(matches!(
            Request::of_inputs(b"{\"inputs\": \"\xff\"}", &TASK),
            Err(ApiError::InvalidJson(_))
        ));
        for shape in
            ["[]", "{}", r#"{"inputs": 1}"#, r#"{"inputs": [["a"]]}"#, r#"{"inputs": "a", "input": "b"}"#]
        {
            assert!(matches!(parse(shape), Err(ApiError::WrongShape(_))), "{shape}");
        }
    }

    #[test]
    fn values_that_mean_nothing_are_named() {
        let error = |body| parse(body).unwrap_err().to_string();
        assert!(error(r#"{"inputs": []}"#).contains("empty list"));
        assert!(
            error(r#"{"inputs": "a", "parameters": {"agregation": "max"}}"#)
                .contains("`parameters.agregation`")
        );
        assert!(
            error(r#"{"inputs": "a", "parameters": {"aggregation_strategy": "best"}}"#).contains("\"best\"")
        );
        assert!(error(r#"{"inputs": "a", "parameters": {"truncate": "yes"}}"#).contains("true or false"));
    }
}
