//! The span of a request, and those of its stages.

use std::collections::BTreeSet;
use std::time::{Duration, Instant, SystemTime};

use axum::http::HeaderMap;
use opentelemetry::propagation::TextMapPropagator as _;
use opentelemetry::trace::{Span as _, SpanKind, Status, TraceContextExt as _, Tracer as _};
use opentelemetry::{Context, KeyValue};
use opentelemetry_http::HeaderExtractor;
use opentelemetry_sdk::propagation::TraceContextPropagator;

use super::Traces;
use crate::engine::Batch;

/// What a request has been through until it could be answered.
#[derive(Debug)]
pub(crate) struct Course {
    /// How long its tokenising took, or the decoding of its images.
    pub(crate) preparation: Duration,
    /// When that was done, and its samples went into the queue.
    pub(crate) prepared: Instant,
    /// The batches that its samples were in.
    pub(crate) passages: BTreeSet<Passage>,
}

/// A batch that samples of a request were in: all those that were in it have the same times.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Passage {
    pub(crate) queue_time: Duration,
    pub(crate) inference_time: Duration,
    pub(crate) batch: Batch,
}

impl Traces {
    /// Begins the span of a request, to be the current one while the request is answered (see `http::trace`). The
    /// caller's span is its parent, if it names one (W3C Trace Context, `traceparent`). It ends when it is dropped, also because the client
    /// left.
    pub(crate) fn begin(&self, method: &str, route: &str, path: &str, headers: &HeaderMap) -> Context {
        let caller =
            TraceContextPropagator::new().extract_with_context(&Context::new(), &HeaderExtractor(headers));
        let attributes = [
            KeyValue::new("http.request.method", method.to_owned()),
            KeyValue::new("http.route", route.to_owned()),
            KeyValue::new("url.path", path.to_owned()),
            KeyValue::new("url.scheme", "http"),
        ];
        let span = self.tracer.span_builder(format!("{method} {route}"));
        let span = span.with_kind(SpanKind::Server).with_attributes(attributes);
        caller.with_span(span.start_with_context(&self.tracer, &caller))
    }

    /// Records the stages of the current request, whose answer has been written since `answering`.
    pub(crate) fn record(&self, course: &Course, answering: Instant) {
        let request = Context::current();
        if !request.span().is_recording() {
            return;
        }
        let (now, wall_clock) = (Instant::now(), SystemTime::now());
        let at = |instant: Instant| wall_clock - now.saturating_duration_since(instant);
        let stage = |name, began, ended, attributes: &[KeyValue]| {
            let span = self.tracer.span_builder(name).with_attributes(attributes.iter().cloned());
            let mut span = span.with_start_time(at(began)).start_with_context(&self.tracer, &request);
            span.end_with_timestamp(at(ended));
        };
        let Course { preparation, prepared, passages } = course;
        stage("tokenise", prepared.checked_sub(*preparation).unwrap_or(*prepared), *prepared, &[]);
        for Passage { queue_time, inference_time, batch } in passages {
            let started = *prepared + *queue_time;
            stage("queue", *prepared, started, &[]);
            let size = [("batch.size", batch.samples), ("batch.tokens", batch.tokens)];
            let size =
                size.map(|(name, count)| KeyValue::new(name, i64::try_from(count).unwrap_or(i64::MAX)));
            stage("inference", started, started + *inference_time, &size);
        }
        stage("answer", answering, now, &[]);
    }
}

/// Writes down how a request was answered.
pub(crate) fn answered(request: &Context, status: u16, error: Option<&str>) {
    let span = request.span();
    span.set_attribute(KeyValue::new("http.response.status_code", i64::from(status)));
    if let (500.., Some(error)) = (status, error) {
        // The caller's own faults (4xx) are none of the server's span, says the convention.
        span.set_attribute(KeyValue::new("error.type", status.to_string()));
        span.set_status(Status::error(error.to_owned()));
    }
}
