//! Every metric there is: one table, from which the registry and the documentation are made.
//!
//! Names follow Prometheus' conventions: the program's name, base units, `_total` for what only grows.

use prometheus::core::Collector;
use prometheus::{GaugeVec, HistogramOpts, HistogramVec, IntCounterVec, Opts, Registry, Result};

/// A metric and all its labels.
#[derive(Clone, Copy, Debug)]
pub struct Family {
    /// Its name.
    pub name: &'static str,
    /// How it behaves.
    pub kind: Kind,
    /// What tells its series apart.
    pub labels: &'static [&'static str],
    /// What it says.
    pub help: &'static str,
}

/// How a metric behaves.
#[derive(Clone, Copy, Debug)]
pub enum Kind {
    /// It grows, and starts over with the supervisor.
    Counter,
    /// It goes up and down.
    Gauge,
    /// Counts by size, with these upper bounds.
    Histogram(&'static [f64]),
}

impl Kind {
    /// Prometheus' word for it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram(_) => "histogram",
        }
    }
}

/// Calls on this host: from a healthy worker's half millisecond to the longest timeouts.
const CALL_SECONDS: &[f64] =
    &[0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];
/// The agent acknowledges an update after 2 to 4 ms; the bounds of 20 and 100 ms are what is promised at the servers.
const ROTATION_SECONDS: &[f64] = &[0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 30.0];

/// A visible GPU or MIG instance: NVML's number for it, and its UUID.
const GPU: &[&str] = &["gpu", "uuid"];

const fn counter(name: &'static str, labels: &'static [&'static str], help: &'static str) -> Family {
    Family { name, kind: Kind::Counter, labels, help }
}

const fn gauge(name: &'static str, labels: &'static [&'static str], help: &'static str) -> Family {
    Family { name, kind: Kind::Gauge, labels, help }
}

const fn histogram(
    name: &'static str,
    buckets: &'static [f64],
    labels: &'static [&'static str],
    help: &'static str,
) -> Family {
    Family { name, kind: Kind::Histogram(buckets), labels, help }
}

macro_rules! families {
    ($($constant:ident = $family:expr;)*) => {
        $(
            #[doc = concat!("See its help: `", stringify!($family), "`.")]
            pub const $constant: Family = $family;
        )*
        /// All of them, in the order of the documentation.
        pub const FAMILIES: &[Family] = &[$($constant),*];
    };
}

families! {
    BUILD_INFO = gauge("supervisor_build_info", &["version"], "Always 1, with the supervisor's version.");
    START_TIME = gauge("supervisor_start_time_seconds", &[], "When the supervisor was started, as Unix time.");
    PHASE = gauge("supervisor_phase", &["phase"], "1 for the phase that the instance is in, 0 for the others.");
    PASSING = gauge("supervisor_passing", &[], "1 if the instance serves without reservation, as `supervisor status` says by its exit status.");
    HEALTHY = gauge("supervisor_healthy", &[], "1 if it serves, if degraded, as `supervisor health` says by its exit status.");
    TIME_TO_PASSING = gauge("supervisor_time_to_passing_seconds", &[], "From the supervisor's start to the first time that the instance was passing (running, for a plain init); absent before.");
    OUT_OF_ROTATION = histogram("supervisor_out_of_rotation_seconds", ROTATION_SECONDS, &["confirmed_by"], "From the event that put a serving instance out of rotation to the word of the agent, and of the servers, that its check is critical or its entry gone.");

    PROCESS_RUNNING = gauge("supervisor_process_running", &["process"], "1 while the process lives and is wanted.");
    PROCESS_START_TIME = gauge("supervisor_process_start_time_seconds", &["process"], "When the process was started last, as Unix time.");
    RESTARTS = counter("supervisor_restarts_total", &["process"], "How often the process was started again.");
    EXITS = counter("supervisor_exits_total", &["process", "reason"], "How the process ended: `status_N`, or the signal's name.");
    SPAWN_FAILURES = counter("supervisor_spawn_failures_total", &["process"], "How often the process could not be started at all.");
    SIGNALS = counter("supervisor_signals_total", &["signal"], "Signals that were sent to the supervisor.");
    ORPHANS_REAPED = counter("supervisor_orphans_reaped_total", &[], "Dead processes that were nobody's any more and were reaped.");

    PROBES = counter("supervisor_probes_total", &["probe", "outcome"], "Probes of the worker (readiness, liveness) by what came of them: passing, warning, critical, or silent for no answer.");
    PROBE_DURATION = histogram("supervisor_probe_duration_seconds", CALL_SECONDS, &["probe", "kind"], "How long a probe took (kind: http).");

    AGENT_READY = gauge("supervisor_agent_ready", &[], "1 if the Consul agent knows a leader and its node is in the catalog.");
    ENTRY_LISTED = gauge("supervisor_entry_listed", &[], "1 if the agent holds the instance's entry.");
    CONSUL_REQUEST_DURATION = histogram("supervisor_consul_request_duration_seconds", CALL_SECONDS, &["request"], "How long the Consul agent took to answer, by the API's path without names and ids; blocking queries are left out, since they wait on purpose.");
    CONSUL_REQUEST_ERRORS = counter("supervisor_consul_request_errors_total", &["request", "kind"], "Requests to the Consul agent that failed: an HTTP status, timeout, or connection.");

    GPU_HEALTHY = gauge("supervisor_gpu_healthy", GPU, "1 if nothing is held against the GPU (docs/gpu.md), 0 if it is a warning or critical.");
    GPU_MEMORY_USED = gauge("supervisor_gpu_memory_used_bytes", GPU, "Memory that cannot be had, whoever uses it.");
    GPU_MEMORY_TOTAL = gauge("supervisor_gpu_memory_total_bytes", GPU, "All its memory.");
    GPU_UTILIZATION = gauge("supervisor_gpu_utilization_ratio", GPU, "For how much of the last moment it computed, from 0 to 1.");
    GPU_TEMPERATURE = gauge("supervisor_gpu_temperature_celsius", GPU, "Its temperature.");
    GPU_ECC_ERRORS = gauge("supervisor_gpu_ecc_uncorrected_errors", GPU, "Uncorrected ECC errors since the driver was loaded or the GPU was reset.");

    STOP_BUDGET = gauge("supervisor_stop_budget_seconds", &["step"], "How the stop timeout is divided: out_of_rotation, drain_window, deregister, worker_grace, agent_leave.");
    STOP_TIMEOUT = gauge("supervisor_stop_timeout_seconds", &[], "Everything from the request to stop to the exit.");

    LOG_LINES_DROPPED = counter("supervisor_log_lines_dropped_total", &[], "The supervisor's own log lines that were dropped because nobody read standard error.");
    OUTPUT_BYTES_LOST = counter("supervisor_output_bytes_lost_total", &["stream"], "Bytes of the children's lines, prefixed or in JSON, that could not be written: nobody has the stream open any more, or the disk is full.");
}

impl Family {
    /// A counter of this family, registered.
    pub(super) fn counters(&self, registry: &Registry) -> Result<IntCounterVec> {
        registered(registry, IntCounterVec::new(self.options(), self.labels)?)
    }

    /// A gauge of this family, registered.
    pub(super) fn gauges(&self, registry: &Registry) -> Result<GaugeVec> {
        registered(registry, GaugeVec::new(self.options(), self.labels)?)
    }

    /// A histogram of this family, registered.
    pub(super) fn histograms(&self, registry: &Registry) -> Result<HistogramVec> {
        let buckets = match self.kind {
            Kind::Histogram(buckets) => buckets.to_vec(),
            Kind::Counter | Kind::Gauge => Vec::new(),
        };
        let options = HistogramOpts { common_opts: self.options(), buckets };
        registered(registry, HistogramVec::new(options, self.labels)?)
    }

    fn options(&self) -> Opts {
        Opts::new(self.name, self.help)
    }
}

fn registered<C: Collector + Clone + 'static>(registry: &Registry, collector: C) -> Result<C> {
    registry.register(Box::new(collector.clone()))?;
    Ok(collector)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    const DOCUMENTATION: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/metrics.md");
    const BEGIN: &str = "<!-- the table: made from `supervisor/src/metrics/family.rs` by a test (PILOTLIGHT_UPDATE_DOCS=1 rewrites it) -->\n";
    const END: &str = "<!-- end of the table -->\n";

    fn table() -> String {
        let mut text = "| Metric | Kind | Labels | Meaning |\n|---|---|---|---|\n".to_owned();
        for Family { name, kind, labels, help } in FAMILIES {
            let labels = labels.iter().map(|label| format!("`{label}`")).collect::<Vec<_>>().join(", ");
            text.push_str(&format!("| `{name}` | {} | {labels} | {help} |\n", kind.name()));
        }
        text
    }

    #[test]
    fn the_documentation_has_every_metric() {
        let written = std::fs::read_to_string(DOCUMENTATION).expect("docs/metrics.md");
        let (before, rest) = written.split_once(BEGIN).expect("the table's beginning");
        let (_, after) = rest.split_once(END).expect("the table's end");
        let expected = [before, BEGIN, &table(), END, after].concat();
        if std::env::var_os("PILOTLIGHT_UPDATE_DOCS").is_some() {
            std::fs::write(DOCUMENTATION, &expected).expect("written");
        } else {
            assert_eq!(written, expected, "run this test with PILOTLIGHT_UPDATE_DOCS=1");
        }
    }

    #[test]
    fn names_follow_the_conventions_and_are_unique() {
        assert_eq!(FAMILIES.iter().map(|family| family.name).collect::<BTreeSet<_>>().len(), FAMILIES.len());
        for family in FAMILIES {
            assert!(family.name.starts_with("supervisor_"), "{}", family.name);
            assert_eq!(
                family.name.ends_with("_total"),
                matches!(family.kind, Kind::Counter),
                "{}",
                family.name
            );
        }
    }
}
