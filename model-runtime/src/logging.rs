//! The log: one line or one JSON object an event, on standard error; standard output is left to `check` and `bench`.
//!
//! What belongs to a request is logged with its id: `request{request_id=…}` before the message, or `"span":{"request_id":…}` in JSON.

use std::sync::Once;

use tracing_subscriber::EnvFilter;

use crate::config::cli::LogFormat;

/// Starts logging; also sends panics there, one line each instead of a backtrace.
pub fn start(format: LogFormat, level: &str) -> Result<(), String> {
    let filter = EnvFilter::builder().parse(level).map_err(|error| {
        format!("--log-level `{level}`: {error}; write error, warn, info, debug or trace")
    })?;
    // A closed or full standard error must not stop the server: such lines are lost in silence.
    let base = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .log_internal_errors(false);
    match format {
        LogFormat::Text => base.with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr())).init(),
        LogFormat::Json => base.json().flatten_event(true).with_span_list(false).init(),
    }
    log_panics();
    Ok(())
}

fn log_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        std::panic::set_hook(Box::new(|panic| {
            let place = panic.location().map(ToString::to_string).unwrap_or_default();
            let payload = panic.payload();
            let text = payload.downcast_ref::<String>().map(String::as_str);
            let message = text.or_else(|| payload.downcast_ref::<&str>().copied()).unwrap_or("no message");
            // Not `message`: in JSON that is the word "panic".
            tracing::error!(place, cause = message.replace('\n', " "), "panic");
        }));
    });
}
