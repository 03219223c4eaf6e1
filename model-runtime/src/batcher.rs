//! Which waiting samples go through the model together, and when. Pure: no IO, no clock, no threads.
//!
//! Why this rule: on a CPU, padding costs more than batching gains, so first-come batches are slower than none. So a batch is
//! *the sample whose turn it is and others of about its length*, as many as fit a budget of padded tokens; of those that are equally near, the ones
//! that have waited longest. "About" is an eighth of its length: closer company would save next to no padding, and strangers would overtake for it.
//!
//! ```text
//!   by length   3  7  9 [12] 13 13 40      it is the turn of [12]
//!                     └──┴───┴──┴─▶ a batch of 4 rows × 13 tokens = 52 padded tokens
//! ```
//!
//! Whose turn it is: requests share the model, as flows share a line in start-time fair queueing (Goyal, Vin and Cheng, 1996). The samples of a
//! request stand in line one behind the other, as far apart as they are long; a new request begins where the line is now, and not behind the
//! thousand samples of another. Hence one text never waits for a whole book. The other way round, a stream of small requests could hold up a large
//! one for ever; so each fourth batch begins with the sample that has waited longest, whoever's it is. Among requests of one sample
//! both are the same: first come, first served.
//!
//! Time is an argument. The caller asks [`Batcher::take_due`] whenever a model thread is idle and sleeps until
//! [`Batcher::next_deadline`] at most. Without `max_delay` whatever waits is due at once.
//!
//! What it does not do: it knows no bound on how many may wait (see `engine::queue`), and never answers anyone.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

/// How often a batch begins with the sample that has waited longest: one in so many. More often, small requests wait longer behind large ones.
const TURN_OF_THE_OLDEST: u32 = 4;

/// Lengths that differ by less than this part of the head's are equally near to it,
const NEAR: usize = 8;
/// and so are those that differ by less than so many tokens.
const NEAR_TOKENS: usize = 4;

/// What a batch may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// The most rows in a batch.
    pub max_size: usize,
    /// The most tokens in a batch, padding included (rows × longest row). A single longer sample still goes, alone.
    pub max_padded_tokens: usize,
    /// The most padding that one more row may bring in. Beyond it, a second forward is cheaper than the padding.
    pub max_padding: usize,
    /// How long the oldest sample may wait for company while a model thread is idle.
    pub max_delay: Duration,
}

/// What decides with whom a sample can go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Size {
    /// Only samples of one class go together.
    pub class: u64,
    /// Tokens; shorter rows of a batch are padded to its longest.
    pub length: usize,
}

/// Names one waiting sample; never used twice by the same batcher. Earlier ones are smaller.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(u64);

#[derive(Debug)]
struct Waiting<T> {
    arrived: Instant,
    size: Size,
    /// Its place in the line, in tokens.
    rank: u64,
    item: T,
}

/// The samples that wait for a model thread.
#[derive(Debug)]
pub struct Batcher<T> {
    limits: Limits,
    by_arrival: BTreeMap<Ticket, Waiting<T>>,
    by_rank: BTreeSet<(u64, Ticket)>,
    by_size: BTreeSet<(Size, Ticket)>,
    next_ticket: u64,
    /// Where the line is now: nobody who waits stands before it.
    line: u64,
    batches: u32,
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
            by_rank: BTreeSet::new(),
            by_size: BTreeSet::new(),
            next_ticket: 0,
            line: 0,
            batches: 0,
            hurried: false,
        }
    }

    /// Other limits from now on, also for those who wait already.
    pub fn set_limits(&mut self, limits: Limits) {
        self.limits = limits;
    }

    /// Adds the samples of one request that arrived at `now`; tickets come in their order. Arrival times must not go backwards.
    pub fn push(&mut self, now: Instant, request: impl IntoIterator<Item = (Size, T)>) -> Vec<Ticket> {
        let mut rank = self.line;
        let mut tickets = Vec::new();
        for (size, item) in request {
            let ticket = Ticket(self.next_ticket);
            self.next_ticket += 1;
            self.by_rank.insert((rank, ticket));
            self.by_size.insert((size, ticket));
            self.by_arrival.insert(ticket, Waiting { arrived: now, size, rank, item });
            tickets.push(ticket);
            rank = rank.saturating_add(u64::try_from(size.length).unwrap_or(u64::MAX));
        }
        tickets
    }

    /// Takes a sample back (its client left). `None` when it has gone into a batch already.
    pub fn cancel(&mut self, ticket: Ticket) -> Option<T> {
        self.remove(ticket).map(|waiting| waiting.item)
    }

    /// From now on nobody waits for company: used while shutting down.
    pub fn hurry(&mut self) {
        self.hurried = true;
    }

    /// How many samples wait.
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
        let chosen = self.choose(self.head()?)?.tickets;
        self.batches = self.batches.wrapping_add(1);
        let (first_in_line, _) = *self.by_rank.first()?;
        self.line = self.line.max(first_in_line);
        let mut rows: Vec<Waiting<T>> = chosen.into_iter().filter_map(|ticket| self.remove(ticket)).collect();
        rows.sort_by_key(|row| row.size);
        Some(rows.into_iter().map(|row| row.item).collect())
    }

    /// When [`Self::take_due`] has something to give; a moment in the past means now. `None` while nobody waits.
    pub fn next_deadline(&self) -> Option<Instant> {
        let (_, oldest) = self.by_arrival.first_key_value()?;
        let may_wait = !self.hurried && !self.limits.max_delay.is_zero();
        let waits = may_wait && !self.choose(self.head()?)?.full;
        Some(if waits { oldest.arrived + self.limits.max_delay } else { oldest.arrived })
    }

    fn remove(&mut self, ticket: Ticket) -> Option<Waiting<T>> {
        let waiting = self.by_arrival.remove(&ticket)?;
        self.by_rank.remove(&(waiting.rank, ticket));
        self.by_size.remove(&(waiting.size, ticket));
        Some(waiting)
    }

    /// Whose turn it is.
    fn head(&self) -> Option<Ticket> {
        if self.batches % TURN_OF_THE_OLDEST == TURN_OF_THE_OLDEST - 1 {
            self.by_arrival.first_key_value().map(|(ticket, _)| *ticket)
        } else {
            self.by_rank.first().map(|(_, ticket)| *ticket)
        }
    }

    /// This sample and others of about its length, within the limits.
    fn choose(&self, head: Ticket) -> Option<Choice> {
        let own = self.by_arrival.get(&head)?.size;
        let mut tickets = vec![head];
        let mut longest = own.length;
        let mut over_budget = false;
        for (ticket, length) in self.company(head, own) {
            if tickets.len() >= self.limits.max_size {
                break;
            }
            match self.fit(tickets.len(), longest, length) {
                Fit::Good => {
                    tickets.push(ticket);
                    longest = longest.max(length);
                }
                Fit::OverBudget => over_budget = true,
                Fit::TooMuchPadding => {}
            }
        }
        let full = over_budget || tickets.len() >= self.limits.max_size;
        Some(Choice { tickets, full })
    }

    /// Those who may go with this sample, with their lengths: the nearest first, of equally near ones the oldest.
    fn company(&self, head: Ticket, own: Size) -> Vec<(Ticket, usize)> {
        let of_length = |length| Size { length, ..own };
        let shortest = of_length(own.length.saturating_sub(self.limits.max_padding));
        let longest = of_length(own.length.saturating_add(self.limits.max_padding));
        let step = (own.length / NEAR).max(NEAR_TOKENS);
        let within = self.by_size.range((shortest, Ticket(0))..=(longest, Ticket(u64::MAX)));
        let mut company: Vec<(Ticket, usize)> = within
            .filter(|(_, ticket)| *ticket != head)
            .map(|(size, ticket)| (*ticket, size.length))
            .collect();
        company.sort_unstable_by_key(|(ticket, length)| (length.abs_diff(own.length) / step, *ticket));
        company
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
            batcher.push(now, [(tokens(length), length)]);
        }
        (batcher, now)
    }

    fn tokens(length: usize) -> Size {
        Size { class: 0, length }
    }

    #[test]
    fn an_empty_batcher_has_nothing_and_no_deadline() {
        let (mut batcher, now) = filled(limits(), &[]);
        assert_eq!(batcher.take_due(now), None);
        assert_eq!(batcher.next_deadline(), None);
    }

    #[test]
    fn the_oldest_takes_others_of_about_its_length() {
        let (mut batcher, now) = filled(limits(), &[12, 40, 3, 13, 9, 13, 7]);
        assert_eq!(batcher.take_due(now), Some(vec![9, 12, 13, 13]));
        assert_eq!(batcher.take_due(now), Some(vec![7, 40]), "3 rows of 40 would be 120 tokens");
        assert_eq!(batcher.take_due(now), Some(vec![3]));
        assert!(batcher.is_empty());
    }

    #[test]
    fn of_equally_near_ones_the_oldest_go_first() {
        let near = Limits { max_padding: 12, ..limits() };
        // 100, 99 and 101 are as good company for 98 as one another; 110 is not.
        let (mut batcher, now) =
            filled(Limits { max_size: 3, max_padded_tokens: 1000, ..near }, &[98, 110, 101, 99, 100]);
        assert_eq!(batcher.take_due(now), Some(vec![98, 99, 101]));
        let (mut short, now) = filled(Limits { max_size: 2, ..near }, &[5, 8, 5]);
        assert_eq!(short.take_due(now), Some(vec![5, 8]), "three tokens are no reason to overtake");
        let (mut far, now) = filled(Limits { max_size: 2, ..near }, &[5, 9, 5]);
        assert_eq!(far.take_due(now), Some(vec![5, 5]));
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
    fn other_limits_hold_for_those_who_wait_already() {
        let wait = Limits { max_delay: Duration::from_secs(9), ..limits() };
        let (mut batcher, now) = filled(wait, &[1, 1, 1]);
        assert_eq!(batcher.take_due(now), None);
        batcher.set_limits(Limits { max_size: 2, ..wait });
        assert_eq!(batcher.take_due(now), Some(vec![1, 1]));
        batcher.set_limits(limits());
        assert_eq!(batcher.take_due(now), Some(vec![1]));
    }

    #[test]
    fn a_cancelled_request_is_in_no_batch() {
        let mut batcher = Batcher::new(limits());
        let now = Instant::now();
        let first = batcher.push(now, [(tokens(1), "first")])[0];
        batcher.push(now, [(tokens(1), "second")]);
        assert_eq!(batcher.cancel(first), Some("first"));
        assert_eq!(batcher.cancel(first), None);
        assert_eq!(batcher.take_due(now), Some(vec!["second"]));
    }

    #[test]
    fn samples_of_different_classes_never_go_together() {
        let mut batcher = Batcher::new(limits());
        let now = Instant::now();
        let of = |class| (Size { class, length: 1 }, class);
        batcher.push(now, [of(7), of(8), of(7), of(9), of(8)]);
        assert_eq!(batcher.take_due(now), Some(vec![7, 7]));
        assert_eq!(batcher.take_due(now), Some(vec![8, 8]));
        assert_eq!(batcher.take_due(now), Some(vec![9]));
    }

    #[test]
    fn one_text_does_not_wait_for_the_thousand_of_another_request() {
        let mut batcher = Batcher::new(limits());
        let now = Instant::now();
        batcher.push(now, (0..1000).map(|_| (tokens(10), "book")));
        for _ in 0..100 {
            batcher.take_due(now);
            batcher.push(now, [(tokens(90), "lone")]);
            // In its turn at once, unless that is the turn of the oldest.
            let two = [batcher.take_due(now), batcher.take_due(now)];
            assert!(two.iter().flatten().flatten().any(|&item| item == "lone"));
        }
    }

    #[test]
    fn a_stream_of_small_requests_does_not_hold_up_a_large_one_for_ever() {
        let mut batcher = Batcher::new(limits());
        let now = Instant::now();
        batcher.push(now, (0..20).map(|_| (tokens(90), "book")));
        let mut batches = 0;
        while batcher.by_arrival.values().any(|waiting| waiting.item == "book") {
            batcher.push(now, [(tokens(80), "lone")]);
            batcher.take_due(now);
            batches += 1;
        }
        assert!(batches <= 20 * 4, "{batches}");
    }
}
