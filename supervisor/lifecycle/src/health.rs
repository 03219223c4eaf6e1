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
}

impl Health {
    /// Takes one probe's report into account. Answers are believed at once; silence only after `failure_threshold`
    /// unanswered probes in a row, and never before the first answer, while the worker is still loading.
    pub fn observe(&mut self, report: &ProbeReport, failure_threshold: u32) {
        let level = match report.outcome {
            ProbeOutcome::Passing => Level::Passing,
            ProbeOutcome::Warning => Level::Warning,
            ProbeOutcome::Critical => Level::Critical,
            ProbeOutcome::Silent => {
                self.silent = self.silent.saturating_add(1).min(failure_threshold);
                if self.silent < failure_threshold && self.verdict.is_some() {
                    return;
                }
                Level::Critical
            }
        };
        if report.outcome != ProbeOutcome::Silent {
            self.silent = 0;
        }
        self.verdict = Some(Report { level, note: report.note.clone() });
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

    fn after(outcomes: &[ProbeOutcome], threshold: u32) -> Option<Level> {
        let mut health = Health::default();
        for outcome in outcomes {
            health.observe(&ProbeReport { outcome: *outcome, note: String::new() }, threshold);
        }
        health.verdict().map(|report| report.level)
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
