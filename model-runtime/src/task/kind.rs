//! The tasks that this version serves, by Hugging Face's names.

use serde::{Deserialize, Serialize};

/// What a model does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum TaskKind {
    /// Labels each token, for example as part of a name.
    TokenClassification,
    /// Labels a text.
    TextClassification,
    /// Turns a text into a vector, or each of its tokens.
    FeatureExtraction,
    /// Labels an image.
    ImageClassification,
    /// Takes and returns plain tensors, which runtime.toml names.
    Tensors,
}

impl TaskKind {
    const ALL: [Self; 5] = [
        Self::TokenClassification,
        Self::TextClassification,
        Self::FeatureExtraction,
        Self::ImageClassification,
        Self::Tensors,
    ];

    /// The task of a model with these classes in its config.json.
    pub fn infer(architectures: &[String]) -> Result<Self, String> {
        let of_class = |class: &String| match class {
            class if class.ends_with("ForTokenClassification") => Some(Self::TokenClassification),
            class if class.ends_with("ForSequenceClassification") => Some(Self::TextClassification),
            class if class.ends_with("ForImageClassification") => Some(Self::ImageClassification),
            // The bare encoder, such as BertModel; not GPT2LMHeadModel, which writes text.
            class if class.ends_with("Model") && !class.contains("Head") => Some(Self::FeatureExtraction),
            _ => None,
        };
        architectures.iter().find_map(of_class).ok_or_else(|| {
            let found = if architectures.is_empty() { "nothing".to_owned() } else { architectures.join(", ") };
            let known: Vec<&str> = Self::ALL.iter().map(|task| task.as_str()).collect();
            format!(
                "the task cannot be told from `architectures` ({found}); this version serves {}: say which in runtime.toml, \
                 as in task = \"token-classification\"",
                known.join(", ")
            )
        })
    }

    /// The task's name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::TokenClassification => "token-classification",
            Self::TextClassification => "text-classification",
            Self::FeatureExtraction => "feature-extraction",
            Self::ImageClassification => "image-classification",
            Self::Tensors => "tensors",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_task_is_told_from_the_class_of_the_model() {
        let infer = |class: &str| TaskKind::infer(&[class.to_owned()]);
        assert_eq!(infer("BertForTokenClassification"), Ok(TaskKind::TokenClassification));
        assert_eq!(infer("DistilBertForSequenceClassification"), Ok(TaskKind::TextClassification));
        assert_eq!(infer("ViTForImageClassification"), Ok(TaskKind::ImageClassification));
        assert_eq!(infer("BertModel"), Ok(TaskKind::FeatureExtraction));
        assert!(infer("GPT2LMHeadModel").unwrap_err().contains("text-classification"));
        assert!(TaskKind::infer(&[]).unwrap_err().contains("(nothing)"));
    }
}
