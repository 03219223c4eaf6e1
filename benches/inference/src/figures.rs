//! Samples, and what is said about them.

/// Samples, in whatever their unit is.
#[derive(Debug, Default)]
pub(crate) struct Figures<T = u64> {
    samples: Vec<T>,
}

impl<T: PartialOrd + Copy + Default> Figures<T> {
    pub(crate) fn add(&mut self, sample: T) {
        self.samples.push(sample);
    }

    /// Those of another, too.
    pub(crate) fn append(&mut self, mut other: Self) {
        self.samples.append(&mut other.samples);
    }

    /// The sample that so many of a hundred are not above; nothing is in between.
    pub(crate) fn percentile(&self, hundredths: usize) -> T {
        let mut sorted = self.samples.clone();
        sorted.sort_by(|one, other| one.partial_cmp(other).unwrap_or(std::cmp::Ordering::Equal));
        let place = (sorted.len() * hundredths).div_ceil(100).saturating_sub(1);
        sorted.get(place).copied().unwrap_or_default()
    }

    pub(crate) fn median(&self) -> T {
        self.percentile(50)
    }

    pub(crate) fn least(&self) -> T {
        self.percentile(0)
    }

    pub(crate) fn most(&self) -> T {
        self.percentile(100)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_percentile_is_the_sample_that_so_many_of_a_hundred_do_not_exceed() {
        let mut figures = Figures::default();
        (1..=200_u64).rev().for_each(|sample| figures.add(sample));
        assert_eq!(
            (figures.least(), figures.median(), figures.percentile(99), figures.most()),
            (1, 100, 198, 200)
        );
    }

    #[test]
    fn without_samples_everything_is_nothing() {
        assert_eq!(Figures::<u64>::default().percentile(99), 0);
    }
}
