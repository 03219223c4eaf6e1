//! Prometheus metrics, named after the conventions of text-embeddings-inference: durations in seconds.

use std::time::Duration;

use prometheus::{
    Encoder as _, Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry,
    TextEncoder,
};

use crate::backend::Sample;

/// From a tiny model on a GPU to a full queue on a CPU.
const SECONDS: [f64; 16] =
    [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.02, 0.03, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0];
/// Tokenising a sentence takes 0.05 ms.
const SHORT_SECONDS: [f64; 10] = [0.000_05, 0.000_1, 0.000_25, 0.000_5, 0.001, 0.005, 0.01, 0.05, 0.1, 1.0];
const ROWS: [f64; 9] = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0];
const TOKENS: [f64; 11] = [8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0, 4096.0, 16384.0, 65536.0];

/// Of `model_runtime_model_info`, in the order of [`ModelInfo`].
const MODEL_LABELS: [&str; 4] = ["model", "version", "device", "precision"];

/// Everything that is counted.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    requests: IntCounterVec,
    texts: IntCounter,
    truncated: IntCounter,
    request_duration: Histogram,
    queue_duration: Histogram,
    inference_duration: Histogram,
    tokenization_duration: Histogram,
    batch_size: Histogram,
    batch_tokens: Histogram,
    padding_tokens: IntCounter,
    batch_failures: IntCounter,
    queue_size: IntGauge,
    queue_capacity: IntGauge,
    ready: IntGauge,
    model_info: IntGaugeVec,
    model_load_duration: Histogram,
    settings_changes: IntCounterVec,
    gpu_memory_used: IntGaugeVec,
    gpu_memory_total: IntGaugeVec,
}

/// The times of one answered request.
#[derive(Debug, Clone, Copy, Default)]
pub struct Times {
    /// From the last byte of the request to the answer.
    pub total: Duration,
    /// Tokenising all its texts.
    pub tokenization: Duration,
    /// The longest wait of a text for a model thread.
    pub queue: Duration,
    /// The longest forward that one of its texts was in.
    pub inference: Duration,
}

/// Which model serves, where and how.
#[derive(Debug, Clone, Copy)]
pub struct ModelInfo<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its version, or nothing.
    pub version: &'a str,
    /// The devices it is on.
    pub device: &'a str,
    /// The number format it computes in.
    pub precision: &'a str,
}

impl Metrics {
    /// All metrics at zero.
    pub fn new() -> Result<Self, prometheus::Error> {
        let registry = Registry::new();
        let with = Register(&registry);
        Ok(Self {
            requests: with.counters(
                "request_count",
                "Answered prediction requests by HTTP status",
                "status",
            )?,
            texts: with.counter("text_count", "Texts answered")?,
            truncated: with.counter("text_truncated_count", "Texts that were cut at max_seq_length")?,
            request_duration: with.histogram(
                "request_duration",
                "Seconds from request to answer",
                &SECONDS,
            )?,
            queue_duration: with.histogram(
                "request_queue_duration",
                "Seconds that a request waited",
                &SECONDS,
            )?,
            inference_duration: with.histogram(
                "request_inference_duration",
                "Seconds in the model",
                &SECONDS,
            )?,
            tokenization_duration: with.histogram(
                "request_tokenization_duration",
                "Seconds of tokenising a request",
                &SHORT_SECONDS,
            )?,
            batch_size: with.histogram("batch_size", "Samples in a batch", &ROWS)?,
            batch_tokens: with.histogram("batch_tokens", "Tokens in a batch, padding included", &TOKENS)?,
            padding_tokens: with.counter("padding_tokens_count", "Tokens computed for nothing")?,
            batch_failures: with.counter("batch_failure_count", "Batches in which the model failed")?,
            queue_size: with.gauge("queue_size", "Texts waiting for a model thread")?,
            queue_capacity: with.gauge("queue_capacity", "Texts that may wait")?,
            ready: with.gauge("ready", "1 when predictions are accepted")?,
            model_info: with.gauges("model_info", "1 for the model that serves", &MODEL_LABELS)?,
            model_load_duration: with.histogram(
                "model_load_duration",
                "Seconds from the order to load a model to its being warm",
                &SECONDS,
            )?,
            settings_changes: with.counters(
                "settings_change_count",
                "Sets of settings that were applied, by what became of them",
                "outcome",
            )?,
            gpu_memory_used: with.gauges("gpu_memory_used_bytes", "GPU memory in use", &["gpu"])?,
            gpu_memory_total: with.gauges("gpu_memory_total_bytes", "GPU memory there is", &["gpu"])?,
            registry,
        })
    }

    /// A prediction request was answered with this status.
    pub fn observe_status(&self, status: u16) {
        self.requests.with_label_values(&[&status.to_string()]).inc();
    }

    /// A prediction request succeeded.
    pub fn observe_success(&self, texts: usize, truncated: usize, times: Times) {
        self.texts.inc_by(to_u64(texts));
        self.truncated.inc_by(to_u64(truncated));
        self.request_duration.observe(times.total.as_secs_f64());
        self.queue_duration.observe(times.queue.as_secs_f64());
        self.inference_duration.observe(times.inference.as_secs_f64());
        self.tokenization_duration.observe(times.tokenization.as_secs_f64());
    }

    /// A batch went through the model.
    pub fn observe_batch(&self, rows: &[&Sample]) {
        let lengths = || rows.iter().map(|row| row.size().length);
        let longest = lengths().max().unwrap_or_default();
        let real: usize = lengths().sum();
        self.batch_size.observe(rows.len() as f64);
        self.batch_tokens.observe((rows.len() * longest) as f64);
        self.padding_tokens.inc_by(to_u64(rows.len() * longest - real));
    }

    /// A batch failed.
    pub fn batch_failed(&self) {
        self.batch_failures.inc();
    }

    /// This model serves from now on, and no other.
    pub fn set_model(&self, model: &ModelInfo<'_>) {
        let ModelInfo { name, version, device, precision } = model;
        self.model_info.reset();
        self.model_info.with_label_values(&[name, version, device, precision]).set(1);
    }

    /// A model was loaded and warmed up.
    pub fn observe_load(&self, took: Duration) {
        self.model_load_duration.observe(took.as_secs_f64());
    }

    /// A set of settings was accepted or refused.
    pub fn count_settings_change(&self, outcome: &str) {
        self.settings_changes.with_label_values(&[outcome]).inc();
    }

    /// Sets what is only looked at when somebody asks.
    pub fn set_queue(&self, depth: usize, capacity: usize, ready: bool) {
        let count = |value: usize| i64::try_from(value).unwrap_or(i64::MAX);
        self.queue_size.set(count(depth));
        self.queue_capacity.set(count(capacity));
        self.ready.set(i64::from(ready));
    }

    /// Sets a GPU's memory, in bytes.
    pub fn set_gpu_memory(&self, gpu: &str, used: u64, total: u64) {
        let bytes = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
        self.gpu_memory_used.with_label_values(&[gpu]).set(bytes(used));
        self.gpu_memory_total.with_label_values(&[gpu]).set(bytes(total));
    }

    /// The text that Prometheus reads.
    pub fn render(&self) -> Result<String, prometheus::Error> {
        let mut text = Vec::new();
        TextEncoder::new().encode(&self.registry.gather(), &mut text)?;
        Ok(String::from_utf8_lossy(&text).into_owned())
    }
}

struct Register<'a>(&'a Registry);

impl Register<'_> {
    fn add<M: prometheus::core::Collector + Clone + 'static>(
        &self,
        metric: M,
    ) -> Result<M, prometheus::Error> {
        self.0.register(Box::new(metric.clone()))?;
        Ok(metric)
    }

    fn histogram(&self, name: &str, help: &str, buckets: &[f64]) -> Result<Histogram, prometheus::Error> {
        let options = HistogramOpts::new(prefixed(name), help).buckets(buckets.to_vec());
        self.add(Histogram::with_opts(options)?)
    }

    fn counter(&self, name: &str, help: &str) -> Result<IntCounter, prometheus::Error> {
        self.add(IntCounter::new(prefixed(name), help)?)
    }

    fn counters(&self, name: &str, help: &str, label: &str) -> Result<IntCounterVec, prometheus::Error> {
        self.add(IntCounterVec::new(Opts::new(prefixed(name), help), &[label])?)
    }

    fn gauge(&self, name: &str, help: &str) -> Result<IntGauge, prometheus::Error> {
        self.add(IntGauge::new(prefixed(name), help)?)
    }

    fn gauges(&self, name: &str, help: &str, labels: &[&str]) -> Result<IntGaugeVec, prometheus::Error> {
        self.add(IntGaugeVec::new(Opts::new(prefixed(name), help), labels)?)
    }
}

fn prefixed(name: &str) -> String {
    format!("model_runtime_{name}")
}

fn to_u64(count: usize) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::TokenIds;

    #[test]
    fn what_is_counted_is_rendered() {
        let metrics = Metrics::new().unwrap();
        let sample = |length| Sample::Tokens(TokenIds::filler(1, length));
        metrics.observe_batch(&[&sample(3), &sample(8)]);
        metrics.observe_status(200);
        let model = |version| ModelInfo { name: "ner", version, device: "cpu", precision: "fp32" };
        metrics.set_model(&model("1"));
        metrics.set_model(&model("2"));
        let text = metrics.render().unwrap();
        assert!(text.contains("model_runtime_padding_tokens_count 5"), "{text}");
        assert!(text.contains("model_runtime_batch_tokens_sum 16"), "{text}");
        assert!(text.contains("model_runtime_request_count{status=\"200\"} 1"), "{text}");
        assert!(
            text.contains(
                "model_runtime_model_info{device=\"cpu\",model=\"ner\",precision=\"fp32\",version=\"2\"} 1"
            ),
            "{text}"
        );
        assert!(!text.contains("version=\"1\""), "one model serves: {text}");
    }
}
