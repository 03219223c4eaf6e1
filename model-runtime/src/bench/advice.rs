//! What follows from the measurements. Pure.

use std::time::Duration;

use serde::Serialize;

use super::measure::Measured;
use super::plan::Arrangement;

/// Results closer than this are equal: so much they vary from run to run.
pub(super) const EQUAL_WITHIN: f64 = 0.03;
/// Beyond it a token costs more, because attention compares each with each; the line is drawn through shorter texts.
const LONGEST_ON_THE_LINE: usize = 128;

/// The settings that make the most of this model on this machine.
#[derive(Debug, Default, Serialize)]
pub(super) struct Advice {
    #[serde(flatten)]
    pub(super) arrangement: Option<Arrangement>,
    /// For texts; for other inputs `max_batch_size` says the same.
    pub(super) max_batch_tokens: Option<usize>,
    pub(super) max_batch_size: Option<usize>,
    pub(super) max_batch_padding: Option<usize>,
    pub(super) cost: Option<Cost>,
    /// What answers a lone input soonest, where that is something else.
    pub(super) for_lone_requests: Option<Measured>,
}

/// What a forward costs: so much before its first token, and so much for each.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(super) struct Cost {
    pub(super) forward_ms: f64,
    pub(super) token_ms: f64,
}

impl Advice {
    pub(super) fn of(shapes: &[Measured], arrangements: &[Measured], batches: &[Measured]) -> Self {
        let cost = Cost::of(shapes);
        let arrangement = first_of_the_best(arrangements).map(|best| best.run.arrangement);
        let batch = first_of_the_best(batches).map(|best| best.run);
        Self {
            arrangement,
            max_batch_tokens: batch.filter(|run| run.tokens > 1).map(|run| run.batch_tokens()),
            max_batch_size: batch.filter(|run| run.tokens == 1).map(|run| run.inputs),
            max_batch_padding: cost.map(|cost| cost.padding_worth_it()),
            cost,
            for_lone_requests: soonest(arrangements)
                .filter(|soonest| {
                    arrangement.is_some_and(|best| best.threads != soonest.run.arrangement.threads)
                })
                .cloned(),
        }
    }
}

/// The first of those that give the most inputs a second; lists are in the order of what else is preferred: fewer threads, smaller batches.
pub(super) fn first_of_the_best(measured: &[Measured]) -> Option<&Measured> {
    let most = measured.iter().map(Measured::inputs_per_second).fold(0.0, f64::max);
    measured.iter().find(|it| it.inputs_per_second() >= most * (1.0 - EQUAL_WITHIN))
}

/// The quickest forward of a single input that has the machine to itself; fewest threads first.
fn soonest(arrangements: &[Measured]) -> Option<&Measured> {
    let alone = || arrangements.iter().filter(|it| it.run.arrangement.instances == 1 && it.run.inputs == 1);
    let quickest = alone().map(|it| it.forward).min()?;
    alone().find(|it| it.forward <= quickest.mul_f64(1.0 + EQUAL_WITHIN))
}

impl Cost {
    /// The line of least squares through the forwards of single texts; `None` if it says that tokens or forwards are free.
    fn of(shapes: &[Measured]) -> Option<Self> {
        let alone = shapes.iter().filter(|it| it.run.inputs == 1 && it.run.tokens <= LONGEST_ON_THE_LINE);
        let points: Vec<(f64, f64)> =
            alone.map(|it| (it.run.tokens as f64, milliseconds(it.forward))).collect();
        let count = points.len() as f64;
        let mean_tokens = points.iter().map(|(tokens, _)| tokens).sum::<f64>() / count;
        let mean_time = points.iter().map(|(_, time)| time).sum::<f64>() / count;
        let both: f64 = points.iter().map(|(tokens, time)| (tokens - mean_tokens) * (time - mean_time)).sum();
        let spread: f64 = points.iter().map(|(tokens, _)| (tokens - mean_tokens).powi(2)).sum();
        let token_ms = both / spread;
        let forward_ms = mean_time - token_ms * mean_tokens;
        // Fewer than two lengths give NaN, which is not above 0 either.
        (token_ms > 0.0 && forward_ms > 0.0).then_some(Self { forward_ms, token_ms })
    }

    /// The padding to accept for company: a third of what a forward of its own would cost, since nearer company comes when a sample waits a little (measured with
    /// 8 to 64 clients: a sixth to a half is best).
    fn padding_worth_it(&self) -> usize {
        (self.forward_ms / self.token_ms / 3.0).round().max(1.0) as usize
    }
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

#[cfg(test)]
mod tests {
    use super::super::plan::Run;
    use super::*;

    fn of(arrangement: Arrangement, inputs: usize, tokens: usize, ms: f64) -> Measured {
        let run = Run { arrangement, inputs, tokens };
        Measured { run, forward: Duration::from_secs_f64(ms / 1e3), forwards: 10 }
    }

    fn measured(instances: usize, inputs: usize, tokens: usize, ms: f64) -> Measured {
        of(Arrangement { instances, threads: 1 }, inputs, tokens, ms)
    }

    #[test]
    fn a_forward_and_a_token_are_told_apart() {
        let cost = |tokens: usize| 2.0 + 0.1 * tokens as f64;
        let mut shapes: Vec<_> = [8, 32, 128].map(|tokens| measured(1, 1, tokens, cost(tokens))).to_vec();
        // Neither longer texts nor batches bend the line.
        shapes.extend([measured(1, 1, 512, 900.0), measured(1, 16, 32, 900.0)]);
        let advice = Advice::of(&shapes, &[], &[]);
        assert_eq!(advice.max_batch_padding, Some(7));
        let cost = advice.cost.unwrap();
        assert!((cost.forward_ms - 2.0).abs() < 1e-6 && (cost.token_ms - 0.1).abs() < 1e-6, "{cost:?}");
    }

    #[test]
    fn too_few_lengths_or_free_tokens_give_no_line() {
        assert_eq!(Cost::of(&[]), None);
        assert_eq!(Cost::of(&[measured(1, 1, 8, 2.0)]), None);
        assert_eq!(Cost::of(&[measured(1, 1, 8, 2.0), measured(1, 1, 32, 2.0)]), None);
    }

    #[test]
    fn of_equals_the_smallest_batch_is_advised() {
        let batches = [measured(2, 1, 32, 10.0), measured(2, 8, 32, 40.2), measured(2, 16, 32, 80.0)];
        assert_eq!(Advice::of(&[], &[], &batches).max_batch_tokens, Some(256));
    }

    #[test]
    fn the_arrangement_with_the_most_inputs_a_second_is_advised() {
        let alone = Arrangement { instances: 1, threads: 2 };
        let mut arrangements = vec![
            measured(1, 1, 32, 8.0),
            measured(1, 8, 32, 50.0),
            measured(2, 1, 32, 9.0),
            measured(2, 8, 32, 60.0),
        ];
        let advice = Advice::of(&[], &arrangements, &[]);
        assert_eq!(advice.arrangement, Some(Arrangement { instances: 2, threads: 1 }));
        assert!(advice.for_lone_requests.is_none(), "one thread is advised anyhow");
        arrangements.extend([of(alone, 1, 32, 5.0), of(alone, 8, 32, 35.0)]);
        let advice = Advice::of(&[], &arrangements, &[]);
        assert_eq!(advice.arrangement, Some(Arrangement { instances: 2, threads: 1 }));
        assert_eq!(advice.for_lone_requests.unwrap().run.arrangement, alone);
    }
}
