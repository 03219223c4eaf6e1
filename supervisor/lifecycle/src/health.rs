//! How the worker is, by what its probes said.

use crate::{ProbeOutcome, ProbeReport};

/// How well an instance is, in the words of Consul's checks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Level {
    /// Send requests.
    Passing,
    /// Degraded: still listed, not among the passing.
    Warning,
    /// Send none.
    Critical,
}

impl std::fmt::Display for Level {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Passing => "passing",
            Self::Warning => "warning",
            Self::Critical => "critical",
        })
    }
}

/// What the TTL check says: the level and one line for people.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Report {
    /// The check's status.
    pub level: Level,
    /// The check's output.
    pub note: String,
}

/// What the probes of one spawn of the worker have said so far.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Health {
    verdict: Option<Report>,
    silent: u32,
    passed: u32,
    was_ready: bool,
    not_live: u32,
}

/// How many reports in a row it takes.
#[derive(Clone, Copy, Debug)]
pub struct Thresholds {
    /// Unanswered probes until the worker counts as failed.
    pub failure: u32,
    /// Probes that pass until a worker that failed counts as ready again.
    pub success: u32,
}

impl Health {
    /// Takes one readiness probe's report into account. Bad answers are believed at once; silence only after `failure` unanswered
    /// probes in a row, and never before the first answer, while the worker is still loading; good answers after `success` in a row.
    pub fn observe(&mut self, report: &ProbeReport, thresholds: Thresholds) {
        let level = match report.outcome {
            ProbeOutcome::Passing => Level::Passing,
            ProbeOutcome::Warning => Level::Warning,
            ProbeOutcome::Critical => Level::Critical,
            ProbeOutcome::Silent => {
                self.silent = self.silent.saturating_add(1).min(thresholds.failure);
                if self.silent < thresholds.failure && self.verdict.is_some() {
                    return;
                }
                Level::Critical
            }
        };
        if report.outcome != ProbeOutcome::Silent {
            self.silent = 0;
        }
        let ready = self.is_ready();
        self.passed = match level {
            Level::Critical => 0,
            // Once ready it stays so until a probe fails.
            Level::Passing | Level::Warning => self.passed.saturating_add(1).min(thresholds.success),
        };
        self.verdict = Some(if level != Level::Critical && !ready && self.passed < thresholds.success {
            let note = format!("{} ({} of {} in a row)", report.note, self.passed, thresholds.success);
            Report { level: Level::Critical, note }
        } else {
            Report { level, note: report.note.clone() }
        });
        self.was_ready |= self.is_ready();
    }

    /// Takes one liveness probe into account: returns whether the worker counts as dead, by `threshold` failures in a row. A worker that has
    /// not been ready yet is loading, however long that takes.
    pub fn observe_liveness(&mut self, alive: bool, threshold: u32) -> bool {
        self.not_live =
            if alive || !self.was_ready { 0 } else { self.not_live.saturating_add(1).min(threshold) };
        self.not_live >= threshold
    }

    /// Forgets what makes no difference to what follows.
    #[cfg(test)]
    pub(crate) fn forget(&mut self) {
        if self.is_ready() {
            self.passed = 0;
        }
    }

    /// The verdict so far; `None` before the first probe.
    pub fn verdict(&self) -> Option<&Report> {
        self.verdict.as_ref()
    }

    /// Whether the worker takes requests.
    pub fn is_ready(&self) -> bool {
        self.verdict.as_ref().is_some_and(|report| report.level != Level::Critical)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn observed(outcomes: &[ProbeOutcome], thresholds: Thresholds) -> Health {
        let mut health = Health::default();
        for outcome in outcomes {
            health.observe(&ProbeReport { outcome: *outcome, note: String::new() }, thresholds);
        }
        health
    }

    fn after(outcomes: &[ProbeOutcome], failure: u32) -> Option<Level> {
        observed(outcomes, Thresholds { failure, success: 1 }).verdict().map(|report| report.level)
    }

    #[test]
    fn a_worker_that_failed_is_ready_again_after_as_many_good_answers_as_asked_for() {
        use ProbeOutcome::{Critical, Passing, Warning};
        let thresholds = Thresholds { failure: 1, success: 2 };
        for (outcomes, ready) in [
            (vec![Passing], false),
            (vec![Passing, Passing], true),
            (vec![Passing, Critical, Passing], false),
            (vec![Passing, Passing, Critical, Passing, Warning], true),
            (vec![Passing, Passing, Warning], true),
        ] {
            assert_eq!(observed(&outcomes, thresholds).is_ready(), ready, "{outcomes:?}");
        }
    }

    #[test]
    fn liveness_counts_only_once_the_worker_was_ready_and_failures_in_a_row() {
        let mut health = Health::default();
        assert!(!health.observe_liveness(false, 1), "loading");
        health.observe(
            &ProbeReport { outcome: ProbeOutcome::Passing, note: String::new() },
            Thresholds { failure: 1, success: 1 },
        );
        let verdicts = [false, true, false, false].map(|alive| health.observe_liveness(alive, 2));
        assert_eq!(verdicts, [false, false, false, true]);
    }

    #[test]
    fn an_answer_is_believed_at_once_and_silence_after_the_threshold() {
        use ProbeOutcome::{Critical, Passing, Silent, Warning};
        for (outcomes, expected) in [
            (vec![], None),
            (vec![Passing], Some(Level::Passing)),
            (vec![Passing, Warning], Some(Level::Warning)),
            (vec![Passing, Critical], Some(Level::Critical)),
            (vec![Passing, Silent], Some(Level::Passing)),
            (vec![Passing, Silent, Silent], Some(Level::Critical)),
            (vec![Passing, Silent, Passing, Silent], Some(Level::Passing)),
            (vec![Silent], Some(Level::Critical)),
            (vec![Silent, Passing], Some(Level::Passing)),
            (vec![Passing, Silent, Silent, Silent, Passing], Some(Level::Passing)),
        ] {
            assert_eq!(after(&outcomes, 2), expected, "{outcomes:?}");
        }
    }
}
