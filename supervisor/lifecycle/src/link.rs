//! What the agent says of the cluster.

use crate::AgentReport;

/// What is known of the agent's place in the cluster, since it was spawned.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct AgentLink {
    last: AgentReport,
    was_ready: bool,
    /// It has answered something since it was spawned.
    has_answered: bool,
    /// Questions in a row that it took and did not answer.
    silent: u32,
}

impl Default for AgentLink {
    fn default() -> Self {
        let last = AgentReport::NotReady("not asked yet".to_owned());
        Self { last, was_ready: false, has_answered: false, silent: 0 }
    }
}

impl AgentLink {
    /// Takes a report into account.
    pub fn observe(&mut self, report: AgentReport) {
        self.was_ready |= matches!(report, AgentReport::Ready { .. });
        match report {
            AgentReport::Silent(_) => self.silent = self.silent.saturating_add(1),
            AgentReport::Ready { .. } | AgentReport::NotReady(_) => {
                self.silent = 0;
                self.has_answered = true;
            }
            AgentReport::Unreachable(_) => self.silent = 0,
        }
        self.last = report;
    }

    /// A catalog request was not answered in time.
    pub fn unanswered(&mut self) {
        self.silent = self.silent.saturating_add(1);
    }

    /// Counts anew from here.
    pub fn forgive(&mut self) {
        self.silent = 0;
    }

    /// Whether it has left as many questions in a row unanswered.
    pub fn is_silent(&self, threshold: u32) -> bool {
        self.silent >= threshold
    }

    /// The last report.
    pub fn last(&self) -> &AgentReport {
        &self.last
    }

    /// Whether a leader is known and the node is in the catalog, by the last report.
    pub fn is_ready(&self) -> bool {
        matches!(self.last, AgentReport::Ready { .. })
    }

    /// Whether it has answered anything since it was spawned: before that a signal may find it without a handler.
    pub fn has_answered(&self) -> bool {
        self.has_answered
    }

    #[cfg(test)]
    pub(crate) fn forget_beyond(&mut self, threshold: u32) {
        self.silent = self.silent.min(threshold);
    }

    /// Whether it was so once since this agent was spawned. From then on the agent takes registrations: it delivers
    /// them when a lost leader is back.
    pub fn was_ready(&self) -> bool {
        self.was_ready
    }
}
