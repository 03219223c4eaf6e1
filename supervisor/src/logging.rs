//! The supervisor's own log, on standard error.
//!
//! Lines are written by a thread of their own from a bounded queue and dropped when that is full: a reader that has stopped
//! reading, or a closed descriptor, must not stop PID 1. The thread sleeps while there is nothing to write.

use std::time::Duration;

use tracing::level_filters::LevelFilter;
use tracing_appender::non_blocking::{NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::{Layer, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;

use crate::config::{LogFormat, Logging};

/// As many lines as a burst of trouble may have while the reader is slow; at about 200 bytes each, 200 KiB at most.
const QUEUE_LINES: usize = 1024;

/// For the last lines, at the end. Beyond the stop timeout, so it is short.
const LAST_LINES: Duration = Duration::from_millis(200);

/// Writes what is queued, if anybody reads it. Dropping the guard can block for ever where nobody does (it writes to standard output when
/// the queue is full), so a thread does it, and is left behind.
pub fn finish(guard: WorkerGuard) {
    let (done, finished) = std::sync::mpsc::channel();
    let dropping = move || {
        drop(guard);
        let _left_behind = done.send(());
    };
    if std::thread::Builder::new().spawn(dropping).is_ok() {
        let _written_or_not = finished.recv_timeout(LAST_LINES);
    }
}

/// Starts logging. Hand the guard to [`finish`].
pub fn start(logging: &Logging) -> WorkerGuard {
    let (writer, guard) = NonBlockingBuilder::default()
        .lossy(true)
        .buffered_lines_limit(QUEUE_LINES)
        .thread_name("log")
        .finish(std::io::stderr());
    let layer = tracing_subscriber::fmt::layer()
        .with_target(false)
        .with_ansi(false)
        .log_internal_errors(false)
        .with_writer(writer);
    let layer = match logging.format {
        LogFormat::Text => layer.boxed(),
        LogFormat::Json => layer.json().flatten_event(true).boxed(),
    };
    // The level is about this program; its libraries speak only of trouble.
    let ours = Targets::new()
        .with_target("supervisor", logging.level)
        .with_default(logging.level.min(LevelFilter::WARN));
    tracing_subscriber::registry().with(layer.with_filter(ours)).init();
    guard
}
