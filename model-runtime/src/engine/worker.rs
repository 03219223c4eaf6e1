//! A model thread: takes a batch, runs it, answers everyone in it.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::time::{Duration, Instant};

use super::queue::{Next, Queue};
use super::{Answer, Condition, Job};
use crate::backend::{Backend, ForwardError, Output, Sample};
use crate::metrics::Metrics;

/// The first two forwards of a thread are several times slower than later ones.
const WARM_UP_FORWARDS: usize = 2;
/// How often a thread whose model fails looks whether it has come back.
const TRIAL_INTERVAL: Duration = Duration::from_secs(1);

pub(super) struct Worker {
    pub(super) index: usize,
    pub(super) backend: Arc<dyn Backend>,
    pub(super) queue: Arc<Queue<Job>>,
    pub(super) condition: Arc<Condition>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) trial: Sample,
}

impl Worker {
    /// Warms up, says so, and works until the queue is closed and empty.
    pub(super) fn run(self, warm: &Sender<Result<(), ForwardError>>) {
        self.backend.enter_thread();
        let warmed = (0..WARM_UP_FORWARDS).try_for_each(|_| self.forward(&[&self.trial]).map(|_| ()));
        let failed = warmed.is_err();
        // The receiver is gone only if another thread failed first.
        let _ = warm.send(warmed);
        if failed {
            return;
        }
        let mut able = true;
        loop {
            match self.queue.next(TRIAL_INTERVAL) {
                Next::Batch(jobs) => {
                    self.condition.begin_batch(self.index, Instant::now());
                    let failed = !self.answer(jobs);
                    self.condition.end_batch(self.index);
                    if failed || !able {
                        able = self.try_model(able);
                    }
                }
                Next::Nothing if !able => able = self.try_model(able),
                Next::Nothing => {}
                Next::Closed => return,
            }
        }
    }

    /// Runs the batch and answers everyone; `false` if any sample got an error.
    fn answer(&self, jobs: Vec<Job>) -> bool {
        // Clients that left while their batch was being chosen; the rest of their samples are out of the queue already.
        let jobs: Vec<Job> = jobs.into_iter().filter(|job| !job.reply.is_closed()).collect();
        if jobs.is_empty() {
            return true;
        }
        let started = Instant::now();
        let rows: Vec<&Sample> = jobs.iter().map(|job| &job.sample).collect();
        let result = self.forward(&rows);
        let inference_time = started.elapsed();
        self.metrics.observe_batch(&rows);
        match result {
            Ok(all) => {
                for (job, output) in jobs.into_iter().zip(all) {
                    let queue_time = started.saturating_duration_since(job.queued);
                    // A client may have left meanwhile.
                    let _ = job.reply.send(Ok(Answer { output, queue_time, inference_time }));
                }
                true
            }
            Err(error) => {
                self.record(&error, jobs.len());
                self.answer_one_by_one(jobs, error);
                false
            }
        }
    }

    /// One sample may have spoilt the batch: each gets its own chance, so that only the guilty one fails.
    fn answer_one_by_one(&self, jobs: Vec<Job>, error: ForwardError) {
        let alone = jobs.len() == 1;
        for job in jobs {
            let started = Instant::now();
            let result = if alone { Err(error.clone()) } else { self.forward(&[&job.sample]) };
            let inference_time = started.elapsed();
            let queue_time = started.saturating_duration_since(job.queued);
            let reply = result.and_then(|all| {
                let output = all.into_iter().next().ok_or_else(|| ForwardError("no answer".to_owned()))?;
                Ok(Answer { output, queue_time, inference_time })
            });
            let _ = job.reply.send(reply);
        }
    }

    /// A forward in which even a panic is only an error, and which answers every row or none.
    fn forward(&self, rows: &[&Sample]) -> Result<Vec<Output>, ForwardError> {
        // Unwind-safe: a backend is only read by `forward`, and what it made so far is dropped with the panic.
        let result = catch_unwind(AssertUnwindSafe(|| self.backend.forward(rows)));
        let answers = result.map_err(|panic| ForwardError(panic_message(&*panic)))??;
        if answers.len() != rows.len() {
            let problem = format!("the model answered {} of {} samples", answers.len(), rows.len());
            return Err(ForwardError(problem));
        }
        Ok(answers)
    }

    /// Asks the model something harmless, and tells the world when its ability has changed.
    fn try_model(&self, was_able: bool) -> bool {
        let result = self.forward(&[&self.trial]);
        self.condition.set_able(self.index, result.is_ok());
        match &result {
            Ok(_) if !was_able => tracing::info!(thread = self.index, "the model works again"),
            Err(error) if was_able => {
                tracing::error!(thread = self.index, %error, "the model fails on a harmless sample, too: not healthy");
            }
            Ok(_) | Err(_) => {}
        }
        result.is_ok()
    }

    fn record(&self, error: &ForwardError, samples: usize) {
        tracing::error!(thread = self.index, samples, %error, "a batch failed");
        self.condition.record_error(&error.0, Instant::now());
        self.metrics.batch_failed();
    }
}

fn panic_message(panic: &(dyn std::any::Any + Send)) -> String {
    let text =
        panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref::<&str>().copied());
    format!("panic in the model: {}", text.unwrap_or("no message").lines().next().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::super::{Engine, EngineParts, submit};
    use super::*;
    use crate::backend::{Granularity, Rows, TokenIds};
    use crate::batcher::Limits;
    use std::sync::atomic::{AtomicBool, Ordering};

    const PANIC: i64 = 13;
    const ERROR: i64 = 14;

    /// Echoes each row's first id; refuses or panics on two numbers; all of it when broken.
    #[derive(Default)]
    struct Fragile {
        broken: AtomicBool,
    }

    impl Backend for Fragile {
        fn forward(&self, rows: &[&Sample]) -> Result<Vec<Output>, ForwardError> {
            let id = |row: &&Sample| match row {
                Sample::Tokens(tokens) => tokens.ids[0],
                Sample::Arrays(_) => unreachable!("the tests send tokens"),
            };
            let ids = || rows.iter().map(id);
            assert!(!ids().any(|id| id == PANIC), "unlucky");
            if self.broken.load(Ordering::SeqCst) || ids().any(|id| id == ERROR) {
                return Err(ForwardError("refused".to_owned()));
            }
            Ok(ids()
                .map(|id| Rows { values: vec![id as f32], columns: 1, granularity: Granularity::Whole })
                .map(Output::Rows)
                .collect())
        }
    }

    fn sample(id: i64) -> Sample {
        Sample::Tokens(TokenIds::filler(id, 1))
    }

    fn engine(backend: &Arc<Fragile>, instances: usize) -> Engine {
        let limits =
            Limits { max_size: 8, max_padded_tokens: 64, max_padding: 64, max_delay: Duration::ZERO };
        let metrics = Arc::new(Metrics::new().unwrap());
        let parts = EngineParts { limits, capacity: 1000, instances, trial: sample(1), metrics };
        let backend: Arc<dyn Backend> = Arc::<Fragile>::clone(backend);
        Engine::start(backend, parts).unwrap()
    }

    fn ask(engine: &Engine, ids: &[i64]) -> Vec<Result<f32, String>> {
        let mut reservation = engine.queue().reserve(ids.len()).unwrap();
        let replies = submit(&mut reservation, ids.iter().copied().map(sample).collect());
        let value = |answer: Answer| answer.output.rows().unwrap().values[0];
        replies.into_iter().map(|reply| reply.blocking_recv().unwrap().map(value).map_err(|e| e.0)).collect()
    }

    #[test]
    fn a_bad_text_fails_alone_and_poisons_nobody() {
        let engine = engine(&Arc::default(), 1);
        let answers = ask(&engine, &[2, PANIC, 3, ERROR]);
        assert_eq!(answers[0], Ok(2.0));
        assert_eq!(answers[2], Ok(3.0));
        assert!(answers[1].as_ref().unwrap_err().contains("unlucky"));
        assert_eq!(answers[3], Err("refused".to_owned()));
        assert_eq!(ask(&engine, &[4]), [Ok(4.0)]);
        assert_eq!(engine.condition().inability(), None, "the model itself is well");
        assert!(engine.condition().last_error().is_some());
    }

    #[test]
    fn a_model_that_fails_on_everything_is_unable_until_it_works_again() {
        let backend: Arc<Fragile> = Arc::default();
        let engine = engine(&backend, 1);
        backend.broken.store(true, Ordering::SeqCst);
        assert!(ask(&engine, &[1])[0].is_err());
        // The trial follows the answer; the next answer comes after the trial.
        assert!(ask(&engine, &[1])[0].is_err());
        assert!(engine.condition().inability().unwrap().contains("refused"));
        backend.broken.store(false, Ordering::SeqCst);
        assert!(ask(&engine, &[1])[0].is_ok());
        let give_up = Instant::now() + Duration::from_secs(10);
        while engine.condition().inability().is_some() {
            assert!(Instant::now() < give_up, "the model never came back");
            std::thread::yield_now();
        }
    }

    #[test]
    fn everything_accepted_before_the_end_is_answered() {
        let mut engine = engine(&Arc::default(), 2);
        let ids: Vec<i64> = (100..600).collect();
        let mut reservation = engine.queue().reserve(ids.len()).unwrap();
        let replies = submit(&mut reservation, ids.iter().copied().map(sample).collect());
        engine.finish();
        for (reply, id) in replies.into_iter().zip(ids) {
            assert_eq!(reply.blocking_recv().unwrap().unwrap().output.rows().unwrap().values, [id as f32]);
        }
        std::mem::take(&mut engine.threads).into_iter().for_each(|thread| thread.join().unwrap());
    }

    /// Works on every thread but one.
    struct HalfBroken;

    impl Backend for HalfBroken {
        fn forward(&self, rows: &[&Sample]) -> Result<Vec<Output>, ForwardError> {
            match std::thread::current().name() {
                Some("model-1") => Err(ForwardError("refused".to_owned())),
                _ => Fragile::default().forward(rows),
            }
        }
    }

    #[test]
    fn a_model_that_cannot_warm_up_does_not_start_and_leaves_no_thread() {
        let backend: Arc<dyn Backend> = Arc::new(HalfBroken);
        let limits = Limits { max_size: 1, max_padded_tokens: 1, max_padding: 0, max_delay: Duration::ZERO };
        let metrics = Arc::new(Metrics::new().unwrap());
        let parts = EngineParts { limits, capacity: 1, instances: 2, trial: sample(1), metrics };
        assert!(Engine::start(Arc::clone(&backend), parts).unwrap_err().contains("warming up"));
        let give_up = Instant::now() + Duration::from_secs(10);
        while Arc::strong_count(&backend) > 1 {
            assert!(Instant::now() < give_up, "a thread of a model that did not start lives on");
            std::thread::yield_now();
        }
    }
}
