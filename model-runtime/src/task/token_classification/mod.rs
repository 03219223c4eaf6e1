//! Token classification: each token's label, or the entities that labelled tokens form, in the shape of Hugging Face's
//! pipelines.
//!
//! Results equal those of `transformers`' `TokenClassificationPipeline` with one exception, on purpose. For tokenizers with
//! a sub-word prefix (`##`), `transformers` calls a token a sub-word when it is not as long as the text it stands for, and so
//! glues a word to the one before it when the tokenizer stripped combining marks off it. Here the tokenizer itself says
//! which word a token belongs to.

mod aggregation;
mod strategy;

use serde::Serialize;
use utoipa::ToSchema;

use super::softmax;
use crate::backend::Rows;
use crate::text::Token;

pub use strategy::Strategy;

/// One answer: a token (strategy `none`) or an entity.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
#[schema(example = json!({"entity_group": "GIVEN_NAME", "score": 0.998, "word": "zoe", "start": 11, "end": 14}))]
pub struct Entity {
    /// The token's full label, prefix included.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub entity: Option<String>,
    /// The entity's label without `B-` and `I-`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub entity_group: Option<String>,
    /// How sure the model is, from 0 to 1.
    pub score: f32,
    /// The token's place among the model's inputs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub index: Option<usize>,
    /// The text as the tokenizer writes it.
    pub word: String,
    /// Where it starts in the text, in characters.
    pub start: usize,
    /// Where it ends in the text, in characters.
    pub end: usize,
}

/// The model answered with something that is no score.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ScoreError {
    /// NaN or infinite.
    #[error("the model returned a score that is not a number (token {token})")]
    NotANumber {
        /// Which token.
        token: usize,
    },
    /// Fewer rows than tokens, or other labels.
    #[error("the model returned no scores for token {token}")]
    Missing {
        /// Which token.
        token: usize,
    },
}

/// Joins tokens to text; the tokenizer knows how.
pub trait JoinTokens {
    /// The text of these tokens.
    fn join(&self, tokens: Vec<String>) -> String;
}

/// Turns logits into entities.
#[derive(Debug)]
pub struct Classifier<'a, J> {
    /// The labels in the order of the columns.
    pub labels: &'a [String],
    /// Joins tokens to words.
    pub joiner: &'a J,
}

/// A token with its probabilities.
#[derive(Debug)]
struct Scored<'a> {
    token: &'a Token,
    scores: Vec<f32>,
}

impl<J: JoinTokens> Classifier<'_, J> {
    /// The entities of one text; labels in `ignore` (or in the default, `O`) are left out.
    pub fn entities(
        &self,
        tokens: &[Token],
        output: &Rows,
        strategy: Strategy,
        ignore: &[String],
    ) -> Result<Vec<Entity>, ScoreError> {
        let scored = score(tokens, output)?;
        let mut entities = self.aggregate(&scored, strategy);
        let kept = |label: &Option<String>| label.as_ref().is_none_or(|label| !ignore.contains(label));
        entities.retain(|entity| kept(&entity.entity) && kept(&entity.entity_group));
        Ok(entities)
    }

    fn label(&self, column: usize) -> &str {
        self.labels.get(column).map_or("", String::as_str)
    }
}

/// The softmax of each token's row.
fn score<'a>(tokens: &'a [Token], output: &Rows) -> Result<Vec<Scored<'a>>, ScoreError> {
    let rows: Vec<&[f32]> = output.iter().collect();
    tokens
        .iter()
        .map(|token| {
            let row = rows.get(token.index).ok_or(ScoreError::Missing { token: token.index })?;
            if row.iter().any(|logit| !logit.is_finite()) {
                return Err(ScoreError::NotANumber { token: token.index });
            }
            Ok(Scored { token, scores: softmax(row) })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::Granularity;

    struct Spaces;
    impl JoinTokens for Spaces {
        fn join(&self, tokens: Vec<String>) -> String {
            tokens.join(" ")
        }
    }

    fn token(index: usize) -> Token {
        Token { index, word: format!("t{index}"), start: index, end: index + 1, continues_word: false }
    }

    fn output(values: Vec<f32>) -> Rows {
        Rows { values, columns: 2, granularity: Granularity::Token }
    }

    #[test]
    fn a_score_that_is_not_a_number_is_an_error_not_an_answer() {
        let labels = ["O".to_owned(), "B-X".to_owned()];
        let classifier = Classifier { labels: &labels, joiner: &Spaces };
        for bad in [f32::NAN, f32::INFINITY] {
            let logits = output(vec![0.0, bad]);
            let result = classifier.entities(&[token(0)], &logits, Strategy::None, &[]);
            assert_eq!(result, Err(ScoreError::NotANumber { token: 0 }));
        }
        let short = output(vec![0.0, 0.0]);
        let result = classifier.entities(&[token(1)], &short, Strategy::None, &[]);
        assert_eq!(result, Err(ScoreError::Missing { token: 1 }));
    }

    #[test]
    fn ignored_labels_are_left_out() {
        let labels = ["O".to_owned(), "B-X".to_owned()];
        let classifier = Classifier { labels: &labels, joiner: &Spaces };
        let logits = output(vec![9.0, 0.0, 0.0, 9.0]);
        let tokens = [token(0), token(1)];
        let ignoring =
            |ignore: &[String]| classifier.entities(&tokens, &logits, Strategy::None, ignore).unwrap().len();
        assert_eq!(ignoring(&["O".to_owned()]), 1);
        assert_eq!(ignoring(&[]), 2);
    }
}
