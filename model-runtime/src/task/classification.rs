//! Classification of a whole text or image: its labels with their scores, in the shape of Hugging Face's pipelines.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::softmax;
use crate::backend::{Granularity, Rows};

/// How logits become scores. The names are those of the pipeline's `function_to_apply`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Function {
    /// One of the labels holds: scores sum up to 1.
    Softmax,
    /// Each label holds or not, for itself.
    Sigmoid,
    /// The model's own numbers, as for a regression.
    None,
}

impl Function {
    /// What suits a model of texts: by `problem_type` of its config.json, else by its number of labels, as transformers does.
    pub fn infer(problem_type: Option<&str>, labels: usize) -> Self {
        match problem_type {
            Some("multi_label_classification") => Self::Sigmoid,
            Some("single_label_classification") => Self::Softmax,
            Some("regression") => Self::None,
            _ if labels == 1 => Self::Sigmoid,
            _ => Self::Softmax,
        }
    }

    /// What suits a model of images, as transformers does it: its pipeline takes the two kinds of problem the other way round (4.48, and
    /// since it was written). Scores that differ from those that people know from Python would be worse.
    pub fn infer_for_images(problem_type: Option<&str>, labels: usize) -> Self {
        match problem_type {
            Some("single_label_classification") => Self::Sigmoid,
            _ if labels == 1 => Self::Sigmoid,
            _ => Self::Softmax,
        }
    }

    /// The function of this name.
    pub fn from_name(name: &str) -> Option<Self> {
        let known = [Self::Softmax, Self::Sigmoid, Self::None];
        known.into_iter().find(|function| function.as_str().eq_ignore_ascii_case(name))
    }

    /// Its name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Softmax => "softmax",
            Self::Sigmoid => "sigmoid",
            Self::None => "none",
        }
    }

    fn apply(self, logits: &[f32]) -> Vec<f32> {
        match self {
            Self::Softmax => softmax(logits),
            Self::Sigmoid => logits.iter().map(|logit| 1.0 / (1.0 + (-logit).exp())).collect(),
            Self::None => logits.to_vec(),
        }
    }
}

/// A label and how sure the model is of it.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
#[schema(example = json!({"label": "positive", "score": 0.993}))]
pub struct Scored {
    /// The label.
    pub label: String,
    /// Its score.
    pub score: f32,
}

/// The best labels of a text or image, best first; equally good ones in the order of the labels.
///
/// # Errors
/// The model's output is not one finite number for each label.
pub fn classify(
    labels: &[String],
    output: &Rows,
    function: Function,
    top_k: usize,
) -> Result<Vec<Scored>, String> {
    if output.granularity != Granularity::Whole || output.values.len() != labels.len() {
        return Err(format!(
            "the model returned {} numbers for {} labels",
            output.values.len(),
            labels.len()
        ));
    }
    if output.values.iter().any(|logit| !logit.is_finite()) {
        return Err("the model returned a score that is not a number".to_owned());
    }
    let scores = function.apply(&output.values);
    let mut scored: Vec<Scored> =
        labels.iter().zip(scores).map(|(label, score)| Scored { label: label.clone(), score }).collect();
    scored.sort_by(|one, other| other.score.total_cmp(&one.score));
    scored.truncate(top_k);
    Ok(scored)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels() -> Vec<String> {
        ["bad", "fair", "good"].map(str::to_owned).to_vec()
    }

    fn output(values: [f32; 3]) -> Rows {
        Rows { values: values.to_vec(), columns: 3, granularity: Granularity::Whole }
    }

    #[test]
    fn the_best_come_first_and_equals_in_the_order_of_the_labels() {
        let scored = classify(&labels(), &output([1.0, 3.0, 1.0]), Function::Softmax, 3).unwrap();
        let names: Vec<&str> = scored.iter().map(|scored| scored.label.as_str()).collect();
        assert_eq!(names, ["fair", "bad", "good"]);
        let sum: f32 = scored.iter().map(|scored| scored.score).sum();
        assert!((sum - 1.0).abs() < 1e-6, "{sum}");
        assert_eq!(classify(&labels(), &output([1.0, 3.0, 1.0]), Function::Softmax, 1).unwrap().len(), 1);
    }

    #[test]
    fn each_function_gives_its_own_scores_without_overflow() {
        let score = |function| classify(&labels(), &output([0.0, 200.0, -200.0]), function, 3).unwrap();
        assert!((score(Function::Sigmoid)[1].score - 0.5).abs() < 1e-6);
        assert_eq!(score(Function::None)[0].score, 200.0);
        assert_eq!(score(Function::Softmax)[0].score, 1.0);
    }

    #[test]
    fn numbers_that_are_no_scores_are_an_error_not_an_answer() {
        assert!(classify(&labels(), &output([0.0, f32::NAN, 1.0]), Function::Softmax, 1).is_err());
        let per_token = Rows { granularity: Granularity::Token, ..output([0.0, 1.0, 2.0]) };
        assert!(classify(&labels(), &per_token, Function::Softmax, 1).is_err());
        assert!(classify(&labels()[..2], &output([0.0, 1.0, 2.0]), Function::Softmax, 1).is_err());
    }

    #[test]
    fn the_function_is_told_from_the_problem_and_else_from_the_labels() {
        assert_eq!(Function::infer(Some("multi_label_classification"), 3), Function::Sigmoid);
        assert_eq!(Function::infer(Some("regression"), 1), Function::None);
        assert_eq!(Function::infer(None, 1), Function::Sigmoid);
        assert_eq!(Function::infer(None, 2), Function::Softmax);
        assert_eq!(Function::infer_for_images(None, 1000), Function::Softmax);
        assert_eq!(Function::infer_for_images(Some("single_label_classification"), 3), Function::Sigmoid);
        assert_eq!(Function::infer_for_images(Some("multi_label_classification"), 3), Function::Softmax);
    }
}
