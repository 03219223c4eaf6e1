//! The model threads and the queue that feeds them.
//!
//! ```text
//!   request ──reserve──▶ Queue (bounded) ──▶ batcher ──take_due──▶ model thread ──▶ oneshot replies
//!              │ full: refused at once        ▲                       │
//!              └─ dropped: its texts leave ───┘                       └─▶ Condition (last error, able or not)
//! ```
//!
//! A model thread answers each text of its batch exactly once, whatever the model does: errors and panics become replies.
//! Each device has as many threads as there are instances; all take from the one queue, so that work goes to whichever is idle.

mod condition;
mod poison;
mod queue;
mod token_budget;
mod worker;

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use crate::backend::{Backend, ForwardError, Output, Sample};
use crate::batcher::Limits;
use crate::metrics::Metrics;

pub use condition::{Condition, LastError};
pub use poison::Poison;
pub use queue::{Full, Queue, Reservation};

/// One sample on its way to the model.
#[derive(Debug)]
pub struct Job {
    sample: Sample,
    queued: Instant,
    /// What is logged for this sample alone is logged in the span of its request.
    span: tracing::Span,
    reply: oneshot::Sender<Reply>,
}

/// What becomes of a job.
pub type Reply = Result<Answer, ForwardError>;

/// What the model said, and how long it took.
#[derive(Debug, Clone)]
pub struct Answer {
    /// What it said.
    pub output: Output,
    /// From the queue's door to the start of the batch.
    pub queue_time: Duration,
    /// The forward of the whole batch.
    pub inference_time: Duration,
    /// The batch that it went through the model in.
    pub batch: Batch,
}

/// How large a batch was.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Batch {
    /// How many samples.
    pub samples: usize,
    /// How many tokens, padding included.
    pub tokens: usize,
}

impl Batch {
    fn of(rows: &[&Sample]) -> Self {
        let longest = rows.iter().map(|row| row.size().length).max().unwrap_or_default();
        Self { samples: rows.len(), tokens: rows.len() * longest }
    }
}

/// What the engine is made of.
#[derive(Debug)]
pub struct EngineParts {
    /// What a batch may be.
    pub limits: Limits,
    /// How many samples may wait.
    pub capacity: usize,
    /// How many model threads each device has.
    pub instances: usize,
    /// A sample that any healthy model can answer, to see whether it still can.
    pub trial: Sample,
    /// The batches that each thread runs before it takes others' (see `Form::warm_up`).
    pub warm_up: Vec<Vec<Sample>>,
    /// Where batches are counted.
    pub metrics: Arc<Metrics>,
    /// Where it is told that a device is lost to the process.
    pub poison: Arc<Poison>,
}

/// The running model threads. Dropping it lets them end, as [`Engine::finish`] does.
#[derive(Debug)]
pub struct Engine {
    queue: Arc<Queue<Job>>,
    condition: Arc<Condition>,
    threads: Vec<JoinHandle<()>>,
    instances: usize,
}

impl Engine {
    /// Starts the threads of each backend, which is the model on one device; returns once each of them has warmed up.
    ///
    /// # Errors
    /// A thread cannot be started, or the model fails while warming up.
    pub fn start(backends: &[Arc<dyn Backend>], parts: EngineParts) -> Result<Self, String> {
        let threads = backends.len() * parts.instances;
        let queue = Arc::new(Queue::new(parts.limits, parts.capacity));
        let condition = Arc::new(Condition::new(threads));
        let warm_up: Arc<[Vec<Sample>]> = parts.warm_up.into();
        let (warm, warmed) = std::sync::mpsc::channel();
        // From here on an early return lets the threads end that have started.
        let mut engine = Self { queue, condition, threads: Vec::new(), instances: parts.instances };
        let each = backends.iter().flat_map(|backend| std::iter::repeat_n(backend, parts.instances));
        for (index, backend) in each.enumerate() {
            let worker = worker::Worker {
                index,
                backend: Arc::clone(backend),
                queue: Arc::clone(&engine.queue),
                condition: Arc::clone(&engine.condition),
                metrics: Arc::clone(&parts.metrics),
                poison: Arc::clone(&parts.poison),
                trial: parts.trial.clone(),
                warm_up: Arc::clone(&warm_up),
                budget: token_budget::TokenBudget::default(),
                alone: false,
            };
            let warm = warm.clone();
            let thread = std::thread::Builder::new().name(format!("model-{index}"));
            let run = move || worker.run(&warm);
            let started =
                thread.spawn(run).map_err(|error| format!("cannot start a model thread: {error}"))?;
            engine.threads.push(started);
        }
        // One word from each thread; a thread that dies without one has dropped its sender.
        drop(warm);
        for result in warmed.iter().take(threads) {
            result.map_err(|error| format!("the model failed while warming up: {error}"))?;
        }
        Ok(engine)
    }

    /// The queue that leads to the model threads.
    pub fn queue(&self) -> &Arc<Queue<Job>> {
        &self.queue
    }

    /// How the model threads fare.
    pub fn condition(&self) -> &Condition {
        &self.condition
    }

    /// How many model threads each device has.
    pub fn instances(&self) -> usize {
        self.instances
    }

    /// Lets the model threads end once nothing waits any more.
    pub fn finish(&self) {
        self.queue.close();
    }

    /// Blocks until every model thread has ended; `false` if one has not after `patience`.
    pub fn wait(&self, patience: Duration) -> bool {
        let give_up = Instant::now() + patience;
        while !self.is_finished() {
            if Instant::now() >= give_up {
                return false;
            }
            // std has no join with a limit; the threads of a closed queue end within a forward.
            std::thread::sleep(Duration::from_millis(1));
        }
        true
    }

    /// Whether every model thread has ended.
    pub fn is_finished(&self) -> bool {
        self.threads.iter().all(JoinHandle::is_finished)
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.finish();
    }
}

/// Puts a request's samples into the queue; the replies come in the same order.
pub fn submit(reservation: &mut Reservation<Job>, samples: Vec<Sample>) -> Vec<oneshot::Receiver<Reply>> {
    let (queued, span) = (Instant::now(), tracing::Span::current());
    let mut replies = Vec::with_capacity(samples.len());
    let jobs = samples.into_iter().map(|sample| {
        let (reply, receiver) = oneshot::channel();
        replies.push(receiver);
        (sample.size(), Job { sample, queued, span: span.clone(), reply })
    });
    let jobs: Vec<_> = jobs.collect();
    reservation.submit(queued, jobs);
    replies
}
