//! Growing delays with jitter, without a source of randomness of their own.

use std::time::Duration;

/// How delays grow: `min`, twice that, and so on up to `max`, each with up to 10 % of jitter added.
///
/// Doubling with a cap and a tenth of jitter is what Pebble uses for its services. The jitter keeps instances that failed
/// together from coming back together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Backoff {
    /// The first delay.
    pub min: Duration,
    /// The longest delay before jitter.
    pub max: Duration,
    /// What makes one instance's jitter differ from another's. 0 means no jitter.
    pub seed: u64,
}

impl Backoff {
    /// The delay before attempt `n` (0 is the first one after a failure).
    pub fn delay(&self, n: u32) -> Duration {
        let factor = 1_u32.checked_shl(n.min(31)).unwrap_or(u32::MAX);
        let delay = self.min.saturating_mul(factor).min(self.max);
        if self.seed == 0 {
            return delay;
        }
        let thousandths = u32::try_from(mix(self.seed ^ u64::from(n)) % 101).unwrap_or(0);
        delay.saturating_add(delay.saturating_mul(thousandths) / 1000)
    }
}

/// The finaliser of SplitMix64 (Steele, Lea, Flood: Fast Splittable Pseudorandom Number Generators, 2014): spreads
/// neighbouring inputs over the whole range.
fn mix(seed: u64) -> u64 {
    let mut z = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn doubles_up_to_the_cap() {
        let backoff = Backoff { min: 100 * MS, max: 1000 * MS, seed: 0 };
        let delays: Vec<u128> = (0..6).map(|n| backoff.delay(n).as_millis()).collect();
        assert_eq!(delays, [100, 200, 400, 800, 1000, 1000]);
        assert_eq!(backoff.delay(u32::MAX), 1000 * MS);
    }

    #[test]
    fn jitter_adds_at_most_a_tenth_and_differs_between_instances() {
        let delays: Vec<Duration> =
            (1..=50).map(|seed| Backoff { min: 1000 * MS, max: 1000 * MS, seed }.delay(3)).collect();
        assert!(delays.iter().all(|d| (1000 * MS..=1100 * MS).contains(d)), "{delays:?}");
        assert!(delays.iter().collect::<std::collections::BTreeSet<_>>().len() > 20);
    }
}
