//! One GPU: its limits with their hysteresis, and the verdict.

use super::report::{GpuPolicy, GpuSample, Memory, Trouble};
use super::worst_first;
use crate::{Level, Report};

/// A warning about memory ends this many percentage points below its limit, so that it does not come and go.
const MEMORY_HYSTERESIS: u32 = 2;
/// The same for temperatures, in degrees Celsius.
const TEMPERATURE_HYSTERESIS: u32 = 3;
/// How many readings in a row must fail until the GPU counts as failed. A lost GPU counts at once.
const FAILED_READINGS: u8 = 2;

/// One GPU and what is held against it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Gpu {
    sample: GpuSample,
    memory_high: bool,
    heat: Level,
    failed: u8,
    last_xid: Option<u64>,
    fatal_xid: Option<u64>,
}

impl Gpu {
    pub(super) fn new(sample: GpuSample) -> Self {
        Self { sample, memory_high: false, heat: Level::Passing, failed: 0, last_xid: None, fatal_xid: None }
    }

    pub(super) fn observe(&mut self, sample: GpuSample, policy: &GpuPolicy) {
        match &sample.reading {
            Ok(reading) => {
                if matches!(self.sample.reading, Err(Trouble::Lost(_))) {
                    // Only a reset brings a lost GPU back, and a reset ends what an Xid error began.
                    self.fatal_xid = None;
                }
                self.failed = 0;
                self.memory_high = reading
                    .memory
                    .is_some_and(|memory| is_high(memory, policy.memory_warning, self.memory_high));
                self.heat = heat(reading.temperature, policy, self.heat);
            }
            Err(Trouble::Lost(_)) => self.failed = FAILED_READINGS,
            Err(Trouble::Failed(_)) => self.failed = self.failed.saturating_add(1).min(FAILED_READINGS),
        }
        self.sample = sample;
    }

    pub(super) fn xid(&mut self, xid: u64, policy: &GpuPolicy) {
        self.last_xid = Some(xid);
        if policy.fatal_xids.contains(&xid) {
            self.fatal_xid = Some(xid);
        }
    }

    /// How it was at the last report.
    pub fn sample(&self) -> &GpuSample {
        &self.sample
    }

    /// The last Xid error, fatal or not, since the supervisor began.
    pub fn last_xid(&self) -> Option<u64> {
        self.last_xid
    }

    /// The verdict and all that speaks for it, the worst first. The note has no figures that change all the time: it would be
    /// pushed to the catalog at each change.
    pub fn verdict(&self, policy: &GpuPolicy) -> Report {
        let mut causes = Vec::new();
        match &self.sample.reading {
            Err(Trouble::Lost(why)) => causes.push((Level::Critical, format!("lost: {why}"))),
            Err(Trouble::Failed(why)) if self.failed >= FAILED_READINGS => {
                causes.push((Level::Critical, format!("cannot be read: {why}")));
            }
            Err(Trouble::Failed(_)) => {}
            Ok(reading) => {
                if let (Some(errors), Some(limit)) = (reading.ecc_uncorrected, policy.ecc_limit)
                    && errors > limit
                {
                    let s = if errors == 1 { "" } else { "s" };
                    causes.push((Level::Critical, format!("{errors} uncorrected ECC error{s}")));
                }
            }
        }
        if let Some(xid) = self.fatal_xid {
            causes.push((Level::Critical, format!("Xid {xid}: it must be reset")));
        }
        let temperature = match self.heat {
            Level::Passing => None,
            Level::Warning => policy.temperature_warning,
            Level::Critical => policy.temperature_critical,
        };
        if let Some(limit) = temperature {
            causes.push((self.heat, format!("temperature reached {limit} °C")));
        }
        if let (true, Some(limit)) = (self.memory_high, policy.memory_warning) {
            causes.push((Level::Warning, format!("memory above {limit} %")));
        }
        worst_first(causes)
    }
}

/// Above the limit; and once it was, until it is well below.
fn is_high(memory: Memory, limit: Option<u32>, was_high: bool) -> bool {
    let Some(limit) = limit else { return false };
    let used = u128::from(memory.used) * 100;
    let share = |percent: u32| u128::from(memory.total) * u128::from(percent);
    if was_high { used >= share(limit.saturating_sub(MEMORY_HYSTERESIS)) } else { used > share(limit) }
}

/// The worst limit that is reached; and one that was, until it is well below.
fn heat(temperature: Option<u32>, policy: &GpuPolicy, was: Level) -> Level {
    let Some(temperature) = temperature else { return Level::Passing };
    let reached = |limit: Option<u32>, level: Level| {
        limit.is_some_and(|limit| {
            if was >= level {
                temperature.saturating_add(TEMPERATURE_HYSTERESIS) > limit
            } else {
                temperature >= limit
            }
        })
    };
    if reached(policy.temperature_critical, Level::Critical) {
        Level::Critical
    } else if reached(policy.temperature_warning, Level::Warning) {
        Level::Warning
    } else {
        Level::Passing
    }
}
