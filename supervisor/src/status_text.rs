//! The status for people: aligned, and coloured only where asked.

use std::fmt::Write;
use std::time::{Duration, SystemTime};

use crate::status::{ConfigStatus, GpuStatus, ProcessStatus, Status, StopStatus};

/// The width of the first column.
const LABEL: usize = 14;

/// The whole status as text. `colour` is for terminals.
pub fn render(status: &Status, colour: bool) -> String {
    let mut text = String::new();
    line(&mut text, "phase", &format!("{} for {}: {}", status.phase, age(&status.since), status.why()));
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
            line(&mut text, &format!("  {name}"), &format!("{}: {}", check.status, check.output));
        }
        if let Some(error) = &registration.last_error {
            line(&mut text, "  last error", error);
        }
    }
    process(&mut text, "worker", &status.worker);
    if let Some(agent) = &status.agent {
        process(&mut text, "agent", &agent.process);
        line(&mut text, "  consul", if agent.ready { "ready" } else { "not ready" });
        let members = agent.members.map(|members| format!(", {members} members")).unwrap_or_default();
        let version = agent.version.as_ref().map(|version| format!(", Consul {version}")).unwrap_or_default();
        line(&mut text, "  detail", &format!("{}{members}{version}", agent.detail));
        line(&mut text, "  node", &format!("{} at {}", agent.node, agent.api));
    }
    for device in &status.gpus {
        gpu(&mut text, device);
    }
    line(&mut text, "stop", &stop(&status.stop));
    config(&mut text, &status.config);
    let supervisor = &status.supervisor;
    line(
        &mut text,
        "supervisor",
        &format!("{}, pid {}, up {}", supervisor.version, supervisor.pid, age(&supervisor.started)),
    );
    if colour { highlight(&text) } else { text }
}

/// Labels bold, those below them dim, and a state that begins the words in its colour (ECMA-48, SGR).
fn highlight(text: &str) -> String {
    let mut highlighted = String::new();
    for line in text.lines() {
        let (label, words) = line.split_at_checked(LABEL).unwrap_or((line, ""));
        let name = label.trim();
        let indent = label.len() - label.trim_start().len();
        let space = LABEL.saturating_sub(indent + name.len());
        let weight = if indent == 0 { 1 } else { 2 };
        let end = words.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(words.len());
        let (state, rest) = words.split_at(end);
        let state = paint(state);
        let _infallible =
            writeln!(highlighted, "{:indent$}\x1b[{weight}m{name}\x1b[0m{:space$}{state}{rest}", "", "");
    }
    highlighted
}

/// What stands in the place of a status where there is none.
pub fn absent(why: &str, colour: bool) -> String {
    let mut text = String::new();
    line(&mut text, "phase", &format!("gone: {why}"));
    if colour { highlight(&text) } else { text }
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

/// Where there is a file, or something to say.
fn config(text: &mut String, config: &ConfigStatus) {
    if config.file.is_none() && config.pending.is_empty() && config.last_error.is_none() {
        return;
    }
    let file = config.file.as_deref().unwrap_or("no file");
    line(text, "config", &format!("{file}, read {} ago", age(&config.loaded_at)));
    for change in &config.pending {
        line(text, "  pending", &format!("{} ({})", change.key, change.applies));
    }
    if let Some(error) = &config.last_error {
        line(text, "  last error", error);
    }
}

fn process(text: &mut String, label: &str, process: &ProcessStatus) {
    let mut words = process.state.clone();
    if let (Some(pid), Some(started)) = (process.pid, &process.started) {
        let _infallible = write!(words, ", pid {pid}, up {}", age(started));
    }
    if process.state == "external" {
        return line(text, label, "external: somebody else's, only asked");
    }
    let _infallible = write!(words, ", restarts {}", process.restarts);
    if let Some(exit) = &process.last_exit {
        let _infallible = write!(words, ", last {exit}");
    }
    line(text, label, &words);
    line(text, "  program", &process.program);
}

/// A GPU's verdict and the figures that it has, then which one it is.
fn gpu(text: &mut String, gpu: &GpuStatus) {
    let mut words = gpu.level.clone();
    if !gpu.note.is_empty() {
        let _infallible = write!(words, ": {}", gpu.note);
    }
    line(text, &format!("gpu {}", gpu.index), &words);
    let mut figures = Vec::new();
    if let (Some(percent), Some(total)) = (gpu.memory_used_percent, gpu.memory_total_bytes) {
        figures.push(format!("memory {percent} % of {:.1} GiB", total as f64 / f64::from(1_u32 << 30)));
    }
    figures.extend(gpu.utilization_percent.map(|percent| format!("busy {percent} %")));
    figures.extend(gpu.temperature_celsius.map(|degrees| format!("{degrees} °C")));
    figures.extend(gpu.ecc_uncorrected.map(|errors| format!("uncorrected ECC errors {errors}")));
    figures.extend(gpu.last_xid.map(|xid| format!("last Xid {xid}")));
    if !figures.is_empty() {
        line(text, "  figures", &figures.join(", "));
    }
    line(text, "  device", &format!("{}, {}", gpu.name, gpu.uuid));
}

/// One line, whatever others have put into the words: a terminal obeys control characters.
fn line(text: &mut String, label: &str, words: &str) {
    let words: String = words.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
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

/// A word in the colour of what it means.
fn paint(word: &str) -> String {
    let code = match word {
        "passing" | "running" | "ready" => 32,
        "starting" | "degraded" | "warning" | "draining" | "drained" => 33,
        "critical" | "stopping" | "stopped" | "backoff" | "killed" | "ended" | "gone" => 31,
        _ => return word.to_owned(),
    };
    format!("\x1b[{code}m{word}\x1b[0m")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colour_changes_no_character_and_words_of_others_no_terminal() {
        let mut text = String::new();
        line(&mut text, "worker", "running, pid 7");
        line(&mut text, "  detail", "a\x1b[2Jb\nc");
        assert_eq!(text, "worker        running, pid 7\n  detail      a [2Jb c\n");
        let coloured = highlight(&text);
        assert!(
            coloured.starts_with("\x1b[1mworker\x1b[0m        \x1b[32mrunning\x1b[0m, pid 7\n"),
            "{coloured:?}"
        );
        let plain = ["\x1b[0m", "\x1b[1m", "\x1b[2m", "\x1b[32m"]
            .iter()
            .fold(coloured, |text, code| text.replace(code, ""));
        assert_eq!(plain, text);
    }
}
