//! The threads between the children's pipes and our own output.

use std::io::{self, PipeReader, PipeWriter, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, mpsc};
use std::time::{Duration, SystemTime};

use lifecycle::Role;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;

use super::lines::{Form, Lines};
use super::sink::{Sink, Stream};
use crate::config::ChildrenOutput;

/// What is read at once, in bytes: a quarter of what a pipe holds (pipe(7)).
const CHUNK: usize = 16 * 1024;
/// A thread needs little: its buffers are on the heap.
const STACK: usize = 128 * 1024;

/// What becomes of the children's output.
#[derive(Debug)]
pub struct Output(Option<Relays>);

#[derive(Debug)]
struct Relays {
    form: Form,
    /// A pipe that nothing is written to: when its writer is closed, every thread sees it.
    ending: Arc<PipeReader>,
    not_ending: PipeWriter,
    /// Each thread holds a sender that it never uses: when the last is gone, all have ended.
    alive: mpsc::Sender<()>,
    ended: mpsc::Receiver<()>,
}

impl Output {
    /// Nothing runs yet; with untouched output nothing ever will.
    ///
    /// # Errors
    /// No descriptors left.
    pub fn new(children: ChildrenOutput) -> io::Result<Self> {
        let form = match children {
            ChildrenOutput::Untouched => return Ok(Self(None)),
            ChildrenOutput::Prefixed => Form::Prefixed,
            ChildrenOutput::Json => Form::Json,
        };
        let (ending, not_ending) = io::pipe()?;
        let (alive, ended) = mpsc::channel();
        Ok(Self(Some(Relays { form, ending: Arc::new(ending), not_ending, alive, ended })))
    }

    /// Pipes for a child that is about to be started, for its standard output and error, already being read; `None` where it writes to
    /// our own output itself.
    ///
    /// # Errors
    /// No descriptors or threads left.
    pub fn pipes(&self, role: Role) -> io::Result<Option<(OwnedFd, OwnedFd)>> {
        let Some(relays) = &self.0 else { return Ok(None) };
        Ok(Some((relays.start(role, Stream::Stdout)?, relays.start(role, Stream::Stderr)?)))
    }

    /// Writes out what the pipes hold by now, within the limit. To be called when the children have ended: what others write later, if
    /// they still can, is not waited for.
    pub fn finish(&mut self, limit: Duration) {
        if let Some(Relays { not_ending, alive, ended, .. }) = self.0.take() {
            drop(not_ending);
            drop(alive);
            let _over = ended.recv_timeout(limit);
        }
    }
}

impl Relays {
    fn start(&self, role: Role, stream: Stream) -> io::Result<OwnedFd> {
        let (reader, writer) = io::pipe()?;
        let (form, ending, alive) = (self.form, Arc::clone(&self.ending), self.alive.clone());
        std::thread::Builder::new().name(format!("{role}-{}", stream.name())).stack_size(STACK).spawn(
            move || {
                relay(reader, &ending, &mut Lines::new(form, role, stream), &Sink::new(stream));
                drop(alive);
            },
        )?;
        Ok(writer.into())
    }
}

/// Passes everything on until the pipe has ended, or is empty at the end.
fn relay(mut pipe: PipeReader, ending: &PipeReader, lines: &mut Lines, sink: &Sink) {
    let mut chunk = vec![0; CHUNK];
    let mut out = Vec::new();
    while has_more(&pipe, ending) {
        let mut rest = match pipe.read(&mut chunk) {
            Ok(0) => break,
            Ok(count) => chunk.get(..count).unwrap_or_default(),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => {
                tracing::error!(%error, "a child's output cannot be read");
                break;
            }
        };
        let read_at = SystemTime::now();
        while !rest.is_empty() {
            rest = lines.feed(rest, read_at, &mut out);
            write(sink, &mut out);
        }
    }
    lines.finish(SystemTime::now(), &mut out);
    write(sink, &mut out);
}

fn write(sink: &Sink, out: &mut Vec<u8>) {
    if !out.is_empty() {
        sink.write(out);
        out.clear();
    }
}

/// Waits until the pipe has something to read, its end included, or until everything is ending and it has not.
fn has_more(pipe: &PipeReader, ending: &PipeReader) -> bool {
    loop {
        let mut both = [
            PollFd::from_borrowed_fd(pipe.as_fd(), PollFlags::IN),
            // POLLHUP is reported unasked (poll(2)).
            PollFd::from_borrowed_fd(ending.as_fd(), PollFlags::empty()),
        ];
        match poll(&mut both, None) {
            Ok(_) => {
                let [pipe, _] = &both;
                return !pipe.revents().is_empty();
            }
            Err(Errno::INTR) => {}
            Err(error) => {
                tracing::error!(%error, "a child's output cannot be waited for");
                return false;
            }
        }
    }
}
