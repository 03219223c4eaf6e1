//! `POST /predict`: read, parse, tokenise, queue, wait, answer.
//!
//! ```text
//!   async thread      text pool              model thread     text pool         async thread
//!   read the body ──▶ parse, reserve,   ──▶  forward     ──▶  entities, JSON ─▶ answer
//!                     tokenise
//! ```
//!
//! The client leaving drops the handler's future, and with it the reservation: its texts leave the queue.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Request as HttpRequest};
use axum::response::{IntoResponse as _, Response};

use super::answer::answer as write_answer;
use super::api::Request;
use super::error::ApiError;
use super::state::{App, Phase, Serving};
use crate::backend::{Output, TokenIds};
use crate::engine::{Answer, Full, Job, Reservation, submit};
use crate::metrics::Times;
use crate::task::TaskKind;
use crate::text::Tokenized;

/// How many inputs were cut at `max_seq_length`; absent when none was.
const TRUNCATED: HeaderName = HeaderName::from_static("x-truncated");
/// Which ones, counted from 0.
const TRUNCATED_INPUTS: HeaderName = HeaderName::from_static("x-truncated-inputs");

/// Answers a prediction request.
pub(super) async fn predict(State(app): State<Arc<App>>, request: HttpRequest<Body>) -> Response {
    let _in_flight = app.begin_prediction();
    let response = match answer(&app, request).await {
        Ok(response) => response,
        Err(error) => error.into_response(),
    };
    app.metrics.observe_status(response.status().as_u16());
    response
}

async fn answer(app: &Arc<App>, request: HttpRequest<Body>) -> Result<Response, ApiError> {
    // A request that was under way when the signal came is still answered: connections close after it.
    let serving = match (app.serving(), app.phase()) {
        (Some(serving), _) => Arc::clone(serving),
        (None, Phase::Draining) => return Err(ApiError::Draining),
        (None, _) => return Err(ApiError::Loading),
    };
    let body = read_body(app, request).await?;
    // Refused here already, a request to a full queue does not wait for the text pool.
    drop(serving.engine.queue().reserve(1).map_err(overloaded)?);
    let limit = app.settings.request_timeout;
    let work = infer(app, serving, body, Instant::now());
    tokio::time::timeout(limit, work).await.unwrap_or(Err(ApiError::DeadlineExceeded(limit)))
}

/// The body, if it is JSON, small enough, and arrives in time.
async fn read_body(app: &App, request: HttpRequest<Body>) -> Result<Bytes, ApiError> {
    let (head, body) = request.into_parts();
    require_json(&head.headers)?;
    let limit = app.settings.body_limit;
    let announced =
        head.headers.get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse::<usize>().ok());
    if announced.is_some_and(|length| length > limit) {
        return Err(ApiError::TooLarge(limit));
    }
    let timeout = app.settings.read_timeout;
    let read = tokio::time::timeout(timeout, axum::body::to_bytes(body, limit)).await;
    read.map_err(|_| ApiError::TooSlow(timeout))?.map_err(|error| {
        let too_large =
            std::error::Error::source(&error).is_some_and(|cause| cause.to_string().contains("length limit"));
        if too_large {
            ApiError::TooLarge(limit)
        } else {
            ApiError::WrongShape(format!("the body broke off: {error}"))
        }
    })
}

fn require_json(headers: &HeaderMap) -> Result<(), ApiError> {
    let Some(value) = headers.get(CONTENT_TYPE) else {
        return Err(ApiError::MediaType("missing".to_owned()));
    };
    let text = String::from_utf8_lossy(value.as_bytes());
    let kind = text.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    let is_json = kind == "application/json" || (kind.starts_with("application/") && kind.ends_with("+json"));
    if is_json { Ok(()) } else { Err(ApiError::MediaType(format!("`{kind}`"))) }
}

/// A request whose texts are ready for the model.
struct Prepared {
    request: Request,
    texts: Vec<Tokenized>,
    reservation: Reservation<Job>,
    tokenization: Duration,
}

async fn infer(
    app: &Arc<App>,
    serving: Arc<Serving>,
    body: Bytes,
    began: Instant,
) -> Result<Response, ApiError> {
    let for_texts = Arc::clone(&serving);
    let max_queue = app.settings.max_queue;
    let prepared = app.texts.run(move || prepare(&for_texts, max_queue, &body)).await;
    let mut prepared = prepared.map_err(|failed| ApiError::Internal(failed.to_string()))??;
    let (sent, replies) = send(&mut prepared, serving.model.description.task.kind());

    let mut times = Times { tokenization: prepared.tokenization, ..Times::default() };
    let mut outputs: Vec<Option<Output>> = vec![None; prepared.texts.len()];
    for (index, reply) in sent.into_iter().zip(replies) {
        let ended = |_| ApiError::Internal("the model threads have ended".to_owned());
        let Answer { output, queue_time, inference_time } =
            reply.await.map_err(ended)?.map_err(|error| ApiError::Inference(error.0))?;
        times.queue = times.queue.max(queue_time);
        times.inference = times.inference.max(inference_time);
        if let Some(place) = outputs.get_mut(index) {
            *place = Some(output);
        }
    }

    let finished = app.texts.run(move || finish(&serving, prepared, &outputs)).await;
    let (json, texts, truncated) = finished.map_err(|failed| ApiError::Internal(failed.to_string()))??;
    times.total = began.elapsed();
    app.metrics.observe_success(texts, truncated.len(), times);
    Ok(response(json, &truncated, times))
}

/// Parses and tokenises, having made sure of a place in the queue.
fn prepare(serving: &Serving, max_queue: usize, body: &[u8]) -> Result<Prepared, ApiError> {
    let request = Request::parse(body, &serving.model.description.task)?;
    let texts = request.inputs.texts();
    if texts.len() > max_queue {
        return Err(ApiError::Unusable(format!(
            "`inputs` has {} texts, but only {max_queue} can ever wait at once; send fewer at a time (--max-queue)",
            texts.len()
        )));
    }
    let reservation = serving.engine.queue().reserve(texts.len()).map_err(overloaded)?;
    let began = Instant::now();
    let mut tokenized = Vec::with_capacity(texts.len());
    for (index, text) in texts.iter().enumerate() {
        let unusable = |problem| ApiError::Unusable(format!("input {index} cannot be tokenised: {problem}"));
        let text = serving.model.tokenizer.encode(text).map_err(unusable)?;
        if text.truncated && !request.parameters.truncate {
            return Err(ApiError::Unusable(format!(
                "input {index} is longer than {} tokens; shorten it, or leave out `truncate: false`",
                serving.model.description.max_seq_length
            )));
        }
        if text.ids.is_empty() && needs_every_text(serving.model.description.task.kind()) {
            return Err(ApiError::Unusable(format!("input {index} has no token at all; send some text")));
        }
        tokenized.push(text);
    }
    Ok(Prepared { request, texts: tokenized, reservation, tokenization: began.elapsed() })
}

/// How soon to come again: a queue of this length drains in about this time on a slow CPU (5 ms a text), at least 1 s.
fn overloaded(full: Full) -> ApiError {
    let Full { depth, capacity } = full;
    let retry_after = u64::try_from(depth.div_ceil(200)).unwrap_or(u64::MAX).clamp(1, 60);
    ApiError::Overloaded { depth, capacity, retry_after }
}

/// Whether the model sees a text without words, too: to be labelled or turned into a vector as a whole.
fn needs_every_text(task: TaskKind) -> bool {
    match task {
        TaskKind::TokenClassification => false,
        TaskKind::TextClassification | TaskKind::FeatureExtraction => true,
    }
}

/// Puts the texts into the queue. Those without a token (empty, or spaces only) hold no entity, so that nobody need look.
fn send(
    prepared: &mut Prepared,
    task: TaskKind,
) -> (Vec<usize>, Vec<tokio::sync::oneshot::Receiver<crate::engine::Reply>>) {
    let mut sent = Vec::new();
    let mut rows: Vec<TokenIds> = Vec::new();
    for (index, text) in prepared.texts.iter_mut().enumerate() {
        if !text.tokens.is_empty() || needs_every_text(task) {
            sent.push(index);
            rows.push(std::mem::take(&mut text.ids));
        }
    }
    (sent, submit(&mut prepared.reservation, rows))
}

type Finished = (Vec<u8>, usize, Vec<usize>);

/// From numbers to JSON.
fn finish(serving: &Serving, prepared: Prepared, outputs: &[Option<Output>]) -> Result<Finished, ApiError> {
    let Prepared { request, texts, .. } = prepared;
    let json = write_answer(&serving.model, &request, &texts, outputs)?;
    let truncated =
        texts.iter().enumerate().filter(|(_, text)| text.truncated).map(|(index, _)| index).collect();
    Ok((json, texts.len(), truncated))
}

fn response(json: Vec<u8>, truncated: &[usize], times: Times) -> Response {
    let mut response = json.into_response();
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    let milliseconds =
        |time: Duration| HeaderValue::from_str(&format!("{:.3}", time.as_secs_f64() * 1e3)).ok();
    let timed = [
        ("x-total-time", times.total),
        ("x-tokenization-time", times.tokenization),
        ("x-queue-time", times.queue),
        ("x-inference-time", times.inference),
    ];
    for (name, time) in timed {
        if let Some(value) = milliseconds(time) {
            headers.insert(HeaderName::from_static(name), value);
        }
    }
    if !truncated.is_empty() {
        let list: Vec<String> = truncated.iter().map(ToString::to_string).collect();
        headers.insert(TRUNCATED, HeaderValue::from(truncated.len()));
        if let Ok(list) = HeaderValue::from_str(&list.join(",")) {
            headers.insert(TRUNCATED_INPUTS, list);
        }
    }
    response
}
