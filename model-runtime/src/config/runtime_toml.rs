//! `runtime.toml`: what the exporter of a model knows about how to run it. Every key is optional, unknown keys are errors.

use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::{ByteSize, Span};
use crate::backend::{DeviceChoice, PrecisionChoice};
use crate::model::{InputName, TensorSpec};
use crate::task::{Function, Pooling, Strategy, TaskKind};

/// The file as it is written.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RuntimeToml {
    /// Who the model is.
    #[serde(default)]
    pub model: ModelCard,
    /// What the model does; inferred from `architectures` in config.json when absent.
    pub task: Option<TaskKind>,
    /// The inputs of `forward`, in order; inferred from `type_vocab_size` in config.json when absent.
    pub inputs: Option<Vec<InputName>>,
    /// Plain tensors: what `forward` takes, in order.
    #[serde(default)]
    pub input_tensors: Vec<TensorSpec>,
    /// Plain tensors: what it returns, in order, or by these names in a dictionary.
    #[serde(default)]
    pub output_tensors: Vec<TensorSpec>,
    /// Plain tensors: whether each has the batch as a further, first dimension; `true` when absent.
    pub batched: Option<bool>,
    /// Longer texts are truncated to so many tokens.
    pub max_seq_length: Option<NonZeroUsize>,
    /// The aggregation strategy of requests that name none.
    pub aggregation: Option<Strategy>,
    /// Text and image classification: how logits become scores; from `problem_type` in config.json when absent.
    pub function_to_apply: Option<Function>,
    /// Feature extraction: how tokens' vectors become a text's, for requests that do not say; none when absent.
    pub pooling: Option<Pooling>,
    /// Feature extraction: whether vectors are given the length 1, for requests that do not say; not when absent.
    pub normalize: Option<bool>,
    /// Sentences that `check` runs, or names of image files in the directory.
    #[serde(default)]
    pub examples: Vec<String>,
    /// Where the model runs.
    pub device: Option<DeviceChoice>,
    /// The number format it computes in.
    pub precision: Option<PrecisionChoice>,
    /// See the flag of the same name.
    pub instances: Option<NonZeroUsize>,
    /// See the flag of the same name.
    pub threads: Option<NonZeroUsize>,
    /// See the flag of the same name.
    pub max_batch_size: Option<NonZeroUsize>,
    /// See the flag of the same name.
    pub max_batch_tokens: Option<NonZeroUsize>,
    /// See the flag of the same name.
    pub max_batch_padding: Option<usize>,
    /// See the flag of the same name.
    pub max_batch_delay: Option<Span>,
    /// See the flag of the same name.
    pub max_queue: Option<NonZeroUsize>,
    /// See the flag of the same name.
    pub request_timeout: Option<Span>,
    /// See the flag of the same name.
    pub body_limit: Option<ByteSize>,
}

/// `[model]`: who made the model, and how it may be used. Shown by `/info` and `check`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelCard {
    /// The model's name; the directory's when absent.
    pub name: Option<String>,
    /// The model's version.
    pub version: Option<String>,
    /// Its licence.
    pub license: Option<String>,
    /// Whom to name when it is used.
    pub attribution: Option<String>,
}

/// `runtime.toml` is there but cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{}: {problem}", path.display())]
pub struct RuntimeTomlError {
    path: PathBuf,
    problem: String,
}

impl RuntimeToml {
    /// Reads `runtime.toml` in the model directory; an absent file is an empty one.
    pub fn read(model_dir: &Path) -> Result<Self, RuntimeTomlError> {
        let path = model_dir.join("runtime.toml");
        match std::fs::read_to_string(&path) {
            Ok(text) => Self::parse(&text).map_err(|problem| RuntimeTomlError { path, problem }),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Self::default()),
            Err(error) => Err(RuntimeTomlError { path, problem: error.to_string() }),
        }
    }

    /// Reads the text of the file; the error is one line that names the place.
    pub fn parse(text: &str) -> Result<Self, String> {
        toml::from_str(text).map_err(|error| {
            let line =
                error.span().map(|span| 1 + text.get(..span.start).unwrap_or_default().matches('\n').count());
            let place = line.map(|line| format!("line {line}: ")).unwrap_or_default();
            format!("{place}{}", error.message().replace('\n', " "))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_is_read() {
        let file = RuntimeToml::parse(
            r#"
            task = "token-classification"
            inputs = ["input_ids", "attention_mask", "token_type_ids"]
            max_seq_length = 512
            aggregation = "first"
            examples = ["Ada Lovelace lived in London."]
            device = "cpu"
            precision = "bf16"
            max_batch_delay = "2ms"
            body_limit = "4MiB"
            [model]
            name = "ner"
            version = "1.4.0"
            license = "CC-BY-4.0"
            attribution = "its makers"
            "#,
        )
        .unwrap();
        assert_eq!(file.task, Some(TaskKind::TokenClassification));
        assert_eq!(file.inputs.unwrap().len(), 3);
        assert_eq!(file.aggregation, Some(Strategy::First));
        assert_eq!(file.precision, Some("bf16".parse().unwrap()));
        assert_eq!(file.body_limit, Some(ByteSize(4 << 20)));
        assert_eq!(file.model.version.as_deref(), Some("1.4.0"));
    }

    #[test]
    fn an_unknown_key_is_an_error_that_names_it_and_its_line() {
        let error =
            RuntimeToml::parse("task = \"token-classification\"\nmax_sequence_length = 3\n").unwrap_err();
        assert!(error.starts_with("line 2: "), "{error}");
        assert!(error.contains("`max_sequence_length`") && error.contains("`max_seq_length`"), "{error}");
    }

    #[test]
    fn a_wrong_value_is_an_error_that_says_what_was_expected() {
        let error = RuntimeToml::parse("max_queue = 0").unwrap_err();
        assert!(error.contains("nonzero"), "{error}");
        let error = RuntimeToml::parse("aggregation = \"best\"").unwrap_err();
        assert!(error.contains("`first`"), "{error}");
        let error = RuntimeToml::parse("max_batch_delay = \"soon\"").unwrap_err();
        assert!(error.contains("500ms"), "{error}");
    }
}
