//! From the model's numbers to what its task says of texts and images, before a protocol writes it down.

use super::error::ApiError;
use super::predict::parameters::{OfTask, TopK};
use crate::backend::{Output, Rows};
use crate::loading::{LoadedModel, Reader};
use crate::task::classification::{Scored, classify};
use crate::task::feature_extraction::{Features, features};

use crate::task::token_classification::{Classifier, Entity};
use crate::text::Tokenized;

/// An answer for each input.
pub(super) enum Answers {
    Entities(Vec<Vec<Entity>>),
    /// Best first.
    Labels(Vec<Vec<Scored>>),
    Features(Vec<Features>),
}

/// What is said of inputs that the model has seen; `texts` is empty for images. A text without an output has no word in it, and so no entity.
pub(super) fn answers(
    model: &LoadedModel,
    asked: &OfTask,
    texts: &[Tokenized],
    outputs: &[Option<Output>],
) -> Result<Answers, ApiError> {
    let labels = &model.description.labels;
    let of_each = outputs.iter().map(rows);
    match asked {
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
            texts.iter().zip(outputs).map(entities).collect::<Result<_, _>>().map(Answers::Entities)
        }
        OfTask::TextClassification { function, top_k } => {
            let best = match top_k {
                TopK::Absent => 1,
                TopK::Best(count) => count.get(),
                TopK::All => labels.len(),
            };
            let scored =
                of_each.map(|output| classify(labels, output?, *function, best).map_err(ApiError::Inference));
            scored.collect::<Result<_, _>>().map(Answers::Labels)
        }
        OfTask::ImageClassification { function, top_k } => {
            let scored = of_each
                .map(|output| classify(labels, output?, *function, top_k.get()).map_err(ApiError::Inference));
            scored.collect::<Result<_, _>>().map(Answers::Labels)
        }
        OfTask::FeatureExtraction { pooling, normalize } => {
            let vectors =
                of_each.map(|output| features(output?, *pooling, *normalize).map_err(ApiError::Inference));
            vectors.collect::<Result<_, _>>().map(Answers::Features)
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
