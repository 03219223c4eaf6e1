//! The catalog entry's life: what it should be, what the agent was last known to hold, and the one request in flight.
//!
//! Registration is reconciled and never fired once: [`Registration::next_request`] compares the wanted entry with the known one and
//! names the single next request. Whatever is not known for sure is registered again, which Consul treats as an update.
//!
//! A request holds the line until it is answered; the mechanism answers each one exactly once, by a timeout if need be.
//! So a reply needs no number, only the generation of the agent it came from: one from an earlier agent frees the line and
//! says nothing about the present one.

use crate::backoff::Backoff;
use crate::command::Request;
use crate::{Failure, Level, Moment, Report};

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
        }
    }
}

impl Registration {
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

    /// Whether there is no entry, and no request that could make one.
    pub fn is_absent(&self) -> bool {
        self.known == Known::Absent && self.in_flight.is_none()
    }

    /// The agent is gone. What it held it may hold again once it is back; a request in flight is still answered.
    pub fn agent_exited(&mut self) {
        if self.known != Known::Absent || self.in_flight.is_some() {
            self.known = Known::Unknown;
        }
        self.retry_at = Moment::ZERO;
        self.failures = 0;
    }

    /// The next request, if one is due: at most one at a time.
    pub fn next_request(
        &mut self,
        now: Moment,
        wanted: &Wanted,
        deregister: std::time::Duration,
    ) -> Option<Request> {
        if self.in_flight.is_some() || self.retry_at > now {
            return None;
        }
        let request = self.difference(now, wanted, deregister);
        if request.is_none() {
            // What failed is not wanted any more: there is nothing to retry.
            self.failures = 0;
        }
        self.in_flight.clone_from(&request);
        request
    }

    /// What separates the known entry from the wanted one. Bad news goes first: the TTL check is made worse before the HTTP
    /// check is touched, and made better after it.
    fn difference(&self, now: Moment, wanted: &Wanted, deregister: std::time::Duration) -> Option<Request> {
        match (wanted, &self.known) {
            (Wanted::Absent, Known::Absent) => None,
            (Wanted::Absent, Known::Unknown | Known::Listed { .. }) => {
                Some(Request::Deregister { timeout: deregister })
            }
            (Wanted::Listed { .. }, Known::Absent | Known::Unknown) => Some(Request::Register),
            (
                Wanted::Listed { http_check: wanted_check, report: wanted },
                Known::Listed { http_check, report },
            ) => {
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
    pub fn replied(
        &mut self,
        now: Moment,
        outcome: Result<(), Failure>,
        beat: std::time::Duration,
        retry: &Backoff,
    ) {
        let Some(request) = self.in_flight.take() else { return };
        match outcome {
            Ok(()) => {
                self.failures = 0;
                self.retry_at = Moment::ZERO;
                self.last_failure = None;
                self.acknowledged(now, request, beat);
            }
            Err(failure) => {
                self.retry_at = now.saturating_add(retry.delay(self.failures));
                self.failures = self.failures.saturating_add(1).min(31);
                self.last_failure = Some(failure.reason().to_owned());
                // Refused: the agent does not hold what it was believed to hold. Unanswered: it may have done it or not.
                self.known = Known::Unknown;
            }
        }
    }

    /// The request in flight was answered by an agent that is gone: it frees the line and says nothing.
    pub fn replied_by_earlier_agent(&mut self) {
        self.in_flight = None;
    }

    fn acknowledged(&mut self, now: Moment, request: Request, beat: std::time::Duration) {
        match request {
            // Registering again keeps the state that a check has, so what it says is only known after an update.
            Request::Register => self.known = Known::Listed { http_check: false, report: None },
            Request::Deregister { .. } => self.known = Known::Absent,
            Request::Update(new) => {
                self.beat_at = now.saturating_add(beat);
                if let Known::Listed { report, .. } = &mut self.known {
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

    #[cfg(test)]
    pub(crate) fn each_moment(&mut self, shift: &impl Fn(&mut Moment)) {
        shift(&mut self.retry_at);
        shift(&mut self.beat_at);
        // Beyond the first, failures only lengthen the delay.
        self.failures = self.failures.min(1);
    }

    /// When there is something to do again without any event.
    pub fn next_deadline(&self) -> Option<Moment> {
        match &self.known {
            _ if self.in_flight.is_some() => None,
            // After a failure everything waits for the retry, the heartbeat too.
            _ if self.failures > 0 => Some(self.retry_at),
            Known::Listed { .. } => Some(self.beat_at),
            Known::Absent | Known::Unknown => None,
        }
    }
}
