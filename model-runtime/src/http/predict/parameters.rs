//! `parameters` of a request to `/predict`: what each task knows, by the names of Hugging Face's pipelines.

use std::num::NonZeroUsize;

use serde_json::Value;

use crate::task::{Function, Pooling, Strategy, Task};

/// How one request wants its texts answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::http) struct Parameters {
    /// Whether texts that are too long are cut, and not refused.
    pub(in crate::http) truncate: bool,
    /// What only this task knows.
    pub(in crate::http) of_task: OfTask,
}

/// The parameters of one task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::http) enum OfTask {
    TokenClassification { strategy: Strategy, ignore_labels: Vec<String> },
    TextClassification { function: Function, top_k: TopK },
    FeatureExtraction { pooling: Pooling, normalize: bool },
    ImageClassification { function: Function, top_k: NonZeroUsize },
    Tensors,
}

/// How many labels of a text are answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::http) enum TopK {
    /// Not asked: the best one, and not in a list of its own.
    Absent,
    /// So many, in a list for each text.
    Best(NonZeroUsize),
    /// All, in a list for each text.
    All,
}

/// Of an image the best labels, unless a request says how many; as the pipeline has it.
const LABELS_OF_AN_IMAGE: NonZeroUsize = NonZeroUsize::new(5).expect("5 is not 0");

impl Parameters {
    /// What a request gets that asks for nothing.
    pub(in crate::http) fn of(task: &Task) -> Self {
        let of_task = match *task {
            Task::TokenClassification { aggregation } => {
                OfTask::TokenClassification { strategy: aggregation, ignore_labels: vec!["O".to_owned()] }
            }
            Task::TextClassification { function } => {
                OfTask::TextClassification { function, top_k: TopK::Absent }
            }
            Task::FeatureExtraction { pooling, normalize } => {
                OfTask::FeatureExtraction { pooling, normalize }
            }
            Task::ImageClassification { function } => {
                OfTask::ImageClassification { function, top_k: LABELS_OF_AN_IMAGE }
            }
            Task::Tensors => OfTask::Tensors,
        };
        Self { truncate: true, of_task }
    }

    /// Takes one parameter over; the error names it, its value, and what it may be.
    pub(in crate::http) fn set(&mut self, name: &str, value: &Value) -> Result<(), String> {
        let wrong = |allowed: &str| format!("`parameters.{name}` is {value}; it must be {allowed}");
        let flag = || value.as_bool().ok_or_else(|| wrong("true or false"));
        let count = || whole(value).and_then(|count| NonZeroUsize::new(usize::try_from(count).ok()?));
        match (&mut self.of_task, name) {
            (OfTask::Tensors, _) => {
                return Err(format!("`parameters.{name}` is not known; a model of plain tensors has none"));
            }
            (OfTask::ImageClassification { top_k, .. }, "top_k") => {
                *top_k = match value {
                    // As the pipeline: like a request that does not say.
                    Value::Null => LABELS_OF_AN_IMAGE,
                    _ => count().ok_or_else(|| wrong("a number from 1 on"))?,
                };
            }
            (
                OfTask::TokenClassification { .. }
                | OfTask::TextClassification { .. }
                | OfTask::FeatureExtraction { .. },
                "truncate",
            ) => self.truncate = flag()?,
            (OfTask::TokenClassification { strategy, .. }, "aggregation_strategy") => {
                let named = value.as_str().and_then(Strategy::from_name);
                *strategy =
                    named.ok_or_else(|| wrong("\"none\", \"simple\", \"first\", \"average\" or \"max\""))?;
            }
            (OfTask::TokenClassification { ignore_labels, .. }, "ignore_labels") => {
                let label = |label: &Value| label.as_str().map(str::to_owned);
                let labels = value.as_array().and_then(|labels| labels.iter().map(label).collect());
                *ignore_labels = labels.ok_or_else(|| wrong("a list of labels such as [\"O\"]"))?;
            }
            (OfTask::TextClassification { top_k, .. }, "top_k") => {
                *top_k = match value {
                    Value::Null => TopK::All,
                    _ => TopK::Best(
                        count().ok_or_else(|| wrong("a number from 1 on, or null for all labels"))?,
                    ),
                };
            }
            (
                OfTask::TextClassification { function, .. } | OfTask::ImageClassification { function, .. },
                "function_to_apply",
            ) => {
                let named = value.as_str().and_then(Function::from_name);
                *function = named.ok_or_else(|| wrong("\"softmax\", \"sigmoid\" or \"none\""))?;
            }
            (OfTask::FeatureExtraction { pooling, .. }, "pooling") => {
                let named = value.as_str().and_then(Pooling::from_name);
                *pooling = named.ok_or_else(|| wrong("\"none\", \"mean\", \"cls\" or \"max\""))?;
            }
            (OfTask::FeatureExtraction { normalize, .. }, "normalize") => *normalize = flag()?,
            (of_task, _) => {
                return Err(format!(
                    "`parameters.{name}` is not known; known for this model's task are {}",
                    of_task.names()
                ));
            }
        }
        Ok(())
    }
}

/// A whole number. To JSON Schema 3.0 is one, too (section 6.1.1 of its validation), and some clients write it so.
fn whole(value: &Value) -> Option<u64> {
    let written_as_float = || value.as_f64().filter(|number| number.fract() == 0.0 && *number >= 0.0);
    value.as_u64().or_else(|| written_as_float().map(|number| number as u64))
}

impl OfTask {
    fn names(&self) -> &'static str {
        match self {
            Self::TokenClassification { .. } => "aggregation_strategy, ignore_labels and truncate",
            Self::TextClassification { .. } => "top_k, function_to_apply and truncate",
            Self::FeatureExtraction { .. } => "pooling, normalize and truncate",
            Self::ImageClassification { .. } => "top_k and function_to_apply",
            Self::Tensors => "none",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const CLASSIFICATION: Task = Task::TextClassification { function: Function::Softmax };
    const FEATURES: Task = Task::FeatureExtraction { pooling: Pooling::None, normalize: false };

    fn set(task: Task, name: &str, value: Value) -> Result<OfTask, String> {
        let mut parameters = Parameters::of(&task);
        parameters.set(name, &value).map(|()| parameters.of_task)
    }

    #[test]
    fn each_task_reads_its_own() {
        let top = |value| match set(CLASSIFICATION, "top_k", value) {
            Ok(OfTask::TextClassification { top_k, .. }) => Some(top_k),
            _ => None,
        };
        assert_eq!(top(json!(null)), Some(TopK::All));
        assert_eq!(top(json!(3)), NonZeroUsize::new(3).map(TopK::Best));
        assert_eq!(top(json!(3.0)), NonZeroUsize::new(3).map(TopK::Best));
        assert!(
            [json!(0), json!(-1.0), json!(0.5), json!("3")].into_iter().all(|value| top(value).is_none())
        );
        let function = set(CLASSIFICATION, "function_to_apply", json!("sigmoid"));
        assert!(matches!(function, Ok(OfTask::TextClassification { function: Function::Sigmoid, .. })));
        let pooling = set(FEATURES, "pooling", json!("MEAN"));
        assert!(matches!(pooling, Ok(OfTask::FeatureExtraction { pooling: Pooling::Mean, .. })));
        let normalize = set(FEATURES, "normalize", json!(true));
        assert!(matches!(normalize, Ok(OfTask::FeatureExtraction { normalize: true, .. })));
    }

    #[test]
    fn of_an_image_five_labels_are_answered_unless_another_number_is_asked_for() {
        let image = Task::ImageClassification { function: Function::Softmax };
        let top = |value| match set(image, "top_k", value) {
            Ok(OfTask::ImageClassification { top_k, .. }) => Some(top_k.get()),
            _ => None,
        };
        assert_eq!((top(json!(null)), top(json!(2)), top(json!(0))), (Some(5), Some(2), None));
        assert!(set(image, "truncate", json!(true)).unwrap_err().contains("top_k and function_to_apply"));
    }

    #[test]
    fn what_another_task_knows_is_refused_with_what_this_one_does() {
        let error = set(FEATURES, "top_k", json!(1)).unwrap_err();
        assert!(error.contains("`parameters.top_k`") && error.contains("pooling, normalize"), "{error}");
        let error = set(CLASSIFICATION, "top_k", json!("all")).unwrap_err();
        assert!(error.contains("null for all"), "{error}");
        assert!(set(FEATURES, "pooling", json!("median")).unwrap_err().contains("\"cls\""));
    }
}
