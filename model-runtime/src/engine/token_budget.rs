//! How many tokens a model thread puts into one forward, learnt from those that found no memory. Pure: no IO, no clock.
//!
//! Memory that sufficed when the limits were set may be taken by others later. So a forward that fails for lack of it halves the budget, and every
//! so many batches that had to be cut by it let it grow a little, until batches need no cutting any more (additive increase, multiplicative
//! decrease, as in TCP: each attempt to grow may cost a failed forward, so they are rare).

/// So many cut batches that went well before the next attempt to grow.
const BATCHES_BEFORE_GROWTH: u32 = 32;
/// By which part of itself the budget grows then.
const GROWTH_DIVISOR: usize = 4;

/// The budget of one model thread: unlimited (beyond the batcher's own limits) until a forward has failed for lack of memory.
#[derive(Debug, Default)]
pub(super) struct TokenBudget {
    limit: Option<usize>,
    successes: u32,
}

impl TokenBudget {
    /// How many rows from the front of these, shortest first, may go into the next forward: at least one.
    pub(super) fn rows(&self, lengths: &[usize]) -> usize {
        let Some(limit) = self.limit else { return lengths.len() };
        // With rows sorted by length the last one decides on the padding.
        let fitting =
            lengths.iter().enumerate().take_while(|(index, length)| (index + 1) * **length <= limit);
        fitting.count().max(1)
    }

    /// A forward of so many tokens, padding included, found no memory.
    pub(super) fn exceeded(&mut self, tokens: usize) {
        let half = (tokens / 2).max(1);
        self.limit = Some(self.limit.map_or(half, |limit| limit.min(half)));
        self.successes = 0;
    }

    /// A batch went well; `cut` says whether it had to be cut by this budget.
    pub(super) fn fitted(&mut self, cut: bool) {
        let Some(limit) = self.limit.filter(|_| cut) else { return };
        self.successes += 1;
        if self.successes >= BATCHES_BEFORE_GROWTH {
            self.limit = Some(limit + (limit / GROWTH_DIVISOR).max(1));
            self.successes = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_failures_a_batch_is_not_cut() {
        assert_eq!(TokenBudget::default().rows(&[1000, 2000, 90_000]), 3);
    }

    #[test]
    fn lack_of_memory_halves_what_goes_into_a_forward() {
        let mut budget = TokenBudget::default();
        budget.exceeded(400);
        assert_eq!(budget.rows(&[50, 50, 60, 70]), 3, "3 x 60 tokens fit into 200, 4 x 70 do not");
        budget.exceeded(180);
        assert_eq!(budget.rows(&[50, 50, 60, 70]), 1);
        assert_eq!(budget.rows(&[500]), 1, "a long row still goes, alone");
        budget.exceeded(1000);
        assert_eq!(
            budget.rows(&[45, 45]),
            2,
            "what is known to be too much is not forgotten for something larger"
        );
    }

    #[test]
    fn the_budget_grows_slowly_while_it_is_in_the_way() {
        let mut budget = TokenBudget::default();
        budget.exceeded(160);
        let rows = [10; 16];
        (0..BATCHES_BEFORE_GROWTH - 1).for_each(|_| budget.fitted(true));
        (0..1000).for_each(|_| budget.fitted(false));
        assert_eq!(budget.rows(&rows), 8);
        budget.fitted(true);
        assert_eq!(budget.rows(&rows), 10);
        (0..10 * BATCHES_BEFORE_GROWTH).for_each(|_| budget.fitted(true));
        assert_eq!(budget.rows(&rows), 16);
    }
}
