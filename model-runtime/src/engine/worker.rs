//! A model thread: takes a batch, runs it, answers everyone in it.
//!
//! What it does when a forward fails depends on why (`ForwardError`): without memory for all rows it goes on with fewer at a time; when the
//! model refuses a batch each row gets its own chance; when the GPU is lost nobody does, and the process is about to end.
//!
//! A thread whose model fails on a harmless sample, too, takes no batches while another thread is able (its GPU may be well): it only tries
//! again, each second, until it is well.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::time::{Duration, Instant};

use super::queue::{Next, Queue};
use super::token_budget::TokenBudget;
use super::{Answer, Batch, Condition, Job, Poison};
use crate::backend::{Backend, ForwardError, Output, Sample};
use crate::metrics::Metrics;

/// How often a thread whose model fails looks whether it has come back.
const TRIAL_INTERVAL: Duration = Duration::from_secs(1);

pub(super) struct Worker {
    pub(super) index: usize,
    pub(super) backend: Arc<dyn Backend>,
    pub(super) queue: Arc<Queue<Job>>,
    pub(super) condition: Arc<Condition>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) poison: Arc<Poison>,
    pub(super) trial: Sample,
    pub(super) warm_up: Arc<[Vec<Sample>]>,
    pub(super) budget: TokenBudget,
    /// What the backend was last told.
    pub(super) alone: bool,
}

impl Worker {
    /// Warms up, says so, and works until the queue is closed and empty.
    pub(super) fn run(mut self, warm: &Sender<Result<(), ForwardError>>) {
        self.backend.enter_thread();
        let warmed = self.warm_up();
        let failed = warmed.is_err();
        // The receiver is gone only if another thread failed first.
        let _ = warm.send(warmed);
        if failed {
            return;
        }
        let mut able = true;
        loop {
            let takes_work = able || !self.condition.any_able();
            let next =
                if takes_work { self.queue.next(TRIAL_INTERVAL) } else { self.queue.rest(TRIAL_INTERVAL) };
            match next {
                Next::Batch(jobs) => {
                    let others_idle = self.condition.begin_batch(self.index, Instant::now());
                    self.use_cores(others_idle && self.queue.depth() == 0);
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

    /// A forward that nobody else competes with may use all cores: that is the sooner answer. As soon as there is more to do, one core for each
    /// forward answers more.
    fn use_cores(&mut self, alone: bool) {
        if alone != self.alone {
            self.backend.set_alone(alone);
            self.alone = alone;
        }
    }

    /// Runs each batch of the warm-up. Limits too large for the memory there is are found here, and not by the first clients.
    fn warm_up(&mut self) -> Result<(), ForwardError> {
        let batches = Arc::clone(&self.warm_up);
        for batch in batches.iter() {
            let mut rows: Vec<&Sample> = batch.iter().collect();
            while let Err(error) = self.forward(&rows) {
                if !matches!(error, ForwardError::OutOfMemory(_)) || rows.len() == 1 {
                    return Err(error);
                }
                tracing::warn!(thread = self.index, samples = rows.len(), %error, "a batch of this size has no memory: going on with half");
                let longest = rows.last().map_or(0, |row| row.size().length);
                self.budget.exceeded(rows.len() * longest);
                rows.truncate(rows.len() / 2);
            }
        }
        Ok(())
    }

    /// Runs the batch and answers everyone; `false` if any sample got an error.
    fn answer(&mut self, jobs: Vec<Job>) -> bool {
        // Clients that left while their batch was being chosen; the rest of their samples are out of the queue already.
        let mut waiting: Vec<Job> = jobs.into_iter().filter(|job| !job.reply.is_closed()).collect();
        let (mut well, mut cut) = (true, false);
        while !waiting.is_empty() {
            let lengths: Vec<usize> = waiting.iter().map(|job| job.sample.size().length).collect();
            let together = self.budget.rows(&lengths);
            let rest = waiting.split_off(together.min(waiting.len()));
            cut |= !rest.is_empty();
            let started = Instant::now();
            let rows: Vec<&Sample> = waiting.iter().map(|job| &job.sample).collect();
            let batch = Batch::of(&rows);
            let result = self.forward(&rows);
            let inference_time = started.elapsed();
            self.metrics.observe_batch(&rows);
            match result {
                Ok(outputs) => {
                    self.condition.record_pace(waiting.len(), inference_time);
                    for (job, output) in waiting.into_iter().zip(outputs) {
                        let passed = Passage { started, inference_time, batch };
                        reply(job, passed, Ok(output));
                    }
                }
                Err(error) => {
                    self.record(&error, waiting.len());
                    if let ForwardError::OutOfMemory(_) = error {
                        // Sorted by length, the last row has the padding of all.
                        let longest = lengths.get(..waiting.len()).and_then(<[usize]>::last);
                        self.budget.exceeded(waiting.len() * longest.copied().unwrap_or_default());
                        if waiting.len() > 1 {
                            // Again, with what the smaller budget lets through: at least one row fewer.
                            waiting.extend(rest);
                            continue;
                        }
                    }
                    well = false;
                    self.answer_one_by_one(waiting, &error);
                }
            }
            waiting = rest;
        }
        if well {
            self.budget.fitted(cut);
        }
        well
    }

    /// One sample may have spoilt the batch: each gets its own chance, so that only the guilty one fails.
    fn answer_one_by_one(&self, jobs: Vec<Job>, error: &ForwardError) {
        let alone = jobs.len() == 1;
        for job in jobs {
            // What is logged now is about this request alone.
            let span = job.span.clone();
            let _logged_as_the_requests = span.enter();
            let batch = Batch::of(&[&job.sample]);
            let started = Instant::now();
            let outputs = if alone { Err(error.clone()) } else { self.forward(&[&job.sample]) };
            let no_answer = || ForwardError::Failed("no answer".to_owned());
            let result = outputs.and_then(|outputs| outputs.into_iter().next().ok_or_else(no_answer));
            reply(job, Passage { started, inference_time: started.elapsed(), batch }, result);
        }
    }

    /// A forward in which even a panic is only an error, and which answers every row or none.
    fn forward(&self, rows: &[&Sample]) -> Result<Vec<Output>, ForwardError> {
        if let Some(cause) = self.poison.cause() {
            return Err(ForwardError::Poisoned(cause));
        }
        // Unwind-safe: a backend is only read by `forward`, and what it made so far is dropped with the panic.
        let result = catch_unwind(AssertUnwindSafe(|| self.backend.forward(rows)));
        let answers = result.unwrap_or_else(|panic| Err(ForwardError::Failed(panic_message(&*panic))));
        match answers {
            Ok(answers) if answers.len() == rows.len() => Ok(answers),
            Ok(answers) => {
                let problem = format!("the model answered {} of {} samples", answers.len(), rows.len());
                Err(ForwardError::Failed(problem))
            }
            Err(error) => {
                if let ForwardError::Poisoned(cause) = &error {
                    self.poison.report(cause);
                }
                Err(error)
            }
        }
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
        self.condition.record_error(&error.to_string(), Instant::now());
        self.metrics.batch_failed();
    }
}

/// How a sample went through the model.
struct Passage {
    started: Instant,
    inference_time: Duration,
    batch: Batch,
}

fn reply(job: Job, passed: Passage, result: Result<Output, ForwardError>) {
    let Passage { started, inference_time, batch } = passed;
    let queue_time = started.saturating_duration_since(job.queued);
    // A client may have left meanwhile.
    let _ = job.reply.send(result.map(|output| Answer { output, queue_time, inference_time, batch }));
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
    use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

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
                return Err(ForwardError::Failed("refused".to_owned()));
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

    /// An echo with memory for so many padded tokens.
    struct Small {
        room: usize,
        failures: AtomicUsize,
    }

    impl Backend for Small {
        fn forward(&self, rows: &[&Sample]) -> Result<Vec<Output>, ForwardError> {
            let longest = rows.iter().map(|row| row.size().length).max().unwrap();
            if rows.len() * longest > self.room {
                self.failures.fetch_add(1, Ordering::SeqCst);
                return Err(ForwardError::OutOfMemory("CUDA out of memory".to_owned()));
            }
            Fragile::default().forward(rows)
        }
    }

    /// A GPU that a forward of the number [`ERROR`] breaks for good.
    #[derive(Default)]
    struct Mortal {
        forwards: AtomicUsize,
    }

    impl Backend for Mortal {
        fn forward(&self, rows: &[&Sample]) -> Result<Vec<Output>, ForwardError> {
            self.forwards.fetch_add(1, Ordering::SeqCst);
            let poisoned = |_| ForwardError::Poisoned("CUDA error: device-side assert triggered".to_owned());
            Fragile::default().forward(rows).map_err(poisoned)
        }
    }

    fn parts(instances: usize) -> EngineParts {
        let limits =
            Limits { max_size: 8, max_padded_tokens: 64, max_padding: 64, max_delay: Duration::ZERO };
        EngineParts {
            limits,
            capacity: 1000,
            instances,
            trial: sample(1),
            warm_up: vec![vec![sample(1)]],
            metrics: Arc::new(Metrics::new().unwrap()),
            poison: Arc::default(),
        }
    }

    fn start(backends: &[Arc<dyn Backend>], instances: usize) -> Engine {
        Engine::start(backends, parts(instances)).unwrap()
    }

    fn engine(backend: &Arc<Fragile>, instances: usize) -> Engine {
        start(&[Arc::<Fragile>::clone(backend)], instances)
    }

    fn answers(engine: &Engine, samples: Vec<Sample>) -> Vec<Result<f32, ForwardError>> {
        let mut reservation = engine.queue().reserve(samples.len()).unwrap();
        let replies = submit(&mut reservation, samples);
        let value = |answer: Answer| answer.output.rows().unwrap().values[0];
        replies.into_iter().map(|reply| reply.blocking_recv().unwrap().map(value)).collect()
    }

    fn ask(engine: &Engine, ids: &[i64]) -> Vec<Result<f32, String>> {
        let answers = answers(engine, ids.iter().copied().map(sample).collect());
        answers.into_iter().map(|answer| answer.map_err(|error| error.to_string())).collect()
    }

    fn wait_until(what: impl Fn() -> bool) {
        let give_up = Instant::now() + Duration::from_secs(30);
        while !what() {
            assert!(Instant::now() < give_up, "it never came to that");
            std::thread::yield_now();
        }
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
        wait_until(|| engine.condition().inability().is_none());
    }

    #[test]
    fn a_device_that_fails_leaves_the_work_to_the_others_until_it_is_well() {
        let (sick, well): (Arc<Fragile>, Arc<Fragile>) = Default::default();
        let engine = start(&[Arc::<Fragile>::clone(&sick), well], 1);
        sick.broken.store(true, Ordering::SeqCst);
        wait_until(|| {
            // Whichever thread is idle answers; sooner or later it is the sick one.
            let _ = ask(&engine, &[1]);
            engine.condition().unable() == (1, 2)
        });
        for id in 100..150 {
            assert_eq!(ask(&engine, &[id]), [Ok(id as f32)]);
        }
        assert_eq!(engine.condition().inability(), None);
        sick.broken.store(false, Ordering::SeqCst);
        wait_until(|| engine.condition().unable() == (0, 2));
    }

    #[test]
    fn a_batch_without_memory_is_split_and_later_ones_are_smaller() {
        let small = Arc::new(Small { room: 20, failures: AtomicUsize::default() });
        let engine = start(&[Arc::<Small>::clone(&small)], 1);
        // As many as a batch takes, 8 rows of 8 tokens: three times what there is room for.
        let samples =
            |ids: std::ops::Range<i64>| ids.map(|id| Sample::Tokens(TokenIds::filler(id, 8))).collect();
        let echoed = |ids: std::ops::Range<i64>| -> Vec<_> { ids.map(|id| Ok(id as f32)).collect() };
        assert_eq!(answers(&engine, samples(100..108)), echoed(100..108));
        let failures = small.failures.load(Ordering::SeqCst);
        assert!((1..=3).contains(&failures), "64, 32 and 16 tokens were tried, but {failures} failed");
        assert_eq!(answers(&engine, samples(200..208)), echoed(200..208));
        assert_eq!(small.failures.load(Ordering::SeqCst), failures, "what does not fit is not tried again");
        assert!(engine.condition().last_error().unwrap().message.contains("out of memory"));
    }

    #[test]
    fn warming_up_finds_how_much_fits() {
        let small = Arc::new(Small { room: 20, failures: AtomicUsize::default() });
        let mut parts = parts(1);
        parts.warm_up = vec![vec![Sample::Tokens(TokenIds::filler(1, 8)); 8]];
        let engine = Engine::start(&[Arc::<Small>::clone(&small)], parts).unwrap();
        let failures = small.failures.load(Ordering::SeqCst);
        assert_eq!(failures, 2, "64 and 32 tokens have no room, 16 have");
        let samples = (100..108).map(|id| Sample::Tokens(TokenIds::filler(id, 8))).collect();
        assert!(answers(&engine, samples).iter().all(Result::is_ok));
        assert_eq!(small.failures.load(Ordering::SeqCst), failures);
    }

    #[test]
    fn a_sample_that_does_not_fit_alone_is_refused_and_the_model_stays_able() {
        let small = Arc::new(Small { room: 20, failures: AtomicUsize::default() });
        let engine = start(&[small], 1);
        let samples = vec![Sample::Tokens(TokenIds::filler(5, 21)), Sample::Tokens(TokenIds::filler(6, 2))];
        let answers = answers(&engine, samples);
        assert!(matches!(answers[0], Err(ForwardError::OutOfMemory(_))));
        assert_eq!(answers[1], Ok(6.0));
        assert_eq!(ask(&engine, &[7]), [Ok(7.0)]);
        assert_eq!(engine.condition().inability(), None);
    }

    #[test]
    fn a_lost_gpu_is_told_at_once_and_never_asked_again() {
        let mortal: Arc<Mortal> = Arc::default();
        let parts = parts(2);
        let poison = Arc::clone(&parts.poison);
        let engine = Engine::start(&[Arc::<Mortal>::clone(&mortal)], parts).unwrap();
        assert_eq!(ask(&engine, &[2]), [Ok(2.0)]);
        assert_eq!(poison.cause(), None);
        let poisoned = |id| matches!(&answers(&engine, vec![sample(id)])[0], Err(ForwardError::Poisoned(_)));
        assert!(poisoned(ERROR));
        assert!(poison.cause().unwrap().contains("device-side assert"));
        let forwards = mortal.forwards.load(Ordering::SeqCst);
        assert!((0..10).all(|_| poisoned(3)), "those who wait are told, too");
        assert_eq!(mortal.forwards.load(Ordering::SeqCst), forwards);
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
                Some("model-1") => Err(ForwardError::Failed("refused".to_owned())),
                _ => Fragile::default().forward(rows),
            }
        }
    }

    #[test]
    fn a_model_that_cannot_warm_up_does_not_start_and_leaves_no_thread() {
        let backend: Arc<dyn Backend> = Arc::new(HalfBroken);
        let error = Engine::start(&[Arc::clone(&backend)], parts(2)).unwrap_err();
        assert!(error.contains("warming up"), "{error}");
        wait_until(|| Arc::strong_count(&backend) == 1);
    }
}
