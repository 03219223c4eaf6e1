//! What is read from the published status, and from the counters of others, when somebody asks.

use std::time::{SystemTime, UNIX_EPOCH};

use lifecycle::{Level, Phase};
use prometheus::proto::MetricFamily;
use prometheus::{GaugeVec, Registry, Result};

use super::family::{self, Family};
use super::recorder::add;
use crate::logging;
use crate::output::sink::Stream;
use crate::status::{GpuStatus, ProcessStatus, Status, level};

const PHASES: [Phase; 9] = [
    Phase::Starting,
    Phase::Running,
    Phase::Passing,
    Phase::Degraded,
    Phase::Critical,
    Phase::Draining,
    Phase::Drained,
    Phase::Stopping,
    Phase::Stopped,
];

/// All of it. A registry of this moment: what has gone since (an agent, a GPU) is not in it.
pub(super) fn gather(status: &Status, started: SystemTime) -> Result<Vec<MetricFamily>> {
    let registry = Registry::new();
    set(&registry, &family::BUILD_INFO, &[(&[&status.supervisor.version], 1.0)])?;
    set(&registry, &family::START_TIME, &[(&[], unix(started))])?;
    let phases = family::PHASE.gauges(&registry)?;
    for phase in PHASES {
        put(&phases, &[phase.name()], 0.0);
    }
    put(&phases, &[&status.phase], 1.0);
    set(&registry, &family::PASSING, &[(&[], flag(status.passing))])?;
    set(&registry, &family::HEALTHY, &[(&[], flag(status.healthy))])?;
    processes(&registry, status)?;
    if let (Some(agent), Some(entry)) = (&status.agent, &status.registration) {
        set(&registry, &family::AGENT_READY, &[(&[], flag(agent.ready))])?;
        set(&registry, &family::ENTRY_LISTED, &[(&[], flag(entry.state == "listed"))])?;
    }
    gpus(&registry, &status.gpus)?;
    let stop = &status.stop;
    let steps = [
        ("out_of_rotation", stop.out_of_rotation),
        ("drain_window", stop.drain_window),
        ("deregister", stop.deregister),
        ("worker_grace", stop.worker_grace),
        ("agent_leave", stop.agent_leave),
    ];
    let budget = family::STOP_BUDGET.gauges(&registry)?;
    for (step, seconds) in steps {
        put(&budget, &[step], seconds);
    }
    set(&registry, &family::STOP_TIMEOUT, &[(&[], stop.timeout)])?;
    add(&family::LOG_LINES_DROPPED.counters(&registry)?, &[], logging::dropped_lines());
    let lost = family::OUTPUT_BYTES_LOST.counters(&registry)?;
    for stream in [Stream::Stdout, Stream::Stderr] {
        add(&lost, &[stream.name()], stream.lost_bytes());
    }
    Ok(registry.gather())
}

fn processes(registry: &Registry, status: &Status) -> Result<()> {
    let running = family::PROCESS_RUNNING.gauges(registry)?;
    let started = family::PROCESS_START_TIME.gauges(registry)?;
    let restarts = family::RESTARTS.counters(registry)?;
    let agent = status.agent.as_ref().map(|agent| ("agent", &agent.process));
    let all: [Option<(&str, &ProcessStatus)>; 2] = [agent, Some(("worker", &status.worker))];
    for (name, process) in all.into_iter().flatten() {
        put(&running, &[name], flag(process.state == "running"));
        add(&restarts, &[name], u64::from(process.restarts));
        let at = process.started.as_deref().and_then(|at| humantime::parse_rfc3339(at).ok());
        if let Some(at) = at {
            put(&started, &[name], unix(at));
        }
    }
    Ok(())
}

/// A figure that a GPU does not have has no series.
fn gpus(registry: &Registry, gpus: &[GpuStatus]) -> Result<()> {
    type Figure = fn(&GpuStatus) -> Option<f64>;
    let figures: [(&Family, Figure); 6] = [
        (&family::GPU_HEALTHY, |gpu| Some(flag(gpu.level == level(Level::Passing)))),
        (&family::GPU_MEMORY_USED, |gpu| gpu.memory_used_bytes.map(lossy)),
        (&family::GPU_MEMORY_TOTAL, |gpu| gpu.memory_total_bytes.map(lossy)),
        (&family::GPU_UTILIZATION, |gpu| gpu.utilization_percent.map(|percent| f64::from(percent) / 100.0)),
        (&family::GPU_TEMPERATURE, |gpu| gpu.temperature_celsius.map(f64::from)),
        (&family::GPU_ECC_ERRORS, |gpu| gpu.ecc_uncorrected.map(lossy)),
    ];
    for (family, figure) in figures {
        let gauges = family.gauges(registry)?;
        for gpu in gpus {
            if let Some(value) = figure(gpu) {
                put(&gauges, &[&gpu.index.to_string(), &gpu.uuid], value);
            }
        }
    }
    Ok(())
}

/// As a sample of Prometheus, which is a float.
#[expect(clippy::cast_precision_loss, reason = "exact up to 2^53, and a float is what there is")]
fn lossy(value: u64) -> f64 {
    value as f64
}

fn set(registry: &Registry, family: &Family, values: &[(&[&str], f64)]) -> Result<()> {
    let gauges = family.gauges(registry)?;
    for (labels, value) in values {
        put(&gauges, labels, *value);
    }
    Ok(())
}

/// Sets a gauge; a wrong number of labels, which a test would tell, sets nothing.
fn put(gauges: &GaugeVec, labels: &[&str], value: f64) {
    if let Ok(gauge) = gauges.get_metric_with_label_values(labels) {
        gauge.set(value);
    }
}

fn flag(is: bool) -> f64 {
    if is { 1.0 } else { 0.0 }
}

fn unix(time: SystemTime) -> f64 {
    time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_phase_has_its_series() {
        // Without a catch-all: a new phase does not compile here.
        let place = |phase: &Phase| match phase {
            Phase::Starting => 0,
            Phase::Running => 1,
            Phase::Passing => 2,
            Phase::Degraded => 3,
            Phase::Critical => 4,
            Phase::Draining => 5,
            Phase::Drained => 6,
            Phase::Stopping => 7,
            Phase::Stopped => 8,
        };
        assert!(PHASES.iter().map(place).eq(0..9));
    }
}
