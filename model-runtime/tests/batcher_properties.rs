//! What holds for the batcher whatever arrives, leaves, or is asked, in any order and at any time.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use model_runtime::batcher::{Batcher, Limits, Size, Ticket};
use proptest::prelude::*;

/// What may happen to a batcher.
#[derive(Debug, Clone)]
enum Step {
    Push { length: usize },
    Leave { pick: usize },
    Pass { micros: u64 },
    ThreadBecomesIdle,
    Hurry,
}

#[derive(Debug, Clone)]
struct Item {
    name: usize,
    length: usize,
    arrived: Instant,
}

fn limits() -> impl Strategy<Value = Limits> {
    let padding = prop_oneof![Just(usize::MAX), 0_usize..40];
    (1_usize..12, 1_usize..400, padding, 0_u64..5_000).prop_map(
        |(max_size, max_padded_tokens, max_padding, micros)| Limits {
            max_size,
            max_padded_tokens,
            max_padding,
            max_delay: Duration::from_micros(micros),
        },
    )
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        8 => (1_usize..120).prop_map(|length| Step::Push { length }),
        1 => any::<usize>().prop_map(|pick| Step::Leave { pick }),
        3 => (1_u64..3_000).prop_map(|micros| Step::Pass { micros }),
        4 => Just(Step::ThreadBecomesIdle),
        1 => prop_oneof![9 => Just(Step::Pass { micros: 1 }), 1 => Just(Step::Hurry)],
    ];
    proptest::collection::vec(step, 1..120)
}

/// A batcher, the idle model threads before it, and what is known to be true.
#[derive(Debug)]
struct World {
    limits: Limits,
    batcher: Batcher<Item>,
    now: Instant,
    idle: usize,
    pushed: usize,
    waiting: BTreeMap<Ticket, Item>,
    answered: BTreeSet<usize>,
    left: BTreeSet<usize>,
}

#[cfg(test)]
impl World {
    fn new(limits: Limits) -> Self {
        Self {
            limits,
            batcher: Batcher::new(limits),
            now: Instant::now(),
            idle: 0,
            pushed: 0,
            waiting: BTreeMap::new(),
            answered: BTreeSet::new(),
            left: BTreeSet::new(),
        }
    }

    fn take(&mut self, step: &Step) -> Result<(), TestCaseError> {
        match step {
            Step::Push { length } => {
                let item = Item { name: self.pushed, length: *length, arrived: self.now };
                self.pushed += 1;
                let size = Size { class: 0, length: *length };
                let tickets = self.batcher.push(self.now, [(size, item.clone())]);
                self.waiting.insert(tickets[0], item);
            }
            Step::Leave { pick } => {
                let tickets: Vec<Ticket> = self.waiting.keys().copied().collect();
                if let Some(ticket) = tickets.get(pick % tickets.len().max(1)) {
                    let item = self.batcher.cancel(*ticket).expect("it was waiting");
                    prop_assert!(self.left.insert(item.name));
                    self.waiting.remove(ticket);
                }
            }
            Step::Pass { micros } => self.pass(Duration::from_micros(*micros))?,
            Step::ThreadBecomesIdle => self.idle += 1,
            Step::Hurry => self.batcher.hurry(),
        }
        self.serve()
    }

    /// Time passes, from deadline to deadline, as an idle thread would sleep.
    fn pass(&mut self, time: Duration) -> Result<(), TestCaseError> {
        let end = self.now + time;
        while let Some(due) = self.batcher.next_deadline().filter(|due| self.idle > 0 && *due <= end) {
            self.now = self.now.max(due);
            self.serve()?;
        }
        self.now = end;
        Ok(())
    }

    /// Each idle thread takes what is due, and the batch is held against the rules.
    fn serve(&mut self) -> Result<(), TestCaseError> {
        while self.idle > 0 {
            let Some(batch) = self.batcher.take_due(self.now) else { break };
            self.idle -= 1;
            self.check(&batch)?;
        }
        prop_assert_eq!(self.batcher.len(), self.waiting.len());
        if self.idle > 0 {
            let overdue = self.waiting.values().any(|item| item.arrived + self.limits.max_delay <= self.now);
            prop_assert!(!overdue, "a text waits longer than max_delay beside an idle thread");
            prop_assert!(self.batcher.next_deadline().is_none_or(|due| due > self.now));
        }
        Ok(())
    }

    fn check(&mut self, batch: &[Item]) -> Result<(), TestCaseError> {
        let longest = batch.iter().map(|item| item.length).max().unwrap_or_default();
        prop_assert!(!batch.is_empty() && batch.len() <= self.limits.max_size);
        prop_assert!(batch.len() == 1 || batch.len() * longest <= self.limits.max_padded_tokens);
        prop_assert!(batch.windows(2).all(|pair| pair[0].length <= pair[1].length));
        let oldest = self.waiting.values().next().expect("a batch comes from somewhere").name;
        prop_assert!(batch.iter().any(|item| item.name == oldest), "the oldest is in every batch");
        for item in batch {
            prop_assert!(self.answered.insert(item.name), "answered twice");
            prop_assert!(!self.left.contains(&item.name), "answered after leaving");
        }
        self.waiting.retain(|_, item| !self.answered.contains(&item.name));
        Ok(())
    }
}

proptest! {
    #[test]
    fn limits_delay_and_exactly_one_answer_hold(limits in limits(), steps in steps()) {
        let mut world = World::new(limits);
        for step in &steps {
            world.take(step)?;
        }
        // With threads enough, everyone who has not left is answered in the end.
        world.idle = usize::MAX;
        world.pass(Duration::from_secs(1))?;
        prop_assert!(world.batcher.is_empty());
        prop_assert_eq!(world.answered.len() + world.left.len(), world.pushed);
    }

    #[test]
    fn whoever_is_nth_in_line_is_out_after_n_batches(lengths in proptest::collection::vec(1_usize..200, 1..60)) {
        let limits = Limits { max_size: 4, max_padded_tokens: 256, max_padding: 16, max_delay: Duration::ZERO };
        let mut batcher = Batcher::new(limits);
        let now = Instant::now();
        for (name, length) in lengths.iter().enumerate() {
            batcher.push(now, [(Size { class: 0, length: *length }, name)]);
        }
        let mut answered = BTreeSet::new();
        for turn in 0..lengths.len() {
            // Newcomers of a handy length keep coming and must not push anyone back.
            for _ in 0..4 {
                batcher.push(now, [(Size { class: 0, length: 8 }, usize::MAX)]);
            }
            answered.extend(batcher.take_due(now).into_iter().flatten());
            prop_assert!((0..=turn).all(|name| answered.contains(&name)), "{turn} still waits");
        }
    }
}
