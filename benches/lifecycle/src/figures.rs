//! Samples of a duration and what is said about them.

use std::fmt;
use std::time::Duration;

/// Samples, kept sorted.
#[derive(Debug, Default)]
pub(crate) struct Figures(Vec<Duration>);

impl Figures {
    pub(crate) fn add(&mut self, sample: Duration) {
        let place = self.0.partition_point(|other| *other <= sample);
        self.0.insert(place, sample);
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// The middle sample, or the mean of the two in the middle; zero without samples.
    pub(crate) fn median(&self) -> Duration {
        let at = |index: usize| self.0.get(index).copied().unwrap_or_default();
        let middle = self.0.len() / 2;
        if self.0.len() % 2 == 1 { at(middle) } else { (at(middle.saturating_sub(1)) + at(middle)) / 2 }
    }
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.0.first(), self.0.last()) {
            (Some(min), Some(max)) => {
                write!(f, "{} ({}–{})", seconds(self.median()), seconds(*min), seconds(*max))
            }
            _ => f.write_str("never"),
        }
    }
}

/// A duration in the unit in which a person would say it.
pub(crate) fn seconds(duration: Duration) -> String {
    if duration < Duration::from_millis(100) {
        format!("{:.1} ms", duration.as_secs_f64() * 1e3)
    } else {
        format!("{:.2} s", duration.as_secs_f64())
    }
}
