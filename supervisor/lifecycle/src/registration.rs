//! The catalog entry's life: what it should be, what the agent was last known to hold, and the one request in flight.
//!
//! Registration is reconciled and never fired once: [`Registration::next_request`] compares the wanted entry with the known one and
//! names the single next request. Whatever is not known for sure is registered again, which Consul treats as an update.
//!
//! A request holds the line until it is answered; the mechanism answers each one exactly once, by a timeout if need be.
//! So a reply needs no number, only the generation of the agent it came from: one from an earlier agent frees the line and
//! says nothing about the present one.
//!
//! What the agent has acknowledged the servers show a few milliseconds later. When they show something else for longer ([`Policy::settle`]),
//! somebody has changed or removed the entry behind the agent's back, and it is registered again.

use crate::command::Request;
use crate::{Failure, Level, Moment, Policy, Report, View};

/// Up to 2^5 times the settling time between two attempts to mend what somebody else keeps changing.
const MENDED_MAX: u32 = 5;

/// What the entry should be.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Wanted {
    /// No entry.
    Absent,
    /// An entry whose TTL check says this.
    Listed {
        /// Whether Consul probes the worker too; `None` leaves it as it is.
        http_check: Option<bool>,
        /// The TTL check.
        report: Report,
    },
}

/// What the present agent is known to hold.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Known {
    /// No entry of ours.
    Absent,
    /// Perhaps an entry of ours: asked and unanswered, or another agent has taken over the data.
    Unknown,
    /// Our entry.
    Listed {
        /// Whether it has the HTTP check.
        http_check: bool,
        /// What the TTL check was last told; `None` if nobody knows.
        report: Option<Report>,
    },
}

/// The entry, as far as this side knows.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Registration {
    known: Known,
    in_flight: Option<Request>,
    retry_at: Moment,
    failures: u32,
    beat_at: Moment,
    last_failure: Option<String>,
    /// What the servers say; `None` before they were asked through the present agent.
    seen: Option<View>,
    /// From then on, what they say counts against what the agent has acknowledged.
    settled_at: Moment,
    /// How often in a row it has counted so.
    mended: u32,
    /// When a critical entry is registered again, lest Consul remove it.
    refresh_at: Moment,
    outdated: bool,
}

impl Default for Registration {
    fn default() -> Self {
        Self {
            known: Known::Absent,
            in_flight: None,
            retry_at: Moment::ZERO,
            failures: 0,
            beat_at: Moment::ZERO,
            last_failure: None,
            seen: None,
            settled_at: Moment::ZERO,
            mended: 0,
            refresh_at: Moment::ZERO,
            outdated: false,
        }
    }
}

impl Registration {
    /// An entry of an earlier life may still be there.
    pub fn of_unknown_past() -> Self {
        Self { known: Known::Unknown, ..Self::default() }
    }

    /// What the present agent is known to hold.
    pub fn known(&self) -> &Known {
        &self.known
    }

    /// Why the last request failed, unless one succeeded since.
    pub fn last_failure(&self) -> Option<&str> {
        self.last_failure.as_deref()
    }

    /// Whether the agent has acknowledged a TTL check at this level.
    pub fn is_listed_as(&self, level: Level) -> bool {
        matches!(&self.known, Known::Listed { report: Some(report), .. } if report.level == level)
    }

    /// Whether the agent has been told a level at which clients send requests, acknowledged or not.
    pub fn is_told_to_serve(&self) -> bool {
        let serving = |report: &Report| report.level != Level::Critical;
        match (&self.in_flight, &self.known) {
            (Some(Request::Update(report)), _) if serving(report) => true,
            (_, Known::Listed { report: Some(report), .. }) => serving(report),
            _ => false,
        }
    }

    /// Whether there is no entry, and no request that could make one.
    pub fn is_absent(&self) -> bool {
        self.known == Known::Absent && self.in_flight.is_none()
    }

    /// What the servers say; `None` before they were asked.
    pub fn seen(&self) -> Option<&View> {
        self.seen.as_ref()
    }

    /// The servers were asked.
    pub fn observe(&mut self, view: View) {
        self.seen = Some(view);
        if self.contradiction().is_none() {
            self.mended = 0;
        }
    }

    /// Whether the servers show the entry at this level, all its checks taken together.
    pub fn is_seen_as(&self, level: Level) -> bool {
        matches!(&self.seen, Some(View::Listed(listing)) if listing.level == level)
            && self.contradiction().is_none()
    }

    /// What the servers show other than the agent has acknowledged, in words.
    pub fn contradiction(&self) -> Option<String> {
        let (Known::Listed { http_check, report: Some(report) }, Some(view)) = (&self.known, &self.seen)
        else {
            return None;
        };
        match view {
            View::Unknown(_) => None,
            View::Absent => Some("the servers do not list the entry".to_owned()),
            View::Listed(listing) => {
                let check = |name: &str, expected: bool, there: bool| {
                    (expected != there).then(|| {
                        format!(
                            "the servers list the check `{name}` {}",
                            if there { "still" } else { "no more" }
                        )
                    })
                };
                let state = listing
                    .ttl_check
                    .filter(|level| *level != report.level)
                    .map(|level| format!("the servers show the check `supervisor` as {level}"));
                let altered = listing.altered.as_ref().map(|what| format!("the entry was altered: {what}"));
                altered
                    .or_else(|| check("supervisor", true, listing.ttl_check.is_some()))
                    .or(state)
                    .or_else(|| check("worker", *http_check, listing.worker_check.is_some()))
            }
        }
    }

    /// The agent is gone. What it held it may hold again once it is back; a request in flight is still answered.
    pub fn agent_exited(&mut self) {
        if self.known != Known::Absent || self.in_flight.is_some() {
            self.known = Known::Unknown;
        }
        self.retry_at = Moment::ZERO;
        self.failures = 0;
        self.seen = None;
    }

    /// What the entry says has changed: it is registered again. A registration in flight may carry the old or the new.
    pub fn entry_changed(&mut self) {
        if matches!(self.known, Known::Listed { .. }) {
            self.known = Known::Unknown;
        }
        self.outdated = self.in_flight == Some(Request::Register);
    }

    /// The next request, if one is due: at most one at a time.
    pub fn next_request(&mut self, now: Moment, wanted: &Wanted) -> Option<Request> {
        if self.in_flight.is_some() || self.retry_at > now {
            return None;
        }
        if let (Wanted::Listed { .. }, Some(contradiction)) = (wanted, self.contradiction())
            && self.settled_at <= now
        {
            self.last_failure = Some(contradiction);
            self.mended = self.mended.saturating_add(1).min(MENDED_MAX);
            self.known = Known::Unknown;
        }
        let request = self.difference(now, wanted);
        if request.is_none() {
            // What failed is not wanted any more: there is nothing to retry.
            self.failures = 0;
        }
        self.in_flight.clone_from(&request);
        request
    }

    /// What separates the known entry from the wanted one. Bad news goes first: the TTL check is made worse before the HTTP
    /// check is touched, and made better after it.
    fn difference(&self, now: Moment, wanted: &Wanted) -> Option<Request> {
        match (wanted, &self.known) {
            (Wanted::Absent, Known::Absent) => None,
            (Wanted::Absent, Known::Unknown | Known::Listed { .. }) => Some(Request::Deregister),
            (Wanted::Listed { .. }, Known::Absent | Known::Unknown) => Some(Request::Register),
            (
                Wanted::Listed { http_check: wanted_check, report: wanted },
                Known::Listed { http_check, report },
            ) => {
                let stays_critical = wanted.level == Level::Critical
                    && report.as_ref().is_some_and(|report| report.level == Level::Critical);
                if stays_critical && self.refresh_at <= now {
                    return Some(Request::Register);
                }
                let update = (report.as_ref() != Some(wanted) || self.beat_at <= now)
                    .then(|| Request::Update(wanted.clone()));
                let check = match wanted_check.filter(|check| check != http_check) {
                    Some(true) => Some(Request::AddHttpCheck),
                    Some(false) => Some(Request::RemoveHttpCheck),
                    None => None,
                };
                if wanted.level == Level::Critical { update.or(check) } else { check.or(update) }
            }
        }
    }

    /// The request in flight was answered by the present agent.
    pub fn replied(&mut self, now: Moment, outcome: Result<(), Failure>, policy: &Policy) {
        let Some(request) = self.in_flight.take() else { return };
        match outcome {
            Ok(()) => {
                self.failures = 0;
                self.retry_at = Moment::ZERO;
                self.last_failure = None;
                // Longer each time that it did not help: somebody else may want it otherwise, another instance of the same id, say.
                self.settled_at = now.saturating_add(policy.settle.saturating_mul(1 << self.mended));
                self.acknowledged(now, request, policy);
            }
            Err(failure) => {
                self.retry_at = now.saturating_add(policy.catalog_retry.delay(self.failures));
                self.failures = self.failures.saturating_add(1).min(31);
                self.last_failure = Some(failure.reason().to_owned());
                // Refused: the agent does not hold what it was believed to hold. Else: it may have done it or not.
                self.known = Known::Unknown;
            }
        }
    }

    /// The request in flight was answered by an agent that is gone: it frees the line and says nothing.
    pub fn replied_by_earlier_agent(&mut self) {
        self.in_flight = None;
    }

    fn acknowledged(&mut self, now: Moment, request: Request, policy: &Policy) {
        match request {
            // Registering again keeps the state that a check has, so what it says is only known after an update.
            Request::Register if std::mem::take(&mut self.outdated) => self.known = Known::Unknown,
            Request::Register => {
                self.known = Known::Listed { http_check: false, report: None };
                self.refresh_at = now.saturating_add(policy.refresh);
            }
            Request::Deregister => self.known = Known::Absent,
            Request::Update(new) => {
                self.beat_at = now.saturating_add(policy.heartbeat);
                if let Known::Listed { report, .. } = &mut self.known {
                    // Consul counts from the moment at which the check turns critical.
                    if report.as_ref().is_some_and(|report| report.level != new.level) {
                        self.refresh_at = now.saturating_add(policy.refresh);
                    }
                    *report = Some(new);
                }
            }
            Request::AddHttpCheck | Request::RemoveHttpCheck => {
                if let Known::Listed { http_check, .. } = &mut self.known {
                    *http_check = request == Request::AddHttpCheck;
                }
            }
        }
    }

    /// Shifts every moment, and forgets what makes no difference to what follows.
    #[cfg(test)]
    pub(crate) fn each_moment(&mut self, shift: &impl Fn(&mut Moment)) {
        if !matches!(self.known, Known::Listed { .. }) {
            (self.beat_at, self.settled_at, self.refresh_at) = (Moment::ZERO, Moment::ZERO, Moment::ZERO);
        }
        for moment in [&mut self.retry_at, &mut self.beat_at, &mut self.settled_at, &mut self.refresh_at] {
            shift(moment);
        }
        // Beyond the first, failures only lengthen the delay.
        self.failures = self.failures.min(1);
        self.mended = self.mended.min(1);
        // Words for people.
        self.last_failure = None;
    }

    /// Whether the last request failed.
    #[cfg(test)]
    pub(crate) fn has_failed(&self) -> bool {
        self.failures > 0
    }

    /// When there is something to do again without any event.
    pub fn next_deadline(&self) -> Option<Moment> {
        match &self.known {
            _ if self.in_flight.is_some() => None,
            // After a failure everything waits for the retry, the heartbeat too.
            _ if self.failures > 0 => Some(self.retry_at),
            Known::Listed { report, .. } => {
                let critical = report.as_ref().is_some_and(|report| report.level == Level::Critical);
                let refresh = critical.then_some(self.refresh_at);
                let mend = self.contradiction().map(|_| self.settled_at);
                [Some(self.beat_at), refresh, mend].into_iter().flatten().min()
            }
            Known::Absent | Known::Unknown => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const S: Duration = Duration::from_secs(1);

    #[test]
    fn an_entry_that_has_changed_is_registered_again_whatever_was_in_flight() {
        let policy = crate::search::policy(crate::AgentMode::Child, 0, 0, S);
        let report = Report { level: Level::Passing, note: String::new() };
        let wanted = Wanted::Listed { http_check: None, report: report.clone() };
        let ask = |entry: &mut Registration| entry.next_request(S, &wanted);
        let done = |entry: &mut Registration| entry.replied(S, Ok(()), &policy);
        let mut entry = Registration::default();
        entry.entry_changed();
        assert_eq!(ask(&mut entry), Some(Request::Register), "the first, which says it already");
        done(&mut entry);
        assert_eq!(ask(&mut entry), Some(Request::Update(report.clone())));
        entry.entry_changed();
        done(&mut entry);
        assert_eq!(ask(&mut entry), Some(Request::Register), "after an update in flight");
        entry.entry_changed();
        done(&mut entry);
        assert_eq!(ask(&mut entry), Some(Request::Register), "this one may have carried the old");
        done(&mut entry);
        assert_eq!(ask(&mut entry), Some(Request::Update(report)));
        done(&mut entry);
        entry.entry_changed();
        assert_eq!(ask(&mut entry), Some(Request::Register), "at rest");
    }
}
