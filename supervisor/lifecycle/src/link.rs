//! What the agent says of the cluster.

use crate::AgentReport;

/// What is known of the agent's place in the cluster, since it was spawned.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct AgentLink {
    last: AgentReport,
    was_ready: bool,
}

impl Default for AgentLink {
    fn default() -> Self {
        Self { last: AgentReport::NotReady("not asked yet".to_owned()), was_ready: false }
    }
}

impl AgentLink {
    /// Takes a report into account.
    pub fn observe(&mut self, report: AgentReport) {
        self.was_ready |= matches!(report, AgentReport::Ready { .. });
        self.last = report;
    }

    /// The last report.
    pub fn last(&self) -> &AgentReport {
        &self.last
    }

    /// Whether a leader is known and the node is in the catalog, by the last report.
    pub fn is_ready(&self) -> bool {
        matches!(self.last, AgentReport::Ready { .. })
    }

    /// Whether it was so once since this agent was spawned. From then on the agent takes registrations: it delivers
    /// them when a lost leader is back.
    pub fn was_ready(&self) -> bool {
        self.was_ready
    }
}
