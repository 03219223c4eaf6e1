//! The status for people: aligned, and coloured only where asked.

use std::fmt::Write;
use std::time::{Duration, SystemTime};

use crate::status::{ProcessStatus, Status, StopStatus};

/// The width of the first column.
const LABEL: usize = 14;

/// The whole status as text. `colour` is for terminals.
pub fn render(status: &Status, colour: bool) -> String {
    let mut text = String::new();
    let phase = paint(&status.phase, &status.phase, colour);
    line(&mut text, "phase", &format!("{phase} for {}: {}", age(&status.since), status.reason));
    if let Some(registration) = &status.registration {
        line(&mut text, "service", &format!("{} ({})", registration.service, registration.state));
        line(&mut text, "  id", &registration.id);
        let address = crate::config::address::in_url(&registration.address);
        line(&mut text, "  address", &format!("{address}:{}", registration.port));
        if !registration.tags.is_empty() {
            line(&mut text, "  tags", &registration.tags.join(", "));
        }
        for check in &registration.checks {
            let name = check.id.rsplit(':').next().unwrap_or(&check.id);
            let state = paint(&check.status, &check.status, colour);
            line(&mut text, &format!("  {name}"), &format!("{state}: {}", check.output));
        }
        if let Some(error) = &registration.last_error {
            line(&mut text, "  last error", error);
        }
    }
    process(&mut text, "worker", &status.worker);
    if let Some(agent) = &status.agent {
        process(&mut text, "agent", &agent.process);
        line(&mut text, "  consul", if agent.ready { "ready" } else { "not ready" });
        line(&mut text, "  detail", &agent.detail);
        line(&mut text, "  node", &format!("{} at {}", agent.node, agent.api));
    }
    line(&mut text, "stop", &stop(&status.stop));
    let supervisor = &status.supervisor;
    line(
        &mut text,
        "supervisor",
        &format!("{}, pid {}, up {}", supervisor.version, supervisor.pid, age(&supervisor.started)),
    );
    text
}

/// The stop timeout and its parts, in seconds; a plain init has only one.
fn stop(stop: &StopStatus) -> String {
    let parts = [
        ("out", stop.out_of_rotation),
        ("drain", stop.drain_window),
        ("deregister", stop.deregister),
        ("worker", stop.worker_grace),
        ("agent", stop.agent_leave),
    ];
    let given: Vec<String> =
        parts.iter().filter(|(_, part)| *part > 0.0).map(|(name, part)| format!("{name} {part}")).collect();
    format!("{} s: {}", stop.timeout, given.join(" + "))
}

fn process(text: &mut String, label: &str, process: &ProcessStatus) {
    let mut words = process.state.clone();
    if let (Some(pid), Some(started)) = (process.pid, &process.started) {
        let _infallible = write!(words, ", pid {pid}, up {}", age(started));
    }
    let _infallible = write!(words, ", restarts {}", process.restarts);
    if let Some(exit) = &process.last_exit {
        let _infallible = write!(words, ", last {exit}");
    }
    line(text, label, &words);
    line(text, "  program", &process.program);
}

fn line(text: &mut String, label: &str, words: &str) {
    let _infallible = writeln!(text, "{label:LABEL$}{words}");
}

/// How long ago a timestamp was, to the second.
fn age(timestamp: &str) -> String {
    let passed = humantime::parse_rfc3339(timestamp)
        .ok()
        .and_then(|then| SystemTime::now().duration_since(then).ok())
        .unwrap_or_default();
    humantime::format_duration(Duration::from_secs(passed.as_secs())).to_string()
}

/// ANSI colours (ECMA-48, SGR) by what the word means.
fn paint(meaning: &str, word: &str, colour: bool) -> String {
    let code = match meaning {
        "passing" | "running" => 32,
        "starting" | "degraded" | "warning" | "draining" => 33,
        "critical" | "stopping" | "stopped" => 31,
        _ => return word.to_owned(),
    };
    if colour { format!("\x1b[{code}m{word}\x1b[0m") } else { word.to_owned() }
}
