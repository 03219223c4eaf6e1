//! The tasks that this version serves, by Hugging Face's names.

use serde::{Deserialize, Serialize};

/// What a model does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum TaskKind {
    /// Labels each token, for example as part of a name.
    TokenClassification,
}

impl TaskKind {
    /// The task of a model with these classes in its config.json.
    pub fn infer(architectures: &[String]) -> Result<Self, String> {
        if architectures.iter().any(|class| class.ends_with("ForTokenClassification")) {
            return Ok(Self::TokenClassification);
        }
        let found = if architectures.is_empty() { "nothing".to_owned() } else { architectures.join(", ") };
        Err(format!(
            "the task cannot be told from `architectures` ({found}); this version serves token-classification: \
             for such a model write task = \"token-classification\" in runtime.toml"
        ))
    }

    /// The task's name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::TokenClassification => "token-classification",
        }
    }
}
