//! The bounded door before the batcher: who may come in, who has left, when a model thread wakes.
//!
//! A request reserves room for all its texts before any work is done on it, so that a full queue refuses at once and cheaply.
//! Dropping the reservation (the client left, the deadline passed) takes its texts out again.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::batcher::{Batcher, Limits, Size, Ticket};

/// A bounded queue that hands out batches.
#[derive(Debug)]
pub struct Queue<J> {
    state: Mutex<State<J>>,
    wake: Condvar,
    /// For those who wait for the end alone.
    ended: Condvar,
}

#[derive(Debug)]
struct State<J> {
    batcher: Batcher<J>,
    capacity: usize,
    /// Room that is promised to requests whose texts are not tokenised yet.
    reserved: usize,
    closed: bool,
}

/// There is no room for so many texts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Full {
    /// How many wait.
    pub depth: usize,
    /// How many may.
    pub capacity: usize,
}

/// What a model thread gets when it asks for work.
#[derive(Debug)]
pub enum Next<J> {
    /// A batch, never empty.
    Batch(Vec<J>),
    /// Nothing came within the patience.
    Nothing,
    /// The queue is closed and empty: no work will come any more.
    Closed,
}

impl<J> Queue<J> {
    /// An empty queue.
    pub fn new(limits: Limits, capacity: usize) -> Self {
        let state = State { batcher: Batcher::new(limits), capacity, reserved: 0, closed: false };
        Self { state: Mutex::new(state), wake: Condvar::new(), ended: Condvar::new() }
    }

    /// Other limits and another capacity from now on. Whoever is in stays in; with less room than texts the queue is full until enough have
    /// been answered.
    pub fn set_limits(&self, limits: Limits, capacity: usize) {
        let mut state = self.lock();
        state.batcher.set_limits(limits);
        state.capacity = capacity;
        drop(state);
        // Those who wait for company may be due now.
        self.wake.notify_all();
    }

    /// Room for `texts` texts, or at once the reason why not.
    pub fn reserve(self: &Arc<Self>, texts: usize) -> Result<Reservation<J>, Full> {
        let mut state = self.lock();
        let (depth, capacity) = (state.depth(), state.capacity);
        if depth.saturating_add(texts) > capacity {
            return Err(Full { depth, capacity });
        }
        state.reserved += texts;
        drop(state);
        Ok(Reservation { queue: Arc::clone(self), reserved: texts, tickets: Vec::new() })
    }

    /// How many texts wait, or are on their way in.
    pub fn depth(&self) -> usize {
        self.lock().depth()
    }

    /// How many may.
    pub fn capacity(&self) -> usize {
        self.lock().capacity
    }

    /// Nobody waits for company any more: the server is shutting down, and its time is short.
    pub fn hurry(&self) {
        self.lock().batcher.hurry();
        self.wake.notify_all();
    }

    /// Model threads end once the queue is empty.
    pub fn close(&self) {
        let mut state = self.lock();
        state.closed = true;
        let ended = state.has_ended();
        drop(state);
        self.hurry();
        if ended {
            self.ended.notify_all();
        }
    }

    /// Blocks until a batch is due, at most `patience`.
    pub fn next(&self, patience: Duration) -> Next<J> {
        let give_up = Instant::now() + patience;
        let mut state = self.lock();
        loop {
            let now = Instant::now();
            if let Some(batch) = state.batcher.take_due(now) {
                // Whatever is left over may be due for another thread, whose wake-up this one may have used.
                if !state.batcher.is_empty() {
                    self.wake.notify_one();
                }
                return Next::Batch(batch);
            }
            if state.has_ended() {
                return Next::Closed;
            }
            if now >= give_up {
                return Next::Nothing;
            }
            let until = state.batcher.next_deadline().map_or(give_up, |due| due.min(give_up));
            let wait = self.wake.wait_timeout(state, until.saturating_duration_since(now));
            state = wait.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Blocks for `patience`, or until no work will come any more, and takes nothing: it is left to others.
    pub fn rest(&self, patience: Duration) -> Next<J> {
        let wait = self.ended.wait_timeout_while(self.lock(), patience, |state| !state.has_ended());
        let (state, _) = wait.unwrap_or_else(PoisonError::into_inner);
        if state.has_ended() { Next::Closed } else { Next::Nothing }
    }

    /// A panic while the lock is held leaves plain counters and maps behind, which are still true.
    fn lock(&self) -> MutexGuard<'_, State<J>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<J> State<J> {
    fn depth(&self) -> usize {
        self.batcher.len() + self.reserved
    }

    /// No work is there, and none will come.
    fn has_ended(&self) -> bool {
        self.closed && self.depth() == 0
    }
}

/// Room in the queue, held by one request for as long as it lives.
#[derive(Debug)]
pub struct Reservation<J> {
    queue: Arc<Queue<J>>,
    reserved: usize,
    tickets: Vec<Ticket>,
}

impl<J> Reservation<J> {
    /// Puts the samples in. Room that is left over is given back.
    pub fn submit(&mut self, now: Instant, jobs: Vec<(Size, J)>) {
        let mut state = self.queue.lock();
        state.reserved = state.reserved.saturating_sub(self.reserved);
        self.reserved = 0;
        let one = jobs.len() == 1;
        self.tickets.extend(state.batcher.push(now, jobs));
        drop(state);
        if one {
            self.queue.wake.notify_one();
        } else {
            self.queue.wake.notify_all();
        }
    }
}

impl<J> Drop for Reservation<J> {
    fn drop(&mut self) {
        let mut state = self.queue.lock();
        state.reserved = state.reserved.saturating_sub(self.reserved);
        for ticket in self.tickets.drain(..) {
            // Most have long been answered; only those of a departed client are still there.
            let _departed = state.batcher.cancel(ticket);
        }
        let ended = state.has_ended();
        drop(state);
        if ended {
            self.queue.wake.notify_all();
            self.queue.ended.notify_all();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOON: Duration = Duration::from_millis(1);

    fn queue(capacity: usize) -> Arc<Queue<u32>> {
        let limits = Limits {
            max_size: 8,
            max_padded_tokens: 100,
            max_padding: usize::MAX,
            max_delay: Duration::ZERO,
        };
        Arc::new(Queue::new(limits, capacity))
    }

    fn jobs(numbers: &[u32]) -> Vec<(Size, u32)> {
        numbers.iter().map(|number| (Size { class: 0, length: 1 }, *number)).collect()
    }

    #[test]
    fn a_full_queue_refuses_at_once_and_room_comes_back_with_the_reservation() {
        let queue = queue(3);
        let held = queue.reserve(2).unwrap();
        assert_eq!(queue.reserve(2).unwrap_err(), Full { depth: 2, capacity: 3 });
        drop(held);
        assert!(queue.reserve(3).is_ok());
        assert_eq!(queue.depth(), 0);
    }

    #[test]
    fn a_smaller_queue_keeps_whom_it_has_and_refuses_until_there_is_room() {
        let queue = queue(3);
        let mut held = queue.reserve(3).unwrap();
        held.submit(Instant::now(), jobs(&[1, 2, 3]));
        let limits = Limits { max_size: 2, max_padded_tokens: 9, max_padding: 9, max_delay: Duration::ZERO };
        queue.set_limits(limits, 2);
        assert_eq!(queue.reserve(1).unwrap_err(), Full { depth: 3, capacity: 2 });
        assert!(matches!(queue.next(SOON), Next::Batch(batch) if batch == [1, 2]));
        assert!(queue.reserve(1).is_ok());
    }

    #[test]
    fn a_shorter_delay_wakes_the_model_thread_that_waits_for_company() {
        let limits = |max_delay| Limits { max_size: 8, max_padded_tokens: 100, max_padding: 9, max_delay };
        let queue = Arc::new(Queue::new(limits(Duration::from_secs(3600)), 4));
        let mut held = queue.reserve(1).unwrap();
        held.submit(Instant::now(), jobs(&[5]));
        let waiting = Arc::clone(&queue);
        let thread = std::thread::spawn(move || waiting.next(Duration::from_secs(60)));
        queue.set_limits(limits(Duration::ZERO), 4);
        assert!(matches!(thread.join().unwrap(), Next::Batch(batch) if batch == [5]));
    }

    #[test]
    fn texts_taken_by_a_model_thread_make_room() {
        let queue = queue(2);
        let mut held = queue.reserve(2).unwrap();
        held.submit(Instant::now(), jobs(&[10, 11]));
        assert!(queue.reserve(1).is_err());
        assert!(matches!(queue.next(SOON), Next::Batch(batch) if batch == [10, 11]));
        assert!(queue.reserve(2).is_ok());
    }

    #[test]
    fn the_texts_of_a_departed_client_are_dropped() {
        let queue = queue(4);
        let mut staying = queue.reserve(1).unwrap();
        let mut leaving = queue.reserve(2).unwrap();
        leaving.submit(Instant::now(), jobs(&[1, 2]));
        staying.submit(Instant::now(), jobs(&[3]));
        drop(leaving);
        assert_eq!(queue.depth(), 1);
        assert!(matches!(queue.next(SOON), Next::Batch(batch) if batch == [3]));
    }

    #[test]
    fn a_closed_queue_gives_out_what_it_holds_and_then_ends() {
        let queue = queue(4);
        let mut held = queue.reserve(2).unwrap();
        queue.close();
        assert!(matches!(queue.next(SOON), Next::Nothing), "a reservation may still bring work");
        held.submit(Instant::now(), jobs(&[7]));
        assert!(matches!(queue.next(SOON), Next::Batch(batch) if batch == [7]));
        assert!(matches!(queue.next(SOON), Next::Closed));
    }

    #[test]
    fn who_rests_takes_nothing_and_sees_the_end() {
        let queue = queue(4);
        let mut held = queue.reserve(1).unwrap();
        held.submit(Instant::now(), jobs(&[7]));
        assert!(matches!(queue.rest(SOON), Next::Nothing));
        queue.close();
        assert!(matches!(queue.rest(SOON), Next::Nothing), "somebody has still to take it");
        let resting = Arc::clone(&queue);
        let thread = std::thread::spawn(move || resting.rest(Duration::from_secs(60)));
        assert!(matches!(queue.next(SOON), Next::Batch(batch) if batch == [7]));
        drop(held);
        assert!(matches!(thread.join().unwrap(), Next::Closed));
    }

    #[test]
    fn hurrying_sends_off_those_who_wait_for_company() {
        let limits = Limits {
            max_size: 8,
            max_padded_tokens: 100,
            max_padding: usize::MAX,
            max_delay: Duration::from_secs(3600),
        };
        let queue = Arc::new(Queue::new(limits, 4));
        let mut held = queue.reserve(1).unwrap();
        held.submit(Instant::now(), jobs(&[1]));
        assert!(matches!(queue.next(SOON), Next::Nothing));
        queue.hurry();
        assert!(matches!(queue.next(SOON), Next::Batch(batch) if batch == [1]));
    }

    #[test]
    fn a_waiting_model_thread_wakes_for_work() {
        let queue = queue(1);
        let waiting = Arc::clone(&queue);
        let thread = std::thread::spawn(move || waiting.next(Duration::from_secs(60)));
        let mut held = queue.reserve(1).unwrap();
        held.submit(Instant::now(), jobs(&[5]));
        assert!(matches!(thread.join().unwrap(), Next::Batch(batch) if batch == [5]));
    }
}
