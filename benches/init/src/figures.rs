//! Samples, and what is said about them.

/// Samples in nanoseconds, or whatever their unit is.
#[derive(Debug, Default)]
pub(crate) struct Figures(Vec<u64>);

impl Figures {
    pub(crate) fn add(&mut self, sample: u64) {
        let place = self.0.partition_point(|other| *other <= sample);
        self.0.insert(place, sample);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The upper of the two in the middle, where there are two.
    pub(crate) fn median(&self) -> u64 {
        self.0.get(self.0.len() / 2).copied().unwrap_or_default()
    }

    pub(crate) fn least(&self) -> u64 {
        self.0.first().copied().unwrap_or_default()
    }

    pub(crate) fn most(&self) -> u64 {
        self.0.last().copied().unwrap_or_default()
    }
}

/// Nanoseconds in the unit in which a person would say them.
pub(crate) fn time(nanoseconds: u64) -> String {
    #[expect(clippy::cast_precision_loss, reason = "three digits are shown")]
    let value = nanoseconds as f64;
    match nanoseconds {
        0..1_000_000 => format!("{:.0} µs", value / 1e3),
        1_000_000..1_000_000_000 => format!("{:.2} ms", value / 1e6),
        _ => format!("{:.2} s", value / 1e9),
    }
}
