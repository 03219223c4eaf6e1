//! The public phase: derived from the facts whenever it is asked for, so that it cannot contradict them.

/// How the instance is, for people and orchestrators.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Phase {
    /// Not in rotation yet: the worker, the agent or the registration is not ready.
    Starting,
    /// There is no Consul agent: a plain init with a live worker.
    Running,
    /// In rotation.
    Passing,
    /// In the catalog with a warning: degraded, not among the passing.
    Degraded,
    /// Was in rotation and is out of it; the supervisor works on it.
    Critical,
    /// On the way out of rotation, the worker still serves: before a stop, or because somebody asked.
    Draining,
    /// Out of rotation because somebody asked; the worker keeps running.
    Drained,
    /// Stopping: the entry is being removed, or the children end.
    Stopping,
    /// Nothing lives any more.
    Stopped,
}

impl Phase {
    /// The word that `status` and the metrics use.
    pub fn name(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Running => "running",
            Self::Passing => "passing",
            Self::Degraded => "degraded",
            Self::Critical => "critical",
            Self::Draining => "draining",
            Self::Drained => "drained",
            Self::Stopping => "stopping",
            Self::Stopped => "stopped",
        }
    }

    /// Serving without reservation. What `supervisor status` says by its exit status.
    pub fn is_well(self) -> bool {
        match self {
            Self::Running | Self::Passing => true,
            Self::Starting
            | Self::Degraded
            | Self::Critical
            | Self::Draining
            | Self::Drained
            | Self::Stopping
            | Self::Stopped => false,
        }
    }
}

impl std::fmt::Display for Phase {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}
