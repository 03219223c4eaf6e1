//! The one place that logs and counts what happened and what was done about it.

use lifecycle::{
    AgentReport, Command, Event, GpuReport, GpuSample, Instance, Level, Listing, Phase, ProbeOutcome,
    ProbeReport, Report, Request, View,
};

use crate::control::protocol::ReloadReport;
use crate::metrics::Metrics;
use crate::metrics::rotation::Rotation;
use crate::os::signals;

/// Writes the log; remembers what was said last, so that what stays the same is said once.
#[derive(Debug)]
pub struct Journal {
    metrics: Metrics,
    rotation: Rotation,
    phase: Option<Phase>,
    agent: Option<AgentReport>,
    worker: Option<ProbeOutcome>,
    failure: Option<String>,
    gpus: Option<usize>,
    gpu_levels: Vec<Report>,
}

impl Journal {
    /// A journal in which nothing has happened.
    pub fn new(metrics: Metrics) -> Self {
        let rotation = Rotation::new(metrics.clone());
        Self {
            metrics,
            rotation,
            phase: None,
            agent: None,
            worker: None,
            failure: None,
            gpus: None,
            gpu_levels: Vec::new(),
        }
    }

    /// Logs and counts one step. Returns whether the phase has changed.
    pub fn record(&mut self, event: &Event, commands: &[Command], instance: &Instance) -> bool {
        self.count(event);
        self.event(event);
        self.gpus(instance);
        for command in commands {
            log_command(command);
        }
        let phase = instance.phase();
        self.rotation.stepped(event, phase, instance);
        let changed = self.phase != Some(phase);
        if changed {
            self.phase = Some(phase);
            tracing::info!(phase = phase.name(), reason = instance.reason(), "phase");
        }
        changed
    }

    fn count(&self, event: &Event) {
        match event {
            Event::Signalled(signal) => self.metrics.signalled(*signal),
            Event::SpawnFailed { role, .. } => self.metrics.not_spawned(*role),
            Event::Exited { role, exit, .. } => self.metrics.exited(*role, *exit),
            Event::WorkerProbed { report, .. } => self.metrics.probed(report.outcome),
            Event::LivenessProbed { outcome, .. } => self.metrics.liveness_probed(outcome.is_ok()),
            Event::Started
            | Event::StopRequested
            | Event::DrainRequested
            | Event::GpusReported(_)
            | Event::ResumeRequested
            | Event::RestartRequested(_)
            | Event::Reconfigured(..)
            | Event::Spawned { .. }
            | Event::AgentProbed { .. }
            | Event::EntrySeen { .. }
            | Event::CatalogReplied { .. }
            | Event::CredentialsChanged
            | Event::DeadlineReached => {}
        }
    }

    fn event(&mut self, event: &Event) {
        match event {
            Event::Started | Event::DeadlineReached => {}
            Event::Signalled(signal) => tracing::info!(signal = signals::name(*signal), "signal received"),
            Event::StopRequested => tracing::info!("stop requested over the control socket"),
            // What it was about is logged where it is known by its keys.
            Event::Reconfigured(..) => {}
            // Logged where it was seen.
            Event::CredentialsChanged => {}
            Event::Spawned { role, pid } => tracing::info!(%role, pid, "started"),
            Event::SpawnFailed { role, failure } => tracing::error!(%role, ?failure, "cannot be started"),
            Event::Exited { role, pid, exit } => {
                tracing::warn!(%role, pid, status = exit.code(), "{role} {exit}")
            }
            Event::WorkerProbed { report, .. } => self.worker(report),
            Event::AgentProbed { report, .. } => self.agent(report),
            Event::DrainRequested => tracing::info!("drain requested over the control socket"),
            Event::ResumeRequested => tracing::info!("resume requested over the control socket"),
            Event::RestartRequested(role) => {
                tracing::info!(%role, "restart requested over the control socket")
            }
            Event::LivenessProbed { outcome: Ok(()), .. } => {}
            Event::LivenessProbed { outcome: Err(note), .. } => tracing::warn!(note, "liveness probe failed"),
            Event::EntrySeen { view, .. } => log_view(view),
            Event::GpusReported(report) => self.gpus_reported(report),
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
        let same = match (&self.agent, report) {
            // That its neighbours come and go is no news.
            (
                Some(AgentReport::Ready { leader: last, cluster: before }),
                AgentReport::Ready { leader, cluster },
            ) => last == leader && before.trouble == cluster.trouble,
            (before, report) => before.as_ref() == Some(report),
        };
        if same {
            return;
        }
        match report {
            AgentReport::Ready { leader, cluster } if cluster.trouble.is_empty() => {
                tracing::info!(leader, "consul agent is ready");
            }
            AgentReport::Ready { leader, cluster } => {
                tracing::warn!(leader, trouble = cluster.trouble, "consul agent is ready");
            }
            AgentReport::NotReady(reason) | AgentReport::Unreachable(reason) => {
                tracing::info!(reason, "consul agent is not ready")
            }
            AgentReport::Silent(reason) => tracing::warn!(reason, "consul agent does not answer"),
        }
        self.agent = Some(report.clone());
    }

    fn gpus_reported(&mut self, report: &GpuReport) {
        match report {
            GpuReport::Absent(reason) => tracing::info!(reason, "no GPU is watched"),
            GpuReport::Xid { uuid, xid } => tracing::warn!(uuid, xid, "the driver reported an Xid error"),
            GpuReport::Sampled(samples) if self.gpus != Some(samples.len()) => {
                self.gpus = Some(samples.len());
                for GpuSample { uuid, index, name, .. } in samples {
                    tracing::info!(index, uuid, name, "watching a GPU");
                }
            }
            GpuReport::Sampled(_) => {}
        }
    }

    /// What has changed in how each GPU is.
    fn gpus(&mut self, instance: &Instance) {
        let each = instance.gpus().each(instance.policy().gpu.as_ref());
        for (at, (gpu, report)) in each.iter().enumerate() {
            let index = gpu.sample().index;
            let was = self.gpu_levels.get(at);
            match (was.map_or(Level::Passing, |was| was.level), report) {
                _ if was == Some(report) => {}
                (Level::Passing, Report { level: Level::Passing, .. }) => {}
                (_, Report { level: Level::Passing, .. }) => tracing::info!(index, "the GPU is well again"),
                (_, Report { level, note }) => {
                    tracing::warn!(index, level = crate::status::level(*level), note, "the GPU is not well");
                }
            }
        }
        self.gpu_levels = each.into_iter().map(|(_, report)| report).collect();
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

fn log_view(view: &View) {
    match view {
        View::Unknown(reason) => tracing::debug!(reason, "the servers cannot be asked"),
        View::Absent => tracing::debug!("the servers do not list the entry"),
        View::Listed(Listing { altered, level, note, .. }) => {
            tracing::debug!(%level, note, altered, "the servers list the entry");
        }
    }
}

/// Logs what a reload did.
pub fn reloaded(report: &ReloadReport) {
    for problem in &report.problems {
        tracing::error!(problem, "the configuration cannot work; nothing was changed");
    }
    if report.problems.is_empty() {
        let pending: Vec<String> =
            report.pending.iter().map(|change| format!("{} ({})", change.key, change.applies)).collect();
        let (applied, pending) = (report.applied.join(", "), pending.join(", "));
        tracing::info!(applied, pending, "configuration reloaded");
    }
}

fn log_command(command: &Command) {
    match command {
        Command::Spawn { role, generation, .. } => tracing::debug!(%role, generation, "starting"),
        Command::Signal { role, pid, signal } => {
            tracing::info!(%role, pid, signal = signals::name(*signal), "signal sent");
        }
        Command::ReloadAgent { pid } => tracing::info!(pid, "the agent takes what was replaced"),
        Command::Watch { role, .. } => tracing::debug!(%role, "probing begins"),
        Command::Unwatch { role } => tracing::debug!(%role, "probing ends"),
        Command::Catalog { request, .. } => match request {
            Request::Register => tracing::info!("registering"),
            Request::Update(report) => {
                tracing::debug!(level = ?report.level, note = report.note, "check pushed")
            }
            Request::AddHttpCheck => tracing::debug!("adding Consul's check of the worker"),
            Request::RemoveHttpCheck => tracing::debug!("removing Consul's check of the worker"),
            Request::Deregister => tracing::info!("deregistering"),
        },
        Command::Describe(devices) => {
            tracing::debug!(?devices, "the entry says what there is to compute with")
        }
        Command::Exit(status) => tracing::info!(status, "exiting"),
    }
}
