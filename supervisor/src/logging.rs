//! The supervisor's own log, on standard error: text or JSON, with fields.
//!
//! Lines are written by a thread of their own from a bounded queue and dropped when that is full: a reader that has stopped
//! reading, or a closed descriptor, must not stop PID 1. The thread sleeps while there is nothing to write. Dropped lines are
//! counted, and the log says how many as soon as it has room again.

mod json;

use std::io::{self, Write};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use tracing::Level;
use tracing::level_filters::LevelFilter;
use tracing::subscriber::Subscriber;
use tracing_appender::non_blocking::{NonBlocking, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::Registry;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::{Layer, SubscriberExt};
use tracing_subscriber::reload;
use tracing_subscriber::util::SubscriberInitExt;

use crate::config::{LogFormat, Logging};

/// As many lines as a burst of trouble may have while the reader is slow; at about 200 bytes each, 200 KiB at most.
const QUEUE_LINES: usize = 1024;

/// For the last lines, at the end. Beyond the stop timeout, so it is short.
const LAST_LINES: Duration = Duration::from_millis(200);

/// Where the level is changed.
static LEVEL: OnceLock<reload::Handle<Targets, Registry>> = OnceLock::new();
/// Lines dropped since the start.
static DROPPED: AtomicU64 = AtomicU64::new(0);
/// Those of which the log has not told yet.
static UNTOLD: AtomicU64 = AtomicU64::new(0);

/// The running log.
#[derive(Debug)]
pub struct Log {
    guard: WorkerGuard,
    format: LogFormat,
}

/// Writes what is queued, if anybody reads it. Dropping the guard can block for ever where nobody does (it writes to standard output when
/// the queue is full), so a thread does it, and is left behind.
pub fn finish(log: Log) {
    let (done, finished) = std::sync::mpsc::channel();
    let dropping = move || {
        drop(log.guard);
        let untold = UNTOLD.swap(0, Ordering::Relaxed);
        if untold > 0 {
            let _nobody_reads = io::stderr().write_all(notice(log.format, untold).as_bytes());
        }
        let _left_behind = done.send(());
    };
    if std::thread::Builder::new().spawn(dropping).is_ok() {
        let _written_or_not = finished.recv_timeout(LAST_LINES);
    }
}

/// Starts logging. Hand the result to [`finish`].
pub fn start(logging: &Logging) -> Log {
    let (queue, guard) = NonBlockingBuilder::default()
        .lossy(true)
        .buffered_lines_limit(QUEUE_LINES)
        .thread_name("log")
        .finish(io::stderr());
    let (subscriber, level) = subscriber(logging, Writer { queue, format: logging.format });
    let _first_time = LEVEL.set(level);
    subscriber.init();
    Log { guard, format: logging.format }
}

/// Logs from this level on, from now on. Does nothing before [`start`].
pub fn set_level(level: LevelFilter) {
    if let Some(handle) = LEVEL.get() {
        // Fails only where the subscriber is gone, and with it the log.
        let _no_log = handle.reload(targets(level));
    }
}

/// How many lines were dropped because nobody read standard error.
pub fn dropped_lines() -> u64 {
    DROPPED.load(Ordering::Relaxed)
}

/// The level is about this program; its libraries speak only of trouble.
fn targets(level: LevelFilter) -> Targets {
    Targets::new().with_target("supervisor", level).with_default(level.min(LevelFilter::WARN))
}

fn subscriber<W>(
    logging: &Logging,
    writer: W,
) -> (impl Subscriber + Send + Sync + use<W>, reload::Handle<Targets, Registry>)
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let layer = tracing_subscriber::fmt::layer()
        .with_target(false)
        .with_ansi(false)
        .log_internal_errors(false)
        .with_writer(writer);
    let layer = match logging.format {
        LogFormat::Text => layer.boxed(),
        LogFormat::Json => layer.event_format(json::Json).boxed(),
    };
    let (filter, level) = reload::Layer::new(targets(logging.level));
    (tracing_subscriber::registry().with(layer.with_filter(filter)), level)
}

/// Hands whole lines to the queue.
#[derive(Clone, Debug)]
struct Writer {
    queue: NonBlocking,
    format: LogFormat,
}

impl Writer {
    /// Whether there was room.
    fn put(&mut self, line: &[u8]) -> bool {
        let counter = self.queue.error_counter();
        let before = counter.dropped_lines();
        self.queue.write_all(line).is_ok() && counter.dropped_lines() == before
    }
}

impl Write for Writer {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if self.put(line) {
            let untold = UNTOLD.swap(0, Ordering::Relaxed);
            if untold > 0 && !self.put(notice(self.format, untold).as_bytes()) {
                UNTOLD.fetch_add(untold, Ordering::Relaxed);
            }
        } else {
            DROPPED.fetch_add(1, Ordering::Relaxed);
            UNTOLD.fetch_add(1, Ordering::Relaxed);
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Writer {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

/// The line about lines that are missing before it.
fn notice(format: LogFormat, lines: u64) -> String {
    const MESSAGE: &str = "log lines were dropped: standard error was not read";
    match format {
        LogFormat::Text => {
            let time = humantime::format_rfc3339_micros(SystemTime::now());
            format!("{time}  WARN {MESSAGE} lines={lines}\n")
        }
        LogFormat::Json => json::line(SystemTime::now(), Level::WARN, MESSAGE, &[("lines", lines.into())]),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use serde_json::{Value, json};

    use super::*;
    use crate::config::ChildrenOutput;

    /// Keeps what is written.
    #[derive(Clone, Default)]
    struct Kept(Arc<Mutex<Vec<u8>>>);

    impl Write for Kept {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().expect("not poisoned").extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl Kept {
        fn text(&self) -> String {
            String::from_utf8(self.0.lock().expect("not poisoned").clone()).expect("UTF-8")
        }
    }

    fn logging(format: LogFormat) -> Logging {
        Logging { format, level: LevelFilter::INFO, children: ChildrenOutput::Untouched }
    }

    fn logged(format: LogFormat, log: impl FnOnce(&reload::Handle<Targets, Registry>)) -> String {
        let kept = Kept::default();
        let writer = kept.clone();
        let (subscriber, level) = subscriber(&logging(format), move || writer.clone());
        tracing::subscriber::with_default(subscriber, || log(&level));
        kept.text()
    }

    #[test]
    fn text_begins_with_the_time() {
        let text = logged(LogFormat::Text, |_| tracing::info!(pid = 7, "started"));
        let (time, rest) = text.split_once(' ').expect("a blank");
        assert!(humantime::parse_rfc3339(time).is_ok(), "{text}");
        assert_eq!(rest, " INFO started pid=7\n");
    }

    #[test]
    fn json_has_the_fields_of_the_childrens_lines_and_those_of_the_event() {
        let text = logged(LogFormat::Json, |_| {
            tracing::warn!(pid = 7, level = ?Some(1), error = %"a \"b\"", late = true, "started\nnow");
        });
        assert_eq!(text.matches('\n').count(), 1, "{text}");
        let mut line: Value = serde_json::from_str(&text).expect("JSON");
        let time = line["timestamp"].take();
        assert!(humantime::parse_rfc3339(time.as_str().expect("a text")).is_ok(), "{time}");
        assert_eq!(
            line,
            json!({
                "timestamp": null, "level": "WARN", "source": "supervisor", "message": "started\nnow",
                "pid": 7, "level_": "Some(1)", "error": "a \"b\"", "late": true,
            })
        );
    }

    #[test]
    fn the_level_can_be_changed() {
        let text = logged(LogFormat::Text, |level| {
            tracing::debug!("before");
            level.reload(targets(LevelFilter::DEBUG)).expect("changed");
            tracing::debug!("between");
            level.reload(targets(LevelFilter::ERROR)).expect("changed");
            tracing::warn!("after");
        });
        assert!(!text.contains("before") && text.contains("between") && !text.contains("after"), "{text}");
    }

    #[test]
    fn the_notice_of_dropped_lines_has_the_logs_form() {
        let text = notice(LogFormat::Text, 3);
        assert!(
            text.ends_with("  WARN log lines were dropped: standard error was not read lines=3\n"),
            "{text}"
        );
        let line: Value = serde_json::from_str(&notice(LogFormat::Json, 3)).expect("JSON");
        assert_eq!(
            (&line["level"], &line["source"], &line["lines"]),
            (&json!("WARN"), &json!("supervisor"), &json!(3))
        );
    }
}
