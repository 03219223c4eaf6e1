//! Forwards, as many side by side as asked, for as long as there is time.

use std::time::{Duration, Instant};

use serde::{Serialize, Serializer};

use super::plan::Run;
use crate::backend::{Backend as _, ForwardError, Sample, TorchScript};
use crate::model::Form;

/// The first two forwards of a thread are several times slower than later ones.
const WARM_UP_FORWARDS: usize = 2;

/// The model that is measured.
#[derive(Debug)]
pub(super) struct Bench<'a> {
    pub(super) backend: &'a TorchScript,
    /// What it takes.
    pub(super) form: &'a Form,
}

/// What became of a run.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Measured {
    #[serde(flatten)]
    pub(super) run: Run,
    /// The median of all forwards.
    #[serde(rename = "forward_ms", serialize_with = "milliseconds")]
    pub(super) forward: Duration,
    /// How many forwards were measured.
    pub(super) forwards: usize,
}

impl Measured {
    /// Inputs a second, of all instances together.
    pub(super) fn inputs_per_second(&self) -> f64 {
        (self.run.arrangement.instances * self.run.inputs) as f64 / self.forward.as_secs_f64()
    }
}

impl Bench<'_> {
    /// Measures the runs one after the other within `time`. Those that would not fit any more are left out; the first is measured whatever
    /// it takes.
    pub(super) fn round(&self, runs: &[Run], time: Duration) -> Result<Vec<Measured>, ForwardError> {
        let ends = Instant::now() + time;
        let mut measured: Vec<Measured> = Vec::with_capacity(runs.len());
        for (done, run) in runs.iter().enumerate() {
            let remaining = ends.saturating_duration_since(Instant::now());
            if measured.last().is_none_or(|last| at_least(last, run) <= remaining) {
                measured.push(self.measure(run, span(remaining, runs.len() - done))?);
            }
        }
        Ok(measured)
    }

    fn measure(&self, run: &Run, span: Duration) -> Result<Measured, ForwardError> {
        let sample = self.sample(run.tokens);
        let rows = vec![&sample; run.inputs];
        let forwards = || -> Result<Vec<Duration>, ForwardError> {
            self.backend.enter_thread_with(run.arrangement.threads);
            (0..WARM_UP_FORWARDS).try_for_each(|_| self.backend.forward(&rows).map(drop))?;
            let began = Instant::now();
            let mut times = Vec::new();
            while times.is_empty() || began.elapsed() < span {
                let forward = Instant::now();
                self.backend.forward(&rows)?;
                times.push(forward.elapsed());
            }
            Ok(times)
        };
        let mut times = std::thread::scope(|scope| {
            let instances: Vec<_> = (0..run.arrangement.instances).map(|_| scope.spawn(forwards)).collect();
            let panicked = |_| Err(ForwardError::Failed("a panic in the model".to_owned()));
            let joined = instances.into_iter().map(|thread| thread.join().unwrap_or_else(panicked));
            joined.collect::<Result<Vec<Vec<Duration>>, ForwardError>>()
        })?
        .concat();
        times.sort_unstable();
        let forward = times.get(times.len() / 2).copied().unwrap_or_default();
        Ok(Measured { run: *run, forward, forwards: times.len() })
    }

    fn sample(&self, tokens: usize) -> Sample {
        self.form.text().map_or_else(|| self.form.trial(), |text| text.filler(tokens))
    }
}

/// Of the time that remains for so many runs: half of a fair share, so that those to come, which are larger, have more.
fn span(remaining: Duration, runs: usize) -> Duration {
    remaining / u32::try_from(runs * 2).unwrap_or(u32::MAX)
}

/// What the shortest measurement of `run` takes, judging by another one: tokens cost about the same in any batch.
fn at_least(last: &Measured, run: &Run) -> Duration {
    let ratio = run.batch_tokens() as f64 / last.run.batch_tokens() as f64;
    last.forward.mul_f64(ratio * (WARM_UP_FORWARDS + 1) as f64)
}

fn milliseconds<S: Serializer>(time: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(time.as_secs_f64() * 1e3)
}

#[cfg(test)]
mod tests {
    use super::super::plan::Arrangement;
    use super::*;

    #[test]
    fn a_run_is_left_out_that_would_take_longer_than_there_is() {
        let arrangement = Arrangement { instances: 1, threads: 1 };
        let small = Run { arrangement, inputs: 1, tokens: 100 };
        let measured = Measured { run: small, forward: Duration::from_millis(10), forwards: 9 };
        let large = Run { inputs: 8, ..small };
        assert_eq!(
            at_least(&measured, &large),
            Duration::from_millis(240),
            "two to warm up, one that counts"
        );
    }

    #[test]
    fn shares_of_the_time_never_exceed_it() {
        let mut remaining = Duration::from_secs(10);
        for left in (1..=20).rev() {
            remaining = remaining.checked_sub(span(remaining, left)).unwrap();
        }
        assert!(remaining < Duration::from_secs(5), "{remaining:?} are left over");
    }

    #[test]
    fn inputs_a_second_are_those_of_all_instances() {
        let run = Run { arrangement: Arrangement { instances: 2, threads: 1 }, inputs: 8, tokens: 32 };
        let measured = Measured { run, forward: Duration::from_millis(80), forwards: 9 };
        assert!((measured.inputs_per_second() - 200.0).abs() < 1e-9);
    }
}
