//! Traces: spans of predictions, sent to a collector by OTLP where the environment asks for it (`OTEL_EXPORTER_OTLP_ENDPOINT`).
//!
//! ```text
//!   POST /predict ─┬─ tokenise
//!                  ├─ queue ─ inference    a pair for each batch that the request had samples in
//!                  └─ answer
//! ```
//!
//! A span is made after its end, from the times that are taken anyhow; so the model threads know nothing of traces, and without a
//! collector nothing is done at all. Spans wait in a bounded queue (`OTEL_BSP_MAX_QUEUE_SIZE`) for a thread of their own, and are lost when it
//! is full: no request ever waits for a collector. The names of the variables and of the attributes are OpenTelemetry's
//! (its specification of SDK environment variables, and its semantic conventions of HTTP spans).

mod collector;
mod span;

use std::time::Duration;

use opentelemetry::KeyValue;
use opentelemetry::trace::TracerProvider as _;
use opentelemetry_otlp::{Protocol, SpanExporter, WithExportConfig as _, WithHttpConfig as _};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{SdkTracer, SdkTracerProvider};

use collector::Collector;
pub(crate) use span::{Course, Passage, answered};

/// Where spans go.
#[derive(Debug)]
pub struct Traces {
    provider: SdkTracerProvider,
    tracer: SdkTracer,
}

impl Traces {
    /// What the variables of OpenTelemetry ask for, read by `variable`; nothing where no collector is named.
    ///
    /// # Errors
    /// They ask for something that cannot be done. By the specification that is worth a warning, and no reason not to serve.
    pub fn from_environment(variable: impl Fn(&str) -> Option<String>) -> Result<Option<Self>, String> {
        let Some(endpoint) = endpoint(&variable)? else { return Ok(None) };
        let exporter = SpanExporter::builder()
            .with_http()
            .with_protocol(Protocol::HttpBinary)
            .with_http_client(Collector::new(&endpoint))
            .build()
            .map_err(|error| format!("no traces: {error}"))?;
        let mut resource = Resource::builder();
        let named = variable("OTEL_SERVICE_NAME").is_some()
            || variable("OTEL_RESOURCE_ATTRIBUTES").is_some_and(|list| list.contains("service.name="));
        if !named {
            resource = resource.with_service_name(env!("CARGO_PKG_NAME"));
        }
        let version = KeyValue::new("service.version", env!("CARGO_PKG_VERSION"));
        let provider = SdkTracerProvider::builder()
            .with_batch_exporter(exporter)
            .with_resource(resource.with_attribute(version).build())
            .build();
        let tracer = provider.tracer(env!("CARGO_PKG_NAME"));
        Ok(Some(Self { provider, tracer }))
    }

    /// Sends what is left, for so long at most. Blocks.
    pub fn finish(&self, within: Duration) {
        if let Err(error) = self.provider.shutdown_with_timeout(within) {
            tracing::warn!(%error, "the last traces are lost");
        }
    }
}

/// Where to send spans to, if anywhere.
fn endpoint(variable: &impl Fn(&str) -> Option<String>) -> Result<Option<String>, String> {
    let of = |name: &str| variable(name).filter(|value| !value.trim().is_empty());
    let is = |name: &str, wanted: &str| of(name).is_some_and(|value| value.eq_ignore_ascii_case(wanted));
    if is("OTEL_SDK_DISABLED", "true") || is("OTEL_TRACES_EXPORTER", "none") {
        return Ok(None);
    }
    // The first of each pair is the one for traces, and wins.
    let first = |names: [&str; 2]| names.into_iter().find_map(of);
    let Some(endpoint) = first(["OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT"]) else {
        return Ok(None);
    };
    if !endpoint.starts_with("http://") {
        return Err(format!(
            "no traces: the collector `{endpoint}` is not an http:// address; run a collector beside the server, which can speak TLS to others"
        ));
    }
    let protocol = first(["OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL"]);
    match protocol.as_deref() {
        None | Some("http/protobuf") => Ok(Some(endpoint)),
        Some(other) => Err(format!(
            "no traces: OTEL_EXPORTER_OTLP_PROTOCOL is `{other}`; this server speaks http/protobuf, which collectors take on port 4318"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(set: &[(&str, &str)]) -> Result<Option<String>, String> {
        endpoint(&|name: &str| {
            set.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
        })
    }

    #[test]
    fn without_a_collector_there_are_no_traces() {
        assert_eq!(found(&[]), Ok(None));
        assert_eq!(found(&[("OTEL_EXPORTER_OTLP_ENDPOINT", " ")]), Ok(None));
        let general = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://a:4318");
        assert_eq!(found(&[general]), Ok(Some("http://a:4318".to_owned())));
        assert_eq!(found(&[general, ("OTEL_SDK_DISABLED", "TRUE")]), Ok(None));
        assert_eq!(found(&[general, ("OTEL_TRACES_EXPORTER", "none")]), Ok(None));
        let own = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://b/v1/traces");
        assert_eq!(found(&[general, own]), Ok(Some("http://b/v1/traces".to_owned())));
    }

    #[test]
    fn what_cannot_be_done_is_said() {
        let general = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://a:4317");
        let error = found(&[general, ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")]).unwrap_err();
        assert!(error.contains("`grpc`") && error.contains("4318"), "{error}");
        let error = found(&[("OTEL_EXPORTER_OTLP_ENDPOINT", "https://a")]).unwrap_err();
        assert!(error.contains("https://a"), "{error}");
    }
}
