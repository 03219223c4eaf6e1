//! The one place that logs what happened and what was done about it.

use lifecycle::{AgentReport, Command, Event, Instance, Phase, ProbeOutcome, ProbeReport, Request};

use crate::os::signals;

/// Writes the log; remembers what was said last, so that what stays the same is said once.
#[derive(Debug, Default)]
pub struct Journal {
    phase: Option<Phase>,
    agent: Option<AgentReport>,
    worker: Option<ProbeOutcome>,
    failure: Option<String>,
}

impl Journal {
    /// Logs one step. Returns whether the phase has changed.
    pub fn record(&mut self, event: &Event, commands: &[Command], instance: &Instance) -> bool {
        self.event(event);
        for command in commands {
            log_command(command);
        }
        let phase = instance.phase();
        let changed = self.phase != Some(phase);
        if changed {
            self.phase = Some(phase);
            tracing::info!(phase = phase.name(), reason = instance.reason(), "phase");
        }
        changed
    }

    fn event(&mut self, event: &Event) {
        match event {
            Event::Started | Event::DeadlineReached => {}
            Event::Signalled(signal) => tracing::info!(signal = signals::name(*signal), "signal received"),
            Event::StopRequested => tracing::info!("stop requested over the control socket"),
            Event::Spawned { role, pid } => tracing::info!(%role, pid, "started"),
            Event::SpawnFailed { role, failure } => tracing::error!(%role, ?failure, "cannot be started"),
            Event::Exited { role, pid, exit } => {
                tracing::warn!(%role, pid, status = exit.code(), "{role} {exit}")
            }
            Event::WorkerProbed { report, .. } => self.worker(report),
            Event::AgentProbed { report, .. } => self.agent(report),
            Event::CatalogReplied { outcome, .. } => {
                self.catalog(outcome.as_ref().err().map(lifecycle::Failure::reason))
            }
        }
    }

    fn worker(&mut self, report: &ProbeReport) {
        if self.worker.replace(report.outcome) == Some(report.outcome) {
            tracing::debug!(note = report.note, "worker probed");
        } else {
            tracing::info!(note = report.note, outcome = ?report.outcome, "worker probed");
        }
    }

    fn agent(&mut self, report: &AgentReport) {
        if self.agent.as_ref() == Some(report) {
            return;
        }
        match report {
            AgentReport::Ready { leader } => tracing::info!(leader, "consul agent is ready"),
            AgentReport::NotReady(reason) => tracing::info!(reason, "consul agent is not ready"),
        }
        self.agent = Some(report.clone());
    }

    fn catalog(&mut self, failure: Option<&str>) {
        match failure {
            Some(reason) if self.failure.as_deref() != Some(reason) => {
                tracing::warn!(reason, "catalog request failed; it will be tried again");
            }
            _ => {}
        }
        self.failure = failure.map(str::to_owned);
    }
}

fn log_command(command: &Command) {
    match command {
        Command::Spawn { role, generation } => tracing::debug!(%role, generation, "starting"),
        Command::Signal { role, pid, signal } => {
            tracing::info!(%role, pid, signal = signals::name(*signal), "signal sent");
        }
        Command::Watch { role, .. } => tracing::debug!(%role, "probing begins"),
        Command::Unwatch { role } => tracing::debug!(%role, "probing ends"),
        Command::Catalog { request, .. } => match request {
            Request::Register => tracing::info!("registering"),
            Request::Update(report) => {
                tracing::debug!(level = ?report.level, note = report.note, "check pushed")
            }
            Request::AddHttpCheck => tracing::debug!("adding Consul's check of the worker"),
            Request::RemoveHttpCheck => tracing::debug!("removing Consul's check of the worker"),
            Request::Deregister { .. } => tracing::info!("deregistering"),
        },
        Command::Exit(status) => tracing::info!(status, "exiting"),
    }
}
