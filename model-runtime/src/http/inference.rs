//! From a request's body to its answer, whatever the protocol: read, queue, wait, answer.
//!
//! ```text
//!   text pool                model thread     text pool        async thread
//!   read: parse, reserve, ──▶ forward      ──▶ write: answer ──▶ timing headers
//!   tokenise
//! ```
//!
//! A protocol brings two functions, `read` and `write`, which run in the text pool. The client leaving drops the future, and with it the
//! reservation: its samples leave the queue.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::http::{HeaderName, HeaderValue};
use axum::response::{IntoResponse, Response};

use super::error::ApiError;
use super::state::{App, Phase};
use crate::backend::{Output, Sample};
use crate::engine::{Answer, Full, Job, Reservation, submit};
use crate::metrics::Times;
use crate::serving::Serving;
use crate::traces::{Course, Passage};

/// A request that is ready for the model.
pub(super) struct Reading<A> {
    /// What `write` needs to know beside the outputs.
    pub(super) asked: A,
    /// For each answer what the model must see, or nothing where there is nothing to see.
    pub(super) samples: Vec<Option<Sample>>,
    /// Their places in the queue.
    pub(super) reservation: Reservation<Job>,
    /// How long tokenising, or decoding images, took.
    pub(super) preparation: Duration,
    /// How long the client is willing to wait, if its body says.
    pub(super) limit: Option<Duration>,
}

impl<A> Reading<A> {
    /// The same with what is asked put into another type.
    pub(super) fn map<B>(self, asked: impl FnOnce(A) -> B) -> Reading<B> {
        let Self { samples, reservation, preparation, limit, .. } = self;
        Reading { asked: asked(self.asked), samples, reservation, preparation, limit }
    }
}

/// An answer.
pub(super) struct Writing {
    /// What the client gets; the timing headers are added to it.
    pub(super) response: Response,
    /// How many inputs it answers.
    pub(super) inputs: usize,
    /// How many of these were cut.
    pub(super) truncated: usize,
}

/// The model that answers this request to its end, or why there is none.
pub(super) fn serving(app: &App) -> Result<Arc<Serving>, ApiError> {
    // A request that was under way when the signal came is still answered: connections close after it.
    match (app.serving(), app.phase()) {
        (Some(serving), _) => Ok(serving),
        (None, Phase::Draining) => Err(ApiError::Draining),
        (None, _) => Err(ApiError::Loading),
    }
}

/// Places in the queue for so many samples.
///
/// # Errors
/// There are not so many, now or ever.
pub(super) fn reserve(serving: &Serving, samples: usize) -> Result<Reservation<Job>, ApiError> {
    let queue = serving.engine.queue();
    let capacity = queue.capacity();
    if samples > capacity {
        return Err(ApiError::Unusable(format!(
            "the request has {samples} inputs, but only {capacity} can ever wait at once; send fewer at a time (--max-queue)"
        )));
    }
    queue.reserve(samples).map_err(|full| overloaded(serving, full))
}

/// Does the work for a prediction request and counts it.
pub(super) async fn counted(
    app: &Arc<App>,
    work: impl Future<Output = Result<Response, ApiError>>,
) -> Response {
    let _in_flight = app.begin_prediction();
    let response = work.await.unwrap_or_else(IntoResponse::into_response);
    app.metrics.observe_status(response.status().as_u16());
    response
}

/// Answers a request within `limit`, or within what its body says, if that is less.
pub(super) async fn infer<A: Send + 'static>(
    app: &Arc<App>,
    serving: Arc<Serving>,
    limit: Duration,
    read: impl FnOnce(&Serving) -> Result<Reading<A>, ApiError> + Send + 'static,
    write: impl FnOnce(&Serving, A, Vec<Option<Output>>) -> Result<Writing, ApiError> + Send + 'static,
) -> Result<Response, ApiError> {
    // Refused here already, a request to a full queue does not wait for the text pool.
    drop(reserve(&serving, 1)?);
    let began = Instant::now();
    let late = |limit: Duration| move |_| ApiError::DeadlineExceeded(limit);
    let for_reading = Arc::clone(&serving);
    let reading = app.texts.run(move || read(&for_reading));
    let reading = tokio::time::timeout(limit, reading).await.map_err(late(limit))?;
    let reading = reading.map_err(|failed| ApiError::Internal(failed.to_string()))??;
    let limit = reading.limit.map_or(limit, |own| own.min(limit));
    let left = limit.saturating_sub(began.elapsed());
    tokio::time::timeout(left, run(app, serving, began, reading, write)).await.map_err(late(limit))?
}

async fn run<A: Send + 'static>(
    app: &Arc<App>,
    serving: Arc<Serving>,
    began: Instant,
    reading: Reading<A>,
    write: impl FnOnce(&Serving, A, Vec<Option<Output>>) -> Result<Writing, ApiError> + Send + 'static,
) -> Result<Response, ApiError> {
    let Reading { asked, samples, mut reservation, preparation, .. } = reading;
    let mut course = Course { preparation, prepared: Instant::now(), passages: BTreeSet::new() };
    let mut times = Times { tokenization: preparation, ..Times::default() };
    let mut outputs: Vec<Option<Output>> = vec![None; samples.len()];
    let (places, samples): (Vec<usize>, Vec<Sample>) =
        samples.into_iter().enumerate().filter_map(|(place, sample)| Some((place, sample?))).unzip();
    for (place, reply) in places.into_iter().zip(submit(&mut reservation, samples)) {
        let ended = |_| ApiError::Internal("the model threads have ended".to_owned());
        let Answer { output, queue_time, inference_time, batch } = reply.await.map_err(ended)??;
        times.queue = times.queue.max(queue_time);
        times.inference = times.inference.max(inference_time);
        course.passages.insert(Passage { queue_time, inference_time, batch });
        if let Some(place) = outputs.get_mut(place) {
            *place = Some(output);
        }
    }

    let answering = Instant::now();
    let writing = app.texts.run(move || write(&serving, asked, outputs)).await;
    let Writing { mut response, inputs, truncated } =
        writing.map_err(|failed| ApiError::Internal(failed.to_string()))??;
    times.total = began.elapsed();
    app.metrics.observe_success(inputs, truncated, times);
    if let Some(traces) = &app.traces {
        traces.record(&course, answering);
    }
    add_times(&mut response, times);
    Ok(response)
}

/// How soon to come again: when the queue, at the pace of the latest batches, will be empty; 1 to 60 s.
fn overloaded(serving: &Serving, full: Full) -> ApiError {
    let Full { depth, capacity } = full;
    let seconds =
        serving.engine.condition().drain_time(depth).map_or(1, |time| time.as_secs_f64().ceil() as u64);
    ApiError::Overloaded { depth, capacity, retry_after: seconds.clamp(1, 60) }
}

fn add_times(response: &mut Response, times: Times) {
    let timed = [
        ("x-total-time", times.total),
        ("x-tokenization-time", times.tokenization),
        ("x-queue-time", times.queue),
        ("x-inference-time", times.inference),
    ];
    for (name, time) in timed {
        // Milliseconds in digits are always a header's value.
        if let Ok(value) = HeaderValue::from_str(&format!("{:.3}", time.as_secs_f64() * 1e3)) {
            response.headers_mut().insert(HeaderName::from_static(name), value);
        }
    }
}
