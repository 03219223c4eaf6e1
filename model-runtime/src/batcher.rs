//! Which waiting requests go through the model together, and when. Pure: no IO, no clock, no threads.
//!
//! Why this rule: on a CPU, padding costs more than batching gains, so first-come batches are slower than none. So a batch is
//! *the oldest request and its nearest neighbours in length*, as many as fit a budget of padded tokens. Starting from
//! the oldest means that nobody starves: each batch answers the one who has waited longest, whatever its length.
//!
//! ```text
//!   by length   3  7  9 [12] 13 13 40      [12] is the oldest
//!                     └──┴───┴──┴─▶ a batch of 4 rows × 13 tokens = 52 padded tokens
//! ```
//!
//! Time is an argument. The caller asks [`Batcher::take_due`] whenever a model thread is idle and sleeps until
//! [`Batcher::next_deadline`] at most. Without `max_delay` whatever waits is due at once.
//!
//! What it does not do: it knows no bound on how many may wait (see `engine::queue`), and never answers anyone.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

/// What a batch may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// The most rows in a batch.
    pub max_size: usize,
    /// The most tokens in a batch, padding included (rows × longest row). A single longer request still goes, alone.
    pub max_padded_tokens: usize,
    /// The most padding that one more row may bring in. Beyond it, a second forward is cheaper than the padding.
    pub max_padding: usize,
    /// How long the oldest request may wait for company while a model thread is idle.
    pub max_delay: Duration,
}

/// Names one waiting request; never used twice by the same batcher.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(u64);

#[derive(Debug)]
struct Waiting<T> {
    arrived: Instant,
    length: usize,
    item: T,
}

/// The requests that wait for a model thread.
#[derive(Debug)]
pub struct Batcher<T> {
    limits: Limits,
    by_arrival: BTreeMap<Ticket, Waiting<T>>,
    by_length: BTreeSet<(usize, Ticket)>,
    next_ticket: u64,
    hurried: bool,
}

/// The rows chosen for the next batch, and whether waiting longer could not make it bigger.
struct Choice {
    tickets: Vec<Ticket>,
    full: bool,
}

enum Fit {
    Good,
    OverBudget,
    TooMuchPadding,
}

impl<T> Batcher<T> {
    /// An empty batcher.
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            by_arrival: BTreeMap::new(),
            by_length: BTreeSet::new(),
            next_ticket: 0,
            hurried: false,
        }
    }

    /// Adds a request of `length` tokens that arrived at `now`. Arrival times must not go backwards.
    pub fn push(&mut self, now: Instant, length: usize, item: T) -> Ticket {
        let ticket = Ticket(self.next_ticket);
        self.next_ticket += 1;
        self.by_length.insert((length, ticket));
        self.by_arrival.insert(ticket, Waiting { arrived: now, length, item });
        ticket
    }

    /// Takes a request back (its client left). `None` when it has gone into a batch already.
    pub fn cancel(&mut self, ticket: Ticket) -> Option<T> {
        let waiting = self.by_arrival.remove(&ticket)?;
        self.by_length.remove(&(waiting.length, ticket));
        Some(waiting.item)
    }

    /// From now on nobody waits for company: used while shutting down.
    pub fn hurry(&mut self) {
        self.hurried = true;
    }

    /// How many requests wait.
    pub fn len(&self) -> usize {
        self.by_arrival.len()
    }

    /// Whether nobody waits.
    pub fn is_empty(&self) -> bool {
        self.by_arrival.is_empty()
    }

    /// The next batch, shortest row first, if one is due at `now`. Never empty.
    pub fn take_due(&mut self, now: Instant) -> Option<Vec<T>> {
        if self.next_deadline()? > now {
            return None;
        }
        let mut rows: Vec<Waiting<T>> = Vec::new();
        for ticket in self.choose()?.tickets {
            if let Some(waiting) = self.by_arrival.remove(&ticket) {
                self.by_length.remove(&(waiting.length, ticket));
                rows.push(waiting);
            }
        }
        rows.sort_by_key(|row| row.length);
        Some(rows.into_iter().map(|row| row.item).collect())
    }

    /// When [`Self::take_due`] has something to give; a moment in the past means now. `None` while nobody waits.
    pub fn next_deadline(&self) -> Option<Instant> {
        let (_, oldest) = self.by_arrival.first_key_value()?;
        let waits = !self.hurried && !self.limits.max_delay.is_zero() && !self.choose()?.full;
        Some(if waits { oldest.arrived + self.limits.max_delay } else { oldest.arrived })
    }

    /// The oldest request and its nearest neighbours in length, within the limits.
    fn choose(&self) -> Option<Choice> {
        let (&oldest, waiting) = self.by_arrival.first_key_value()?;
        let origin = (waiting.length, oldest);
        let mut shorter = self.by_length.range(..origin).rev().copied();
        let mut longer = self.by_length.range(origin..).skip(1).copied();
        let (mut below, mut above) = (shorter.next(), longer.next());

        let mut tickets = vec![oldest];
        let mut longest = waiting.length;
        let mut over_budget = false;
        while tickets.len() < self.limits.max_size {
            let is_below = match (below, above) {
                (None, None) => break,
                (Some(_), None) => true,
                (None, Some(_)) => false,
                (Some((short, _)), Some((long, _))) => waiting.length - short < long - waiting.length,
            };
            let Some((length, ticket)) = (if is_below { below } else { above }) else { break };
            match self.fit(tickets.len(), longest, length) {
                Fit::Good => {
                    tickets.push(ticket);
                    longest = longest.max(length);
                    *(if is_below { &mut below } else { &mut above }) =
                        if is_below { shorter.next() } else { longer.next() };
                }
                // What lies further out on the same side fits even less; shorter ones may still fit.
                Fit::OverBudget if is_below => {
                    over_budget = true;
                    break;
                }
                Fit::OverBudget => (over_budget, above) = (true, None),
                Fit::TooMuchPadding if is_below => below = None,
                Fit::TooMuchPadding => above = None,
            }
        }
        let full = over_budget || tickets.len() >= self.limits.max_size;
        Some(Choice { tickets, full })
    }

    /// Whether a row of `length` may join a batch of `rows` rows padded to `longest`.
    fn fit(&self, rows: usize, longest: usize, length: usize) -> Fit {
        let padding = if length > longest { rows.saturating_mul(length - longest) } else { longest - length };
        if (rows + 1).saturating_mul(longest.max(length)) > self.limits.max_padded_tokens {
            Fit::OverBudget
        } else if padding > self.limits.max_padding {
            Fit::TooMuchPadding
        } else {
            Fit::Good
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits() -> Limits {
        Limits { max_size: 4, max_padded_tokens: 100, max_padding: usize::MAX, max_delay: Duration::ZERO }
    }

    fn filled(limits: Limits, lengths: &[usize]) -> (Batcher<usize>, Instant) {
        let mut batcher = Batcher::new(limits);
        let now = Instant::now();
        for &length in lengths {
            batcher.push(now, length, length);
        }
        (batcher, now)
    }

    #[test]
    fn an_empty_batcher_has_nothing_and_no_deadline() {
        let (mut batcher, now) = filled(limits(), &[]);
        assert_eq!(batcher.take_due(now), None);
        assert_eq!(batcher.next_deadline(), None);
    }

    #[test]
    fn the_oldest_takes_its_nearest_neighbours_in_length() {
        let (mut batcher, now) = filled(limits(), &[12, 40, 3, 13, 9, 13, 7]);
        assert_eq!(batcher.take_due(now), Some(vec![9, 12, 13, 13]));
        assert_eq!(batcher.take_due(now), Some(vec![7, 40]), "3 rows of 40 would be 120 tokens");
        assert_eq!(batcher.take_due(now), Some(vec![3]));
        assert!(batcher.is_empty());
    }

    #[test]
    fn a_request_longer_than_the_budget_goes_alone() {
        let (mut batcher, now) = filled(limits(), &[500, 1]);
        assert_eq!(batcher.take_due(now), Some(vec![500]));
        assert_eq!(batcher.take_due(now), Some(vec![1]));
    }

    #[test]
    fn rows_that_would_mostly_be_padding_are_left_for_the_next_batch() {
        let (mut batcher, now) = filled(Limits { max_padding: 5, ..limits() }, &[20, 2, 18, 30]);
        assert_eq!(batcher.take_due(now), Some(vec![18, 20]));
        assert_eq!(batcher.take_due(now), Some(vec![2]));
        assert_eq!(batcher.take_due(now), Some(vec![30]));
    }

    #[test]
    fn with_a_delay_a_lone_request_waits_for_company_but_no_longer() {
        let delay = Duration::from_millis(5);
        let (mut batcher, now) = filled(Limits { max_delay: delay, ..limits() }, &[10]);
        assert_eq!(batcher.next_deadline(), Some(now + delay));
        assert_eq!(batcher.take_due(now + delay - Duration::from_nanos(1)), None);
        assert_eq!(batcher.take_due(now + delay), Some(vec![10]));
    }

    #[test]
    fn a_full_batch_does_not_wait_for_the_delay() {
        let wait = Limits { max_delay: Duration::from_secs(9), ..limits() };
        let (mut by_size, now) = filled(wait, &[1, 1, 1, 1]);
        assert_eq!(by_size.take_due(now), Some(vec![1, 1, 1, 1]));
        let (mut by_tokens, now) = filled(wait, &[60, 60]);
        assert_eq!(by_tokens.take_due(now), Some(vec![60]));
        assert_eq!(by_tokens.take_due(now), None, "the other one now waits for company");
    }

    #[test]
    fn hurrying_ends_the_waiting() {
        let (mut batcher, now) = filled(Limits { max_delay: Duration::from_secs(9), ..limits() }, &[1]);
        batcher.hurry();
        assert_eq!(batcher.take_due(now), Some(vec![1]));
    }

    #[test]
    fn a_cancelled_request_is_in_no_batch() {
        let mut batcher = Batcher::new(limits());
        let now = Instant::now();
        let first = batcher.push(now, 1, "first");
        batcher.push(now, 1, "second");
        assert_eq!(batcher.cancel(first), Some("first"));
        assert_eq!(batcher.cancel(first), None);
        assert_eq!(batcher.take_due(now), Some(vec!["second"]));
    }
}
