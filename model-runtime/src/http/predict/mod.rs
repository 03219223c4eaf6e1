//! `POST /predict`, in the shape of Hugging Face's pipelines.

mod answer;
mod parameters;
mod request;

use std::sync::Arc;
use std::time::Instant;

use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderName, HeaderValue, Request as HttpRequest};
use axum::response::{IntoResponse as _, Response};

use self::answer::answer;
use self::request::Request;
use super::body::read_json;
use super::error::ApiError;
use super::inference::{self, Reading, Writing, infer, reserve};
use super::state::App;
use crate::backend::{Output, Sample};
use crate::loading::Reader;
use crate::serving::Serving;
use crate::task::TaskKind;
use crate::text::{TextTokenizer, Tokenized};

/// How many inputs were cut at `max_seq_length`; absent when none was.
const TRUNCATED: HeaderName = HeaderName::from_static("x-truncated");
/// Which ones, counted from 0.
const TRUNCATED_INPUTS: HeaderName = HeaderName::from_static("x-truncated-inputs");

/// Answers a prediction request.
pub(super) async fn predict(State(app): State<Arc<App>>, request: HttpRequest<Body>) -> Response {
    let _in_flight = app.begin_prediction();
    let response = match respond(&app, request).await {
        Ok(response) => response,
        Err(error) => error.into_response(),
    };
    app.metrics.observe_status(response.status().as_u16());
    response
}

async fn respond(app: &Arc<App>, request: HttpRequest<Body>) -> Result<Response, ApiError> {
    let serving = inference::serving(app)?;
    let body = read_json(app, &serving, request).await?;
    let limit = serving.settings.tunables.request_timeout;
    infer(app, serving, limit, move |serving| read(serving, &body), write).await
}

/// What is asked, and the texts it is asked about.
struct Asked {
    request: Request,
    texts: Vec<Tokenized>,
}

/// Parses and tokenises, having made sure of a place in the queue.
fn read(serving: &Serving, body: &Bytes) -> Result<Reading<Asked>, ApiError> {
    let task = serving.model.description.task.kind();
    let request = Request::parse(body, &serving.model.description.task)?;
    let inputs = request.inputs.texts();
    let reservation = reserve(serving, inputs.len())?;
    let began = Instant::now();
    let Reader::Text(tokenizer) = &serving.model.reader else {
        return Err(ApiError::Unusable("this model takes tensors, not texts".to_owned()));
    };
    let mut texts = Vec::with_capacity(inputs.len());
    let mut samples = Vec::with_capacity(inputs.len());
    for (index, input) in inputs.iter().enumerate() {
        let mut text = tokenize(tokenizer, index, input, request.parameters.truncate)?;
        if text.ids.is_empty() && needs_every_text(task) {
            return Err(ApiError::Unusable(format!("input {index} has no token at all; send some text")));
        }
        // A text without a token (empty, or spaces only) holds no entity, so that nobody need look.
        let is_sent = !text.tokens.is_empty() || needs_every_text(task);
        samples.push(is_sent.then(|| Sample::Tokens(std::mem::take(&mut text.ids))));
        texts.push(text);
    }
    Ok(Reading { asked: Asked { request, texts }, samples, reservation, preparation: began.elapsed() })
}

fn tokenize(
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
        TaskKind::TextClassification | TaskKind::FeatureExtraction | TaskKind::Tensors => true,
    }
}

/// From numbers to JSON.
fn write(serving: &Serving, asked: Asked, outputs: Vec<Option<Output>>) -> Result<Writing, ApiError> {
    let Asked { request, texts } = asked;
    let json = answer(&serving.model, &request, &texts, &outputs)?;
    let truncated: Vec<usize> =
        texts.iter().enumerate().filter(|(_, text)| text.truncated).map(|(index, _)| index).collect();
    Ok(Writing { response: response(json, &truncated), inputs: texts.len(), truncated: truncated.len() })
}

fn response(json: Vec<u8>, truncated: &[usize]) -> Response {
    let mut response = json.into_response();
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    if !truncated.is_empty() {
        let list: Vec<String> = truncated.iter().map(ToString::to_string).collect();
        headers.insert(TRUNCATED, HeaderValue::from(truncated.len()));
        if let Ok(list) = HeaderValue::from_str(&list.join(",")) {
            headers.insert(TRUNCATED_INPUTS, list);
        }
    }
    response
}
