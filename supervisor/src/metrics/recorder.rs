//! What is counted while the supervisor runs.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use lifecycle::{Exit, ProbeOutcome, Role};
use prometheus::core::{Atomic, GenericCounter, GenericCounterVec};
use prometheus::{GaugeVec, HistogramVec, IntCounterVec, Registry, Result, TextEncoder};

use super::consul_request::Outcome;
use super::rotation::{AGENT, SERVERS};
use super::{family, snapshot};
use crate::os::signals;
use crate::status::Status;

/// A handle to count with. The default one counts nothing: metrics are off.
#[derive(Clone, Debug, Default)]
pub struct Metrics(Option<Arc<Recorder>>);

#[derive(Debug)]
struct Recorder {
    registry: Registry,
    started: SystemTime,
    time_to_passing: GaugeVec,
    out_of_rotation: HistogramVec,
    exits: IntCounterVec,
    spawn_failures: IntCounterVec,
    signals: IntCounterVec,
    orphans_reaped: IntCounterVec,
    probes: IntCounterVec,
    probe_duration: HistogramVec,
    consul_request_duration: HistogramVec,
    consul_request_errors: IntCounterVec,
}

impl Metrics {
    /// Metrics that count.
    ///
    /// # Errors
    /// The table of families contradicts itself.
    pub fn on() -> Result<Self> {
        let registry = Registry::new();
        let recorder = Recorder {
            started: SystemTime::now(),
            // Absent until it is known.
            time_to_passing: family::TIME_TO_PASSING.gauges(&registry)?,
            out_of_rotation: family::OUT_OF_ROTATION.histograms(&registry)?,
            exits: family::EXITS.counters(&registry)?,
            spawn_failures: family::SPAWN_FAILURES.counters(&registry)?,
            signals: family::SIGNALS.counters(&registry)?,
            orphans_reaped: family::ORPHANS_REAPED.counters(&registry)?,
            probes: family::PROBES.counters(&registry)?,
            probe_duration: family::PROBE_DURATION.histograms(&registry)?,
            consul_request_duration: family::CONSUL_REQUEST_DURATION.histograms(&registry)?,
            consul_request_errors: family::CONSUL_REQUEST_ERRORS.counters(&registry)?,
            registry,
        };
        // What has no labels, or known ones, is there from the start, at zero: a rate needs a beginning.
        for by in [AGENT, SERVERS] {
            recorder.out_of_rotation.get_metric_with_label_values(&[by])?;
        }
        add(&recorder.orphans_reaped, &[], 0);
        add(&recorder.spawn_failures, &[&Role::Worker.to_string()], 0);
        Ok(Self(Some(Arc::new(recorder))))
    }

    /// The instance is passing for the first time.
    pub fn passing_after(&self, took: Duration) {
        if let Some(metrics) = &self.0
            && let Ok(gauge) = metrics.time_to_passing.get_metric_with_label_values::<&str>(&[])
        {
            gauge.set(took.as_secs_f64());
        }
    }

    /// A serving instance is out of rotation, by the word of the `agent` or the `servers`.
    pub fn out_of_rotation_after(&self, by: &str, took: Duration) {
        self.observe(|metrics| &metrics.out_of_rotation, &[by], took);
    }

    /// A child has ended.
    pub fn exited(&self, role: Role, exit: Exit) {
        let reason = match exit {
            Exit::Status(status) => format!("status_{status}"),
            Exit::Signal(signal) => signals::name(signal),
        };
        self.count(|metrics| &metrics.exits, &[&role.to_string(), &reason]);
    }

    /// A child could not be started.
    pub fn not_spawned(&self, role: Role) {
        self.count(|metrics| &metrics.spawn_failures, &[&role.to_string()]);
    }

    /// A signal has come.
    pub fn signalled(&self, signal: u8) {
        self.count(|metrics| &metrics.signals, &[&signals::name(signal)]);
    }

    /// An orphan was reaped.
    pub fn orphan_reaped(&self) {
        self.count(|metrics| &metrics.orphans_reaped, &[]);
    }

    /// The worker was probed.
    pub fn probed(&self, outcome: ProbeOutcome) {
        let outcome = match outcome {
            ProbeOutcome::Passing => "passing",
            ProbeOutcome::Warning => "warning",
            ProbeOutcome::Critical => "critical",
            ProbeOutcome::Silent => "silent",
        };
        self.count(|metrics| &metrics.probes, &["readiness", outcome]);
    }

    /// It was asked whether the worker is alive.
    pub fn liveness_probed(&self, alive: bool) {
        let outcome = if alive { "passing" } else { "critical" };
        self.count(|metrics| &metrics.probes, &["liveness", outcome]);
    }

    /// A probe (`readiness` or `liveness`) of this kind (`http`, …) took so long.
    pub fn probe_took(&self, probe: &str, kind: &str, took: Duration) {
        self.observe(|metrics| &metrics.probe_duration, &[probe, kind], took);
    }

    /// A request to the Consul agent is over.
    pub fn consul_answered(&self, request: &str, took: Duration, outcome: Outcome) {
        if let Outcome::Failed(kind) = &outcome {
            self.count(|metrics| &metrics.consul_request_errors, &[request, kind]);
        }
        if outcome != Outcome::Blocked {
            self.observe(|metrics| &metrics.consul_request_duration, &[request], took);
        }
    }

    /// Everything, as Prometheus reads it (text format 0.0.4).
    ///
    /// # Errors
    /// Two metrics have one name, or one that is no name.
    pub fn render(&self, status: &Status) -> Result<String> {
        let Some(metrics) = &self.0 else { return Ok(String::new()) };
        let mut families = metrics.registry.gather();
        families.extend(snapshot::gather(status, metrics.started)?);
        families.sort_by(|one, other| one.name().cmp(other.name()));
        TextEncoder::new().encode_to_string(&families)
    }

    #[cfg(test)]
    pub(super) fn out_of_rotation(&self, by: &str) -> Option<prometheus::Histogram> {
        self.0.as_ref()?.out_of_rotation.get_metric_with_label_values(&[by]).ok()
    }

    fn count(&self, of: impl FnOnce(&Recorder) -> &IntCounterVec, labels: &[&str]) {
        if let Some(metrics) = &self.0 {
            add(of(metrics), labels, 1);
        }
    }

    fn observe(&self, of: impl FnOnce(&Recorder) -> &HistogramVec, labels: &[&str], took: Duration) {
        if let Some(metrics) = &self.0 {
            // Fails only on a wrong number of labels, of which a test would tell.
            if let Ok(histogram) = of(metrics).get_metric_with_label_values(labels) {
                histogram.observe(took.as_secs_f64());
            }
        }
    }
}

/// Adds to a counter; a wrong number of labels, which a test would tell, counts nothing.
pub(super) fn add<P: Atomic>(counters: &GenericCounterVec<P>, labels: &[&str], count: P::T) {
    if let Ok(counter) = counters.get_metric_with_label_values(labels) {
        let counter: GenericCounter<P> = counter;
        counter.inc_by(count);
    }
}
