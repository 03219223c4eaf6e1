//! Texts or images in; entities, labels or vectors out: `{"inputs": "…" | ["…", …], "parameters": {…}}`.

use std::time::Instant;

use axum::response::Response;
use serde::Serialize;

use super::super::answers::{Answers, answers};
use super::super::error::ApiError;
use super::super::inference::{Reading, Writing, reserve};
use super::super::texts::{Tokens, mark_truncated, tokenize};
use super::parameters::{OfTask, TopK};
use super::request::{Inputs, Request};
use super::{images, json_response};
use crate::backend::Output;
use crate::loading::Reader;
use crate::serving::Serving;
use crate::text::Tokenized;

/// What is asked, and what the answer needs to know of the inputs it is asked about.
pub(super) struct Asked {
    parameters: OfTask,
    /// Whether there is a single input, not in a list.
    alone: bool,
    inputs: usize,
    /// Empty for images.
    texts: Vec<Tokenized>,
}

/// Tokenises or decodes, having made sure of a place in the queue.
pub(super) fn read(serving: &Serving, request: &Request<Inputs>) -> Result<Reading<Asked>, ApiError> {
    let Request { inputs, parameters } = request;
    let reservation = reserve(serving, inputs.len())?;
    let began = Instant::now();
    let Tokens { texts, samples } = match &serving.model.reader {
        Reader::Image(preprocessor) => {
            Tokens { texts: Vec::new(), samples: images::samples(preprocessor, inputs)? }
        }
        Reader::Text(_) | Reader::Tensors => tokenize(&serving.model, inputs.texts(), parameters.truncate)?,
    };
    let asked = Asked {
        parameters: parameters.of_task.clone(),
        alone: inputs.is_alone(),
        inputs: inputs.len(),
        texts,
    };
    Ok(Reading { asked, samples, reservation, preparation: began.elapsed(), limit: None })
}

/// From numbers to JSON.
pub(super) fn write(
    serving: &Serving,
    asked: Asked,
    outputs: &[Option<Output>],
) -> Result<Writing, ApiError> {
    let Asked { parameters, alone, inputs, texts } = asked;
    let mut response = match answers(&serving.model, &parameters, &texts, outputs)? {
        Answers::Entities(entities) => one_or_all(alone, &entities),
        Answers::Features(vectors) => one_or_all(alone, &vectors),
        Answers::Labels(labels) => match parameters {
            // As the pipeline: one text's only label comes in a list, too.
            OfTask::TextClassification { top_k: TopK::Absent, .. } => {
                json_response(&labels.into_iter().flatten().collect::<Vec<_>>())
            }
            _ => one_or_all(alone, &labels),
        },
    }?;
    let truncated = mark_truncated(response.headers_mut(), &texts);
    Ok(Writing { response, inputs, truncated })
}

/// One input is answered by itself, several by a list.
fn one_or_all<T: Serialize>(alone: bool, answers: &[T]) -> Result<Response, ApiError> {
    match answers {
        [only] if alone => json_response(only),
        all => json_response(&all),
    }
}
