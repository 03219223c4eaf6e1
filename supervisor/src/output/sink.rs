//! The container's standard output and error, as places for whole lines.
//!
//! Several threads write there: one for each child's stream, and the log's. Each write of whole lines is made under the lock that the
//! standard library has for standard error (which the log's thread takes too) or output, so that no line is ever within another.

use std::io;
use std::os::fd::BorrowedFd;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;

/// Which of the two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    /// Descriptor 1.
    Stdout,
    /// Descriptor 2.
    Stderr,
}

/// How many bytes of the children's output could not be written: nobody has them open any more, or the disk is full.
static LOST: [AtomicU64; 2] = [AtomicU64::new(0), AtomicU64::new(0)];

impl Stream {
    /// The word for it in JSON and in metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
        }
    }

    /// How many bytes of the children's output could not be written there.
    pub fn lost_bytes(self) -> u64 {
        self.lost().load(Ordering::Relaxed)
    }

    fn lost(self) -> &'static AtomicU64 {
        let [stdout, stderr] = &LOST;
        match self {
            Self::Stdout => stdout,
            Self::Stderr => stderr,
        }
    }

    fn descriptor(self) -> BorrowedFd<'static> {
        match self {
            Self::Stdout => rustix::stdio::stdout(),
            Self::Stderr => rustix::stdio::stderr(),
        }
    }
}

/// One of the two, to write whole lines to.
#[derive(Debug)]
pub struct Sink {
    stream: Stream,
    /// Both lead to the same place (a terminal; `2>&1`), so one lock is for both.
    shared: bool,
    /// Whether the last write failed, so that this is said once.
    failing: AtomicBool,
}

impl Sink {
    /// Looks where the stream leads.
    pub fn new(stream: Stream) -> Self {
        Self { stream, shared: lead_to_the_same_place(), failing: AtomicBool::new(false) }
    }

    /// Writes whole lines, however long that takes. What cannot be written, because nobody can read it or the disk is full, is counted and
    /// given up: the child goes on.
    pub fn write(&self, lines: &[u8]) {
        let (written, outcome) = if self.shared || self.stream == Stream::Stderr {
            let _others_wait = io::stderr().lock();
            write_all(self.stream.descriptor(), lines)
        } else {
            let _others_wait = io::stdout().lock();
            write_all(self.stream.descriptor(), lines)
        };
        let lost = u64::try_from(lines.len().saturating_sub(written)).unwrap_or(u64::MAX);
        self.stream.lost().fetch_add(lost, Ordering::Relaxed);
        let failing = outcome.is_err();
        if self.failing.swap(failing, Ordering::Relaxed) != failing {
            let stream = self.stream.name();
            match outcome {
                Err(error) => {
                    tracing::warn!(stream, %error, "children's lines cannot be written and are lost")
                }
                Ok(()) => tracing::warn!(
                    stream,
                    bytes = self.stream.lost_bytes(),
                    "children's lines can be written again; some were lost"
                ),
            }
        }
    }
}

/// By device and inode, and by the device that a special file stands for (stat(2)). If in doubt they do not.
fn lead_to_the_same_place() -> bool {
    let of = |stream: Stream| rustix::fs::fstat(stream.descriptor()).ok();
    match (of(Stream::Stdout), of(Stream::Stderr)) {
        (Some(stdout), Some(stderr)) => {
            (stdout.st_dev, stdout.st_ino, stdout.st_rdev) == (stderr.st_dev, stderr.st_ino, stderr.st_rdev)
        }
        _ => false,
    }
}

/// Writes everything; also says how much was written before an error.
fn write_all(descriptor: BorrowedFd<'_>, bytes: &[u8]) -> (usize, Result<(), Errno>) {
    let mut written = 0;
    while let Some(rest) = bytes.get(written..).filter(|rest| !rest.is_empty()) {
        match rustix::io::write(descriptor, rest) {
            Ok(0) => return (written, Err(Errno::IO)),
            Ok(count) => written = written.saturating_add(count),
            Err(Errno::INTR) => {}
            // Whoever shares the descriptor has made it non-blocking; it is waited for all the same.
            Err(Errno::AGAIN) => {
                let mut writable = [PollFd::from_borrowed_fd(descriptor, PollFlags::OUT)];
                if let Err(error) = poll(&mut writable, None)
                    && error != Errno::INTR
                {
                    return (written, Err(error));
                }
            }
            Err(error) => return (written, Err(error)),
        }
    }
    (written, Ok(()))
}
