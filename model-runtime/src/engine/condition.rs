//! How the model threads fare: what `/health` says about the model itself.
//!
//! After a failed batch the thread tries a text of its own. If that works, one bad input was to blame and the model is
//! well; if not, the model is not able, until a later trial succeeds.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// A forward that takes longer than this hangs: the longest one takes seconds even on a slow CPU.
const STUCK_AFTER: Duration = Duration::from_secs(120);

/// How much a batch weighs in the mean of the time that a sample takes: one in so many.
const PACE_OVER: u32 = 16;

/// The last thing that went wrong inside the model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LastError {
    /// What the model said.
    pub message: String,
    /// When.
    pub at: Instant,
}

/// The condition of all model threads.
#[derive(Debug)]
pub struct Condition {
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    last_error: Option<LastError>,
    failed_batches: u64,
    threads: Vec<Thread>,
    /// What a thread needs for a sample, in the mean of the latest batches.
    sample_time: Option<Duration>,
}

#[derive(Debug, Clone)]
struct Thread {
    able: bool,
    busy_since: Option<Instant>,
}

impl Condition {
    /// Threads that are able until proven otherwise.
    pub fn new(threads: usize) -> Self {
        let threads = vec![Thread { able: true, busy_since: None }; threads];
        Self { state: Mutex::new(State { last_error: None, failed_batches: 0, threads, sample_time: None }) }
    }

    /// The last error, if there ever was one.
    pub fn last_error(&self) -> Option<LastError> {
        self.lock().last_error.clone()
    }

    /// How many batches failed.
    pub fn failed_batches(&self) -> u64 {
        self.lock().failed_batches
    }

    /// Whether a thread is able.
    pub(super) fn any_able(&self) -> bool {
        self.lock().threads.iter().any(|thread| thread.able)
    }

    /// How many threads are not able, and how many there are.
    pub fn unable(&self) -> (usize, usize) {
        let state = self.lock();
        (state.threads.iter().filter(|thread| !thread.able).count(), state.threads.len())
    }

    /// Why the model cannot answer, if it cannot: no thread is able.
    pub fn inability(&self) -> Option<String> {
        let state = self.lock();
        if state.threads.iter().any(|thread| thread.able) {
            return None;
        }
        let cause = state.last_error.as_ref().map_or("", |error| error.message.as_str());
        Some(format!("the model fails on every input: {cause}"))
    }

    /// Which model thread hangs in a forward, if one does.
    pub fn stuck(&self, now: Instant) -> Option<String> {
        let state = self.lock();
        let hangs = |thread: &Thread| thread.busy_since.is_some_and(|since| now - since > STUCK_AFTER);
        let index = state.threads.iter().position(hangs)?;
        Some(format!("model thread {index} has been in one batch for more than {STUCK_AFTER:?}"))
    }

    /// A thread has taken a batch; the answer is whether all others are idle.
    pub(super) fn begin_batch(&self, thread: usize, now: Instant) -> bool {
        let mut state = self.lock();
        let alone = state.threads.iter().all(|thread| thread.busy_since.is_none());
        if let Some(thread) = state.threads.get_mut(thread) {
            thread.busy_since = Some(now);
        }
        alone
    }

    pub(super) fn end_batch(&self, thread: usize) {
        if let Some(thread) = self.lock().threads.get_mut(thread) {
            thread.busy_since = None;
        }
    }

    /// A thread has answered so many samples in this time.
    pub(super) fn record_pace(&self, samples: usize, time: Duration) {
        let Ok(samples @ 1..) = u32::try_from(samples) else { return };
        let (now, mut state) = (time / samples, self.lock());
        state.sample_time =
            Some(state.sample_time.map_or(now, |mean| (mean * (PACE_OVER - 1) + now) / PACE_OVER));
    }

    /// How long so many waiting samples will take, as far as can be told from the latest ones; `None` before the first.
    pub fn drain_time(&self, samples: usize) -> Option<Duration> {
        let state = self.lock();
        let able = state.threads.iter().filter(|thread| thread.able).count().max(1);
        let rounds = u32::try_from(samples.div_ceil(able)).unwrap_or(u32::MAX);
        Some(state.sample_time?.saturating_mul(rounds))
    }

    pub(super) fn record_error(&self, message: &str, at: Instant) {
        let mut state = self.lock();
        state.failed_batches += 1;
        state.last_error = Some(LastError { message: message.to_owned(), at });
    }

    pub(super) fn set_able(&self, thread: usize, able: bool) {
        if let Some(thread) = self.lock().threads.get_mut(thread) {
            thread.able = able;
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_model_is_unable_only_when_no_thread_is_able() {
        let condition = Condition::new(2);
        condition.record_error("boom", Instant::now());
        condition.set_able(0, false);
        assert_eq!(condition.inability(), None);
        assert_eq!(condition.unable(), (1, 2));
        condition.set_able(1, false);
        assert!(condition.inability().unwrap().contains("boom"));
        condition.set_able(0, true);
        assert_eq!(condition.inability(), None);
        assert_eq!(condition.last_error().unwrap().message, "boom");
    }

    #[test]
    fn how_long_a_queue_takes_is_told_from_the_latest_batches() {
        let condition = Condition::new(2);
        let milliseconds = Duration::from_millis;
        assert_eq!(condition.drain_time(100), None);
        condition.record_pace(8, milliseconds(80));
        condition.record_pace(0, milliseconds(80));
        assert_eq!(condition.drain_time(100), Some(milliseconds(500)), "10 ms each, two at a time");
        condition.set_able(0, false);
        assert_eq!(condition.drain_time(100), Some(milliseconds(1000)));
        (0..200).for_each(|_| condition.record_pace(1, milliseconds(20)));
        let slower = condition.drain_time(100).unwrap();
        assert!(slower > milliseconds(1990) && slower <= milliseconds(2000), "{slower:?}");
    }

    #[test]
    fn a_forward_that_never_ends_is_noticed() {
        let condition = Condition::new(2);
        let start = Instant::now();
        assert!(condition.begin_batch(1, start), "the other one is idle");
        assert!(!condition.begin_batch(0, start));
        condition.end_batch(0);
        assert_eq!(condition.stuck(start + STUCK_AFTER), None);
        assert!(condition.stuck(start + STUCK_AFTER * 2).unwrap().contains("thread 1"));
        condition.end_batch(1);
        assert_eq!(condition.stuck(start + STUCK_AFTER * 2), None);
    }
}
