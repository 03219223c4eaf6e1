//! `POST /predict`, in the shape of Hugging Face's pipelines.

mod answer;
mod images;
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
use self::parameters::Parameters;
use self::request::Request;
use super::body::{self, media_type, read_json};
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
    let sent = receive(app, &serving, request).await?;
    let limit = serving.settings.tunables.request_timeout;
    infer(app, serving, limit, move |serving| read(serving, sent), write).await
}

/// The body of a request.
enum Sent {
    /// `{"inputs": …, "parameters": …}`
    Json(Bytes),
    /// An image file.
    Image(Bytes),
}

async fn receive(app: &App, serving: &Serving, request: HttpRequest<Body>) -> Result<Sent, ApiError> {
    let Reader::Image(_) = &serving.model.reader else {
        return read_json(app, serving, request).await.map(Sent::Json);
    };
    match media_type(request.headers()) {
        Some(kind) if images::MEDIA_TYPES.contains(&kind.as_str()) => {
            body::read(app, serving, request).await.map(Sent::Image)
        }
        _ => match read_json(app, serving, request).await {
            Err(ApiError::MediaType(found)) => Err(ApiError::NoImageType(found)),
            read => read.map(Sent::Json),
        },
    }
}

/// What is asked, and what the answer needs to know of the inputs it is asked about.
struct Asked {
    parameters: Parameters,
    /// Whether there is a single input, not in a list.
    alone: bool,
    inputs: usize,
    /// Empty for images.
    texts: Vec<Tokenized>,
}

/// Parses, and tokenises or decodes, having made sure of a place in the queue.
fn read(serving: &Serving, sent: Sent) -> Result<Reading<Asked>, ApiError> {
    let task = &serving.model.description.task;
    let Request { inputs, parameters } = match sent {
        Sent::Json(body) => Request::parse(&body, task)?,
        Sent::Image(file) => Request::of_file(file, task),
    };
    let reservation = reserve(serving, inputs.len())?;
    let began = Instant::now();
    let (samples, texts) = match &serving.model.reader {
        Reader::Text(tokenizer) => tokenize_all(tokenizer, task.kind(), inputs.texts(), parameters.truncate)?,
        Reader::Image(preprocessor) => (images::samples(preprocessor, &inputs)?, Vec::new()),
        Reader::Tensors => {
            return Err(ApiError::Unusable("this model takes tensors, not texts".to_owned()));
        }
    };
    let asked = Asked { parameters, alone: inputs.is_alone(), inputs: inputs.len(), texts };
    Ok(Reading { asked, samples, reservation, preparation: began.elapsed() })
}

/// Each text's sample, if the model must see it, and its tokens.
fn tokenize_all(
    tokenizer: &TextTokenizer,
    task: TaskKind,
    inputs: &[String],
    truncate: bool,
) -> Result<(Vec<Option<Sample>>, Vec<Tokenized>), ApiError> {
    let mut texts = Vec::with_capacity(inputs.len());
    let mut samples = Vec::with_capacity(inputs.len());
    for (index, input) in inputs.iter().enumerate() {
        let mut text = tokenize(tokenizer, index, input, truncate)?;
        if text.ids.is_empty() && needs_every_text(task) {
            return Err(ApiError::Unusable(format!("input {index} has no token at all; send some text")));
        }
        // A text without a token (empty, or spaces only) holds no entity, so that nobody need look.
        let is_sent = !text.tokens.is_empty() || needs_every_text(task);
        samples.push(is_sent.then(|| Sample::Tokens(std::mem::take(&mut text.ids))));
        texts.push(text);
    }
    Ok((samples, texts))
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
        TaskKind::TextClassification
        | TaskKind::FeatureExtraction
        | TaskKind::ImageClassification
        | TaskKind::Tensors => true,
    }
}

/// From numbers to JSON.
fn write(serving: &Serving, asked: Asked, outputs: Vec<Option<Output>>) -> Result<Writing, ApiError> {
    let json = answer(&serving.model, &asked, &outputs)?;
    let Asked { inputs, texts, .. } = asked;
    let truncated: Vec<usize> =
        texts.iter().enumerate().filter(|(_, text)| text.truncated).map(|(index, _)| index).collect();
    Ok(Writing { response: response(json, &truncated), inputs, truncated: truncated.len() })
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
