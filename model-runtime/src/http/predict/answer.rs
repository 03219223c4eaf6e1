//! From the model's numbers to the JSON of an answer, task by task.

use serde::Serialize;

use super::super::error::ApiError;
use super::Asked;
use super::parameters::{OfTask, TopK};
use crate::backend::{Output, Rows};
use crate::loading::{LoadedModel, Reader};
use crate::task::classification::classify;
use crate::task::feature_extraction::features;
use crate::task::token_classification::{Classifier, Entity};
use crate::text::Tokenized;

/// The answer to a request whose inputs the model has seen. A text without an output has no word in it, and so no entity.
pub(super) fn answer(
    model: &LoadedModel,
    asked: &Asked,
    outputs: &[Option<Output>],
) -> Result<Vec<u8>, ApiError> {
    let labels = &model.description.labels;
    let of_each = || outputs.iter().map(rows);
    let Asked { parameters, alone, texts, .. } = asked;
    match &parameters.of_task {
        OfTask::TokenClassification { strategy, ignore_labels } => {
            let Reader::Text(joiner) = &model.reader else {
                return Err(ApiError::Internal("tokens are classified without a tokenizer".to_owned()));
            };
            let classifier = Classifier { labels, joiner: joiner.as_ref() };
            let entities = |(text, output): (&Tokenized, &Option<Output>)| -> Result<Vec<Entity>, ApiError> {
                if output.is_none() {
                    return Ok(Vec::new());
                }
                let found = classifier.entities(&text.tokens, rows(output)?, *strategy, ignore_labels);
                found.map_err(|error| ApiError::Inference(error.to_string()))
            };
            json(*alone, texts.iter().zip(outputs).map(entities))
        }
        OfTask::TextClassification { function, top_k } => {
            let best = match top_k {
                TopK::Absent => 1,
                TopK::Best(count) => count.get(),
                TopK::All => labels.len(),
            };
            let scored = of_each()
                .map(|output| classify(labels, output?, *function, best).map_err(ApiError::Inference));
            match top_k {
                // As the pipeline: one text's only label comes in a list, too.
                TopK::Absent => {
                    let flat: Vec<_> = scored.collect::<Result<Vec<_>, _>>()?.into_iter().flatten().collect();
                    to_json(&flat)
                }
                TopK::Best(_) | TopK::All => json(*alone, scored),
            }
        }
        OfTask::ImageClassification { function, top_k } => {
            let scored = of_each()
                .map(|output| classify(labels, output?, *function, top_k.get()).map_err(ApiError::Inference));
            json(*alone, scored)
        }
        OfTask::FeatureExtraction { pooling, normalize } => {
            let vectors =
                of_each().map(|output| features(output?, *pooling, *normalize).map_err(ApiError::Inference));
            json(*alone, vectors)
        }
        OfTask::Tensors => Err(ApiError::Internal("tensors are no texts".to_owned())),
    }
}

/// What the model said of a text that it has seen. Only texts of which nothing is asked but their words are kept from it.
fn rows(output: &Option<Output>) -> Result<&Rows, ApiError> {
    let seen =
        output.as_ref().ok_or_else(|| ApiError::Internal("a text was not given to the model".to_owned()))?;
    seen.rows().map_err(ApiError::Internal)
}

/// One input is answered by itself, several by a list.
fn json<T: Serialize>(
    alone: bool,
    answers: impl Iterator<Item = Result<T, ApiError>>,
) -> Result<Vec<u8>, ApiError> {
    let all = answers.collect::<Result<Vec<T>, ApiError>>()?;
    match all.first() {
        Some(only) if alone => to_json(only),
        _ => to_json(&all),
    }
}

fn to_json(answer: &impl Serialize) -> Result<Vec<u8>, ApiError> {
    serde_json::to_vec(answer)
        .map_err(|error| ApiError::Internal(format!("cannot write the answer: {error}")))
}
