//! How the GPUs are, by what NVML said of them: thresholds with hysteresis, fatal events, and silence.
//!
//! NVML can hang when a GPU falls off the bus, so whoever reads it cannot report that it hangs: silence past
//! [`GpuPolicy::stale_after`] is bad news here. What a GPU says of itself counts at once; a failed reading counts when the next one
//! fails too, since NVML fails now and then while a neighbour is being configured.
//!
//! ```text
//!            first report          silence             next report
//!  Looking ───────────────▶ Present ────────▶ (stale) ────────────▶ Present
//!     └── no driver, no GPU ──▶ Absent, for good
//! ```

mod device;
mod report;

use crate::{Level, Moment, Report};

pub use device::Gpu;
pub use report::{Devices, GpuPolicy, GpuReport, GpuSample, Memory, Reading, Trouble};

/// All GPUs of the instance.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Gpus {
    found: Found,
    /// Registration no longer waits for them.
    settled: bool,
    settle_at: Moment,
    stale: bool,
    stale_at: Moment,
    described: Option<Devices>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Found {
    /// Nobody looks.
    Off,
    /// No report yet.
    Looking,
    Absent(String),
    Present(Vec<Gpu>),
}

impl Gpus {
    /// Before anybody looked, or ever will where there is no policy.
    pub fn new(policy: Option<&GpuPolicy>) -> Self {
        Self {
            found: if policy.is_some() { Found::Looking } else { Found::Off },
            settled: policy.is_none(),
            settle_at: Moment::ZERO,
            stale: false,
            stale_at: Moment::ZERO,
            described: None,
        }
    }

    /// The looking begins.
    pub fn begin(&mut self, now: Moment, policy: Option<&GpuPolicy>) {
        if let Some(policy) = policy {
            self.settle_at = now.saturating_add(policy.discovery);
            self.stale_at = now.saturating_add(policy.stale_after);
        }
    }

    /// Takes a report into account. After `Absent` there are none.
    pub fn observe(&mut self, now: Moment, report: GpuReport, policy: Option<&GpuPolicy>) {
        let Some(policy) = policy else { return };
        match report {
            GpuReport::Absent(why) => self.found = Found::Absent(why),
            GpuReport::Sampled(samples) => {
                let mut earlier = match std::mem::replace(&mut self.found, Found::Looking) {
                    Found::Present(gpus) => gpus,
                    Found::Off | Found::Looking | Found::Absent(_) => Vec::new(),
                };
                let gpus = samples.into_iter().map(|sample| {
                    let known = earlier.iter().position(|gpu| gpu.sample().uuid == sample.uuid);
                    let mut gpu =
                        known.map_or_else(|| Gpu::new(sample.clone()), |at| earlier.swap_remove(at));
                    gpu.observe(sample, policy);
                    gpu
                });
                self.found = Found::Present(gpus.collect());
            }
            GpuReport::Xid { uuid, xid } => {
                if let Found::Present(gpus) = &mut self.found {
                    for gpu in gpus.iter_mut().filter(|gpu| gpu.sample().uuid == uuid) {
                        gpu.xid(xid, policy);
                    }
                }
            }
        }
        self.settled = true;
        self.stale = false;
        self.stale_at = now.saturating_add(policy.stale_after);
    }

    /// Notices what time alone brings.
    pub fn look(&mut self, now: Moment) {
        self.settled |= self.settle_at <= now;
        self.stale |= self.is_watched() && self.stale_at <= now;
    }

    /// When there is something to notice again without any report.
    pub fn next_deadline(&self) -> Option<Moment> {
        let settle = (!self.settled).then_some(self.settle_at);
        let stale = (self.is_watched() && !self.stale).then_some(self.stale_at);
        settle.into_iter().chain(stale).min()
    }

    fn is_watched(&self) -> bool {
        matches!(self.found, Found::Looking | Found::Present(_))
    }

    /// Whether the registration need not wait for them any longer.
    pub fn is_settled(&self) -> bool {
        self.settled
    }

    /// What is known of them, the first time that it is asked for: for the catalog entry.
    pub fn describe(&mut self) -> Option<Devices> {
        let known = self.devices();
        if known == self.described {
            return None;
        }
        self.described.clone_from(&known);
        known
    }

    /// What the instance computes with; `None` while that is not known, or where nobody looks.
    pub fn devices(&self) -> Option<Devices> {
        match &self.found {
            Found::Off | Found::Looking => None,
            Found::Absent(_) => Some(Devices::Cpu),
            Found::Present(gpus) => {
                let mut names: Vec<String> = Vec::new();
                for gpu in gpus {
                    if !names.contains(&gpu.sample().name) {
                        names.push(gpu.sample().name.clone());
                    }
                }
                Some(Devices::Gpus { count: gpus.len(), names })
            }
        }
    }

    /// Each GPU with its verdict; silence is held against all of them.
    pub fn each(&self, policy: Option<&GpuPolicy>) -> Vec<(&Gpu, Report)> {
        let (Found::Present(gpus), Some(policy)) = (&self.found, policy) else { return Vec::new() };
        let verdict = |gpu: &Gpu| if self.stale { silence(policy) } else { gpu.verdict(policy) };
        gpus.iter().map(|gpu| (gpu, verdict(gpu))).collect()
    }

    /// What is wrong with the GPUs; `None` if nothing is.
    pub fn report(&self, policy: Option<&GpuPolicy>) -> Option<Report> {
        let policy = policy?;
        if self.stale {
            return Some(silence(policy));
        }
        let unwell = self.each(Some(policy)).into_iter().filter(|(_, report)| report.level != Level::Passing);
        let causes: Vec<_> = unwell
            .map(|(gpu, report)| (report.level, format!("GPU {}: {}", gpu.sample().index, report.note)))
            .collect();
        (!causes.is_empty()).then(|| worst_first(causes))
    }

    #[cfg(test)]
    pub(crate) fn each_moment(&mut self, shift: &impl Fn(&mut Moment)) {
        shift(&mut self.settle_at);
        shift(&mut self.stale_at);
        // What has been noticed, or is not waited for, makes no difference any more.
        if self.settled {
            self.settle_at = Moment::ZERO;
        }
        if self.stale || !self.is_watched() {
            self.stale_at = Moment::ZERO;
        }
    }
}

fn silence(policy: &GpuPolicy) -> Report {
    Report {
        level: Level::Critical,
        note: format!("NVML does not answer for {:?}: a GPU or its driver hangs", policy.stale_after),
    }
}

/// Two reports as one: the worse level, and its note first. What is well has nothing to add to what is not.
pub fn merged(one: Report, other: Option<Report>) -> Report {
    match other {
        None => one,
        Some(other) if one.level == Level::Passing => other,
        Some(other) => worst_first(vec![(one.level, one.note), (other.level, other.note)]),
    }
}

fn worst_first(mut causes: Vec<(Level, String)>) -> Report {
    causes.sort_by_key(|(level, _)| std::cmp::Reverse(*level));
    let level = causes.first().map_or(Level::Passing, |(level, _)| *level);
    let notes: Vec<String> = causes.into_iter().map(|(_, note)| note).collect();
    Report { level, note: notes.join("; ") }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const S: Duration = Duration::from_secs(1);

    fn policy() -> GpuPolicy {
        GpuPolicy {
            discovery: S,
            stale_after: 15 * S,
            memory_warning: Some(95),
            temperature_warning: Some(80),
            temperature_critical: Some(90),
            ecc_limit: Some(0),
            fatal_xids: vec![48, 79],
        }
    }

    fn sample(uuid: &str, reading: Result<Reading, Trouble>) -> GpuSample {
        GpuSample { uuid: uuid.to_owned(), index: 0, name: "A".to_owned(), reading }
    }

    fn memory(percent: u64) -> Result<Reading, Trouble> {
        Ok(Reading { memory: Some(Memory { used: percent, total: 100 }), ..Reading::default() })
    }

    fn lost() -> Result<Reading, Trouble> {
        Err(Trouble::Lost("off the bus".to_owned()))
    }

    fn failed() -> Result<Reading, Trouble> {
        Err(Trouble::Failed("unknown".to_owned()))
    }

    fn well() -> Result<Reading, Trouble> {
        Ok(Reading::default())
    }

    fn begun(policy: &GpuPolicy) -> Gpus {
        let mut gpus = Gpus::new(Some(policy));
        gpus.begin(Moment::ZERO, Some(policy));
        gpus
    }

    /// The levels after each of the readings of one GPU.
    fn levels(readings: Vec<Result<Reading, Trouble>>) -> Vec<Level> {
        let policy = policy();
        let mut gpus = begun(&policy);
        let level = |gpus: &Gpus| gpus.report(Some(&policy)).map_or(Level::Passing, |report| report.level);
        readings
            .into_iter()
            .map(|reading| {
                gpus.observe(S, GpuReport::Sampled(vec![sample("a", reading)]), Some(&policy));
                level(&gpus)
            })
            .collect()
    }

    #[test]
    fn a_memory_warning_begins_above_the_limit_and_ends_well_below() {
        use Level::{Passing, Warning};
        let percents = [94, 95, 96, 95, 93, 92, 95, 100];
        let expected = [Passing, Passing, Warning, Warning, Warning, Passing, Passing, Warning];
        assert_eq!(levels(percents.map(memory).to_vec()), expected);
    }

    #[test]
    fn temperatures_have_two_limits_that_end_below_where_they_begin() {
        use Level::{Critical, Passing, Warning};
        let steps = [
            (79, Passing),
            (80, Warning),
            (78, Warning),
            (77, Passing),
            (90, Critical),
            (88, Critical),
            (87, Warning),
            (90, Critical),
            (60, Passing),
        ];
        let readings =
            steps.map(|(degrees, _)| Ok(Reading { temperature: Some(degrees), ..Reading::default() }));
        assert_eq!(levels(readings.to_vec()), steps.map(|(_, level)| level));
    }

    #[test]
    fn ecc_errors_above_the_limit_and_a_lost_gpu_are_critical_at_once_and_a_failed_reading_at_the_second() {
        use Level::{Critical, Passing};
        let ecc = |errors| Ok(Reading { ecc_uncorrected: Some(errors), ..Reading::default() });
        let steps = vec![
            (ecc(0), Passing),
            (ecc(1), Critical),
            (ecc(0), Passing),
            (lost(), Critical),
            (well(), Passing),
            (failed(), Passing),
            (well(), Passing),
            (failed(), Passing),
            (failed(), Critical),
            (well(), Passing),
        ];
        let (readings, expected): (Vec<_>, Vec<_>) = steps.into_iter().unzip();
        assert_eq!(levels(readings), expected);
    }

    #[test]
    fn no_limit_is_no_alarm() {
        let off = GpuPolicy {
            memory_warning: None,
            temperature_warning: None,
            temperature_critical: None,
            ecc_limit: None,
            fatal_xids: Vec::new(),
            ..policy()
        };
        let mut gpus = begun(&off);
        let all = Reading {
            memory: Some(Memory { used: 100, total: 100 }),
            temperature: Some(200),
            utilization: Some(100),
            ecc_uncorrected: Some(9),
        };
        gpus.observe(S, GpuReport::Sampled(vec![sample("a", Ok(all))]), Some(&off));
        gpus.observe(S, GpuReport::Xid { uuid: "a".to_owned(), xid: 79 }, Some(&off));
        assert_eq!(gpus.report(Some(&off)), None);
        assert_eq!(gpus.each(Some(&off))[0].0.last_xid(), Some(79), "and shown all the same");
    }

    #[test]
    fn a_fatal_xid_stays_until_the_gpu_was_lost_and_is_back_and_others_are_only_shown() {
        let policy = policy();
        let mut gpus = begun(&policy);
        let mut step = |report| {
            gpus.observe(S, report, Some(&policy));
            let levels = gpus.each(Some(&policy)).into_iter().map(|(_, report)| report.level);
            (levels.collect::<Vec<_>>(), gpus.report(Some(&policy)).map(|report| report.note))
        };
        use Level::{Critical, Passing};
        let both = |reading| GpuReport::Sampled(vec![sample("a", reading), sample("b", well())]);
        let xid = |xid| GpuReport::Xid { uuid: "a".to_owned(), xid };
        let reset = "GPU 0: Xid 79: it must be reset";
        assert_eq!(step(both(well())), (vec![Passing, Passing], None));
        assert_eq!(step(xid(31)), (vec![Passing, Passing], None));
        assert_eq!(step(xid(79)), (vec![Critical, Passing], Some(reset.to_owned())));
        assert_eq!(step(xid(31)).0, [Critical, Passing]);
        assert_eq!(step(both(well())), (vec![Critical, Passing], Some(reset.to_owned())));
        let lost_too = "GPU 0: lost: off the bus; Xid 79: it must be reset";
        assert_eq!(step(both(lost())), (vec![Critical, Passing], Some(lost_too.to_owned())));
        assert_eq!(step(both(well())), (vec![Passing, Passing], None));
        assert_eq!(step(GpuReport::Xid { uuid: "c".to_owned(), xid: 79 }).1, None, "of nobody here");
    }

    #[test]
    fn silence_is_critical_and_a_report_ends_it() {
        let policy = policy();
        let mut gpus = begun(&policy);
        assert_eq!(gpus.next_deadline(), Some(S), "the registration waits");
        gpus.look(S);
        assert!(gpus.is_settled());
        assert_eq!((gpus.next_deadline(), gpus.report(Some(&policy))), (Some(15 * S), None));
        gpus.look(15 * S);
        let note = "NVML does not answer for 15s: a GPU or its driver hangs";
        let silence = Some(Report { level: Level::Critical, note: note.to_owned() });
        assert_eq!((gpus.next_deadline(), gpus.report(Some(&policy))), (None, silence.clone()));
        gpus.observe(20 * S, GpuReport::Sampled(vec![sample("a", well())]), Some(&policy));
        assert_eq!((gpus.next_deadline(), gpus.report(Some(&policy))), (Some(35 * S), None));
        gpus.look(35 * S);
        assert_eq!(gpus.report(Some(&policy)), silence);
        assert_eq!(Some(&gpus.each(Some(&policy))[0].1), silence.as_ref());
    }

    #[test]
    fn absence_is_final_and_neither_waited_for_nor_silence() {
        let policy = policy();
        let mut gpus = begun(&policy);
        gpus.observe(Moment::ZERO, GpuReport::Absent("no driver".to_owned()), Some(&policy));
        gpus.look(100 * S);
        assert_eq!((gpus.next_deadline(), gpus.report(Some(&policy))), (None, None));
        assert_eq!((gpus.describe(), gpus.describe()), (Some(Devices::Cpu), None));
    }

    #[test]
    fn where_nobody_looks_nothing_is_said_or_waited_for() {
        let mut gpus = Gpus::new(None);
        gpus.begin(Moment::ZERO, None);
        gpus.look(100 * S);
        assert!(gpus.is_settled());
        assert_eq!((gpus.next_deadline(), gpus.describe(), gpus.report(None)), (None, None, None));
    }

    #[test]
    fn devices_are_described_once() {
        let policy = policy();
        let mut gpus = begun(&policy);
        assert_eq!(gpus.describe(), None);
        let both = || GpuReport::Sampled(vec![sample("a", well()), sample("b", lost())]);
        gpus.observe(S, both(), Some(&policy));
        assert_eq!(gpus.describe(), Some(Devices::Gpus { count: 2, names: vec!["A".to_owned()] }));
        gpus.observe(S, both(), Some(&policy));
        assert_eq!(gpus.describe(), None);
    }

    #[test]
    fn the_worse_of_two_reports_wins_and_both_are_told() {
        use Level::{Critical, Passing, Warning};
        let report = |level, note: &str| Report { level, note: note.to_owned() };
        for (worker, gpu, expected) in [
            (report(Passing, "w"), None, report(Passing, "w")),
            (report(Passing, "w"), Some(report(Warning, "g")), report(Warning, "g")),
            (report(Warning, "w"), Some(report(Critical, "g")), report(Critical, "g; w")),
            (report(Critical, "w"), Some(report(Warning, "g")), report(Critical, "w; g")),
            (report(Critical, "w"), Some(report(Critical, "g")), report(Critical, "w; g")),
        ] {
            assert_eq!(merged(worker, gpu), expected);
        }
    }
}
