//! What both protocols do with texts: into samples, and what they say when some were cut.

use axum::http::{HeaderMap, HeaderName, HeaderValue};

use super::error::ApiError;
use crate::backend::Sample;
use crate::loading::{LoadedModel, Reader};
use crate::task::TaskKind;
use crate::text::{TextTokenizer, Tokenized};

/// How many inputs were cut at `max_seq_length`; absent when none was.
const TRUNCATED: HeaderName = HeaderName::from_static("x-truncated");
/// Which ones, counted from 0.
const TRUNCATED_INPUTS: HeaderName = HeaderName::from_static("x-truncated-inputs");

/// Texts with what the model must see of them: nothing of a text that needs no look.
pub(super) struct Tokens {
    pub(super) texts: Vec<Tokenized>,
    pub(super) samples: Vec<Option<Sample>>,
}

/// Tokenises all texts of a request. Texts that are too long are cut if `truncate` says so.
///
/// # Errors
/// A text that cannot be tokenised, or is too long, or has no token where one is needed.
pub(super) fn tokenize(
    model: &LoadedModel,
    inputs: &[impl AsRef<str>],
    truncate: bool,
) -> Result<Tokens, ApiError> {
    let Reader::Text(tokenizer) = &model.reader else {
        return Err(ApiError::Internal("texts for a model without a tokenizer".to_owned()));
    };
    let needs_every_text = needs_every_text(model.description.task.kind());
    let mut texts = Vec::with_capacity(inputs.len());
    let mut samples = Vec::with_capacity(inputs.len());
    for (index, input) in inputs.iter().enumerate() {
        let mut text = tokenize_one(tokenizer, index, input.as_ref(), truncate)?;
        if text.ids.is_empty() && needs_every_text {
            return Err(ApiError::Unusable(format!("input {index} has no token at all; send some text")));
        }
        // A text without a token (empty, or spaces only) holds no entity, so that nobody need look.
        let is_sent = !text.tokens.is_empty() || needs_every_text;
        samples.push(is_sent.then(|| Sample::Tokens(std::mem::take(&mut text.ids))));
        texts.push(text);
    }
    Ok(Tokens { texts, samples })
}

fn tokenize_one(
    tokenizer: &TextTokenizer,
    index: usize,
    input: &str,
    truncate: bool,
) -> Result<Tokenized, ApiError> {
    let unusable = |problem| ApiError::Unusable(format!("input {index} cannot be tokenised: {problem}"));
    let text = tokenizer.encode(input).map_err(unusable)?;
    if text.truncated && !truncate {
        return Err(ApiError::Unusable(format!(
            "input {index} is longer than {} tokens; shorten it, or leave out `truncate: false`",
            tokenizer.max_length()
        )));
    }
    Ok(text)
}

/// Whether the model sees a text without words, too: to be labelled or turned into a vector as a whole.
fn needs_every_text(task: TaskKind) -> bool {
    match task {
        TaskKind::TokenClassification => false,
        TaskKind::TextClassification
        | TaskKind::FeatureExtraction
        | TaskKind::ImageClassification
        | TaskKind::Tensors => true,
    }
}

/// Says in the headers of an answer which texts were cut; returns how many.
pub(super) fn mark_truncated(headers: &mut HeaderMap, texts: &[Tokenized]) -> usize {
    let cut = texts.iter().enumerate().filter(|(_, text)| text.truncated);
    let places: Vec<String> = cut.map(|(index, _)| index.to_string()).collect();
    if !places.is_empty() {
        headers.insert(TRUNCATED, HeaderValue::from(places.len()));
        if let Ok(list) = HeaderValue::from_str(&places.join(",")) {
            headers.insert(TRUNCATED_INPUTS, list);
        }
    }
    places.len()
}
