//! The supervisor's own log, on standard error.
//!
//! Lines are written by a thread of their own from a bounded queue and dropped when that is full: a reader that has stopped
//! reading, or a closed descriptor, must not stop PID 1. The thread sleeps while there is nothing to write.

use tracing_appender::non_blocking::{NonBlockingBuilder, WorkerGuard};

use crate::config::{LogFormat, Logging};

/// As many lines as a burst of trouble may have while the reader is slow; at about 200 bytes each, 200 KiB at most.
const QUEUE_LINES: usize = 1024;

/// Starts logging. What is queued is written when the guard is dropped, within a second at most.
pub fn start(logging: &Logging) -> WorkerGuard {
    let (writer, guard) = NonBlockingBuilder::default()
        .lossy(true)
        .buffered_lines_limit(QUEUE_LINES)
        .thread_name("log")
        .finish(std::io::stderr());
    let builder = tracing_subscriber::fmt()
        .with_max_level(logging.level)
        .with_target(false)
        .with_ansi(false)
        .log_internal_errors(false)
        .with_writer(writer);
    match logging.format {
        LogFormat::Text => builder.init(),
        LogFormat::Json => builder.json().flatten_event(true).init(),
    }
    guard
}
