//! Who may keep a socket busy.
//!
//! A client that asks is answered from memory within microseconds, so only those that connect and say nothing last. When all places are
//! taken the one that has been silent longest makes room: nobody who asks ever waits for those who do not.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

/// The places, by the order in which they were taken.
#[derive(Clone, Debug, Default)]
pub(super) struct Places(Arc<Mutex<Taken>>);

#[derive(Debug, Default)]
struct Taken {
    next: u64,
    /// Dropping the sender tells the client's task to make room.
    by_age: BTreeMap<u64, oneshot::Sender<()>>,
}

/// One client's place. It is free again when this is dropped.
#[derive(Debug)]
pub(super) struct Place {
    places: Places,
    number: u64,
    /// Ends when somebody else needs the place.
    pub(super) evicted: oneshot::Receiver<()>,
}

impl Places {
    /// Takes a place. If `most` are taken, the oldest is taken away.
    pub(super) fn take(&self, most: usize) -> Place {
        let (keep, evicted) = oneshot::channel();
        let mut taken = self.lock();
        while taken.by_age.len() >= most.max(1) {
            taken.by_age.pop_first();
        }
        let number = taken.next;
        taken.next += 1;
        taken.by_age.insert(number, keep);
        drop(taken);
        Place { places: self.clone(), number, evicted }
    }

    fn lock(&self) -> MutexGuard<'_, Taken> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.places.lock().by_age.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_one_that_has_waited_longest_makes_room_and_a_place_left_is_free() {
        let places = Places::default();
        let (mut first, second) = (places.take(2), places.take(2));
        drop(second);
        let mut third = places.take(2);
        assert!(first.evicted.try_recv() == Err(oneshot::error::TryRecvError::Empty), "there was room");
        let _fourth = places.take(2);
        assert!((&mut first.evicted).await.is_err(), "the oldest goes");
        assert!(third.evicted.try_recv() == Err(oneshot::error::TryRecvError::Empty));
    }
}
