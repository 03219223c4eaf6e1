//! Traces, as a collector receives them; and that a collector which is absent or hangs disturbs nobody.

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Bytes;
use axum::routing::post;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{KeyValue, any_value::Value};
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message as _;
use serde_json::json;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use crate::support::{Server, model_dir, program};

const PATIENCE: Duration = Duration::from_secs(60);
/// The example of W3C Trace Context.
const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const CALLER: &str = "00f067aa0ba902b7";

/// A collector: takes what comes, and hands it on.
struct Collector {
    url: String,
    received: UnboundedReceiver<ExportTraceServiceRequest>,
}

impl Collector {
    async fn start() -> Self {
        let (sender, received) = unbounded_channel();
        let take = move |body: Bytes| async move {
            // The test may have seen enough.
            let _ = sender.send(ExportTraceServiceRequest::decode(body).unwrap());
        };
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async { axum::serve(listener, Router::new().route("/v1/traces", post(take))).await });
        Self { url, received }
    }

    /// The spans of the next export, by name, and the attributes of the process that they are of.
    async fn next(&mut self) -> (BTreeMap<String, Span>, BTreeMap<String, String>) {
        let request =
            tokio::time::timeout(PATIENCE, self.received.recv()).await.expect("no traces came").unwrap();
        let of_process = request.resource_spans.into_iter().next().unwrap();
        let spans = of_process.scope_spans.into_iter().flat_map(|scope| scope.spans);
        (
            spans.map(|span| (span.name.clone(), span)).collect(),
            attributes(&of_process.resource.unwrap().attributes),
        )
    }
}

fn attributes(list: &[KeyValue]) -> BTreeMap<String, String> {
    let text = |value: &Value| match value {
        Value::StringValue(text) => text.clone(),
        Value::IntValue(number) => number.to_string(),
        other => format!("{other:?}"),
    };
    let value = |pair: &KeyValue| text(pair.value.as_ref().unwrap().value.as_ref().unwrap());
    list.iter().map(|pair| (pair.key.clone(), value(pair))).collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn traced(url: &str, more: &[(&str, &str)]) -> Server {
    let mut command = program();
    command.env("OTEL_EXPORTER_OTLP_ENDPOINT", url).envs(more.iter().copied());
    let mut server = Server::start(command, &model_dir(), &[]);
    server.wait_for_log("ready");
    server
}

#[tokio::test]
async fn a_prediction_is_a_span_of_the_callers_trace_with_a_child_for_each_stage() {
    let mut collector = Collector::start().await;
    let named = [
        ("OTEL_SERVICE_NAME", "ner-test"),
        ("OTEL_RESOURCE_ATTRIBUTES", "team=a"),
        ("OTEL_BSP_SCHEDULE_DELAY", "50"),
    ];
    let server = traced(&collector.url, &named);
    assert_eq!(server.get("/health").await.0, 200);
    let request = reqwest::Client::new().post(format!("{}/predict", server.url));
    let request = request.header("traceparent", format!("00-{TRACE}-{CALLER}-01"));
    assert_eq!(request.json(&json!({"inputs": "Zoë lives in Berlin."})).send().await.unwrap().status(), 200);

    let (spans, process) = collector.next().await;
    assert_eq!((process["service.name"].as_str(), process["team"].as_str()), ("ner-test", "a"));
    let names: Vec<&str> = spans.keys().map(String::as_str).collect();
    assert_eq!(names, ["POST /predict", "answer", "inference", "queue", "tokenise"], "probes are not traced");
    let root = &spans["POST /predict"];
    assert_eq!((hex(&root.trace_id).as_str(), hex(&root.parent_span_id).as_str()), (TRACE, CALLER));
    let of_root = attributes(&root.attributes);
    assert_eq!(
        (of_root["http.route"].as_str(), of_root["http.response.status_code"].as_str()),
        ("/predict", "200")
    );
    let mut last = root.start_time_unix_nano;
    for name in ["tokenise", "queue", "inference", "answer"] {
        let stage = &spans[name];
        assert_eq!((&stage.trace_id, &stage.parent_span_id), (&root.trace_id, &root.span_id), "{name}");
        assert!(
            stage.start_time_unix_nano >= last && stage.end_time_unix_nano <= root.end_time_unix_nano,
            "{name}"
        );
        last = stage.start_time_unix_nano;
    }
    let inference = attributes(&spans["inference"].attributes);
    assert_eq!(inference["batch.size"], "1");
    assert!(inference["batch.tokens"].parse::<u32>().unwrap() > 5, "{inference:?}");
}

#[tokio::test]
async fn what_waits_is_sent_at_the_end_and_refusals_are_spans_too() {
    let mut collector = Collector::start().await;
    let mut server = traced(&collector.url, &[("OTEL_BSP_SCHEDULE_DELAY", "600000")]);
    assert_eq!(server.predict(&json!({"inputs": []})).await.status(), 422);
    assert_eq!(server.stop().code(), Some(0));
    let (spans, process) = collector.next().await;
    assert_eq!(process["service.name"], "model-runtime");
    assert_eq!(attributes(&spans["POST /predict"].attributes)["http.response.status_code"], "422");
}

#[tokio::test]
async fn a_caller_that_does_not_sample_is_not_traced() {
    let mut collector = Collector::start().await;
    let mut server = traced(&collector.url, &[]);
    for (flag, text) in [("00", "not sampled"), ("01", "sampled")] {
        let request = reqwest::Client::new().post(format!("{}/predict", server.url));
        let request = request
            .header("traceparent", format!("00-{TRACE}-{CALLER}-{flag}"))
            .json(&json!({"inputs": text}));
        assert_eq!(request.send().await.unwrap().status(), 200);
    }
    server.stop();
    let (spans, _) = collector.next().await;
    assert_eq!(spans.len(), 5);
    assert!(collector.received.try_recv().is_err());
}

#[tokio::test]
async fn a_collector_that_hangs_or_is_absent_disturbs_nobody_and_is_named_in_the_log() {
    // Connections to it are made, but nobody answers.
    let hanging = TcpListener::bind("127.0.0.1:0").unwrap();
    let absent = {
        let closed = TcpListener::bind("127.0.0.1:0").unwrap();
        closed.local_addr().unwrap()
    };
    for address in [hanging.local_addr().unwrap(), absent] {
        let more = [("OTEL_BSP_SCHEDULE_DELAY", "20"), ("OTEL_BSP_MAX_QUEUE_SIZE", "10")];
        let mut server = traced(&format!("http://{address}"), &more);
        for _ in 0..20 {
            assert_eq!(server.predict(&json!({"inputs": "Zoë"})).await.status(), 200);
        }
        if address == absent {
            let warning = server.wait_for_log("traces cannot be sent");
            assert!(warning["collector"].as_str().unwrap().contains(&address.to_string()), "{warning}");
        }
        let asked = Instant::now();
        assert_eq!(server.stop().code(), Some(0));
        assert!(
            asked.elapsed() < Duration::from_secs(8),
            "the end waited for the collector: {:?}",
            asked.elapsed()
        );
    }
}

#[tokio::test]
async fn what_this_server_cannot_do_is_a_warning_and_it_serves() {
    let mut command = program();
    command.envs([
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://localhost:4317"),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"),
    ]);
    let mut server = Server::start(command, &model_dir(), &[]);
    server.wait_for_log("ready");
    assert!(
        server.log.iter().any(|line| line.contains("http/protobuf") && line.contains("WARN")),
        "{:?}",
        server.log
    );
    assert_eq!(server.predict(&json!({"inputs": "Zoë"})).await.status(), 200);
}
