//! The published snapshot: what `supervisor status --json` prints. Fields are added, never renamed or removed.

use std::time::{Duration, SystemTime};

use lifecycle::process::{Process, Supervised};
use lifecycle::registration::Known;
use lifecycle::{AgentReport, Instance, Level, Role, StopBudget};
use serde::{Deserialize, Serialize};

use crate::config::Config;
use crate::consul::api_client::{http_check_id, ttl_check_id};

/// How the instance is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// `starting`, `running`, `passing`, `degraded`, `critical`, `draining`, `stopping` or `stopped`.
    pub phase: String,
    /// Why, in one line.
    pub reason: String,
    /// Since when it is in this phase (RFC 3339, UTC).
    pub since: String,
    /// In rotation without reservation, or running where there is no catalog: the exit status 0 of `supervisor status`.
    pub passing: bool,
    /// Alive and serving, if degraded: the exit status 0 of `supervisor health`.
    pub healthy: bool,
    /// The supervisor itself.
    pub supervisor: SupervisorStatus,
    /// The Consul agent; absent for a plain init.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent: Option<AgentStatus>,
    /// The worker.
    pub worker: ProcessStatus,
    /// The catalog entry; absent for a plain init.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub registration: Option<RegistrationStatus>,
    /// How the stop timeout is divided.
    pub stop: StopStatus,
}

/// The supervisor itself.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SupervisorStatus {
    /// Its version.
    pub version: String,
    /// Its process id, 1 in a container.
    pub pid: u32,
    /// When it was started (RFC 3339, UTC).
    pub started: String,
}

/// One of the two processes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ProcessStatus {
    /// `idle`, `spawning`, `running`, `stopping`, `killed`, `backoff` or `ended`.
    pub state: String,
    /// Its process id, while it lives.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pid: Option<i32>,
    /// When it was started last (RFC 3339, UTC).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started: Option<String>,
    /// How often it was started again.
    pub restarts: u32,
    /// How its last run ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_exit: Option<String>,
    /// The program.
    pub program: String,
}

/// The Consul agent.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AgentStatus {
    /// Its process.
    #[serde(flatten)]
    pub process: ProcessStatus,
    /// Whether a leader is known and the node is in the catalog.
    pub ready: bool,
    /// The leader's address, or why the agent is not ready.
    pub detail: String,
    /// Its node name.
    pub node: String,
    /// Where it serves its API.
    pub api: String,
}

/// The catalog entry.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RegistrationStatus {
    /// `absent`, `unknown` or `listed`, as far as the agent has confirmed it.
    pub state: String,
    /// The service's name.
    pub service: String,
    /// The instance's id.
    pub id: String,
    /// Where clients reach it.
    pub address: String,
    /// On which port.
    pub port: u16,
    /// Its tags.
    pub tags: Vec<String>,
    /// Its checks.
    pub checks: Vec<CheckStatus>,
    /// Why the last request to the agent failed, unless one succeeded since.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_error: Option<String>,
}

/// One check of the entry.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CheckStatus {
    /// Its id.
    pub id: String,
    /// `passing`, `warning`, `critical`, or `by consul` for the one that Consul makes itself.
    pub status: String,
    /// What it says.
    pub output: String,
}

/// How the stop timeout is divided, in seconds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StopStatus {
    /// Everything together.
    pub timeout: f64,
    /// To tell the catalog.
    pub out_of_rotation: f64,
    /// The worker still serves.
    pub drain_window: f64,
    /// To remove the entry.
    pub deregister: f64,
    /// From TERM to KILL for the worker, at least.
    pub worker_grace: f64,
    /// For the agent to leave.
    pub agent_leave: f64,
}

/// The moments that the policy does not keep.
#[derive(Clone, Debug)]
pub struct Clock {
    started: SystemTime,
    phase: SystemTime,
    agent: Option<SystemTime>,
    worker: Option<SystemTime>,
}

impl Clock {
    /// Begins now.
    pub fn start() -> Self {
        let now = SystemTime::now();
        Self { started: now, phase: now, agent: None, worker: None }
    }

    /// The phase has changed.
    pub fn phase_changed(&mut self) {
        self.phase = SystemTime::now();
    }

    /// A process was started.
    pub fn spawned(&mut self, role: Role) {
        match role {
            Role::Agent => self.agent = Some(SystemTime::now()),
            Role::Worker => self.worker = Some(SystemTime::now()),
        }
    }
}

impl Status {
    /// The snapshot of this moment.
    pub fn of(instance: &Instance, config: &Config, clock: &Clock) -> Self {
        let phase = instance.phase();
        let catalog = config.catalog.as_ref();
        let program = |path: &std::path::Path| path.display().to_string();
        Self {
            phase: phase.name().to_owned(),
            reason: instance.reason(),
            since: timestamp(clock.phase),
            passing: phase.is_well(),
            healthy: phase.is_healthy(),
            supervisor: SupervisorStatus {
                version: env!("CARGO_PKG_VERSION").to_owned(),
                pid: std::process::id(),
                started: timestamp(clock.started),
            },
            agent: catalog.map(|catalog| AgentStatus {
                process: process(instance.process(Role::Agent), clock.agent, program(&catalog.agent.bin)),
                ready: instance.link().is_ready(),
                detail: match instance.link().last() {
                    AgentReport::Ready { leader } => format!("leader {leader}"),
                    AgentReport::NotReady(why) => why.clone(),
                },
                node: catalog.agent.node_name.clone(),
                api: catalog.agent.api.to_string(),
            }),
            worker: process(instance.process(Role::Worker), clock.worker, program(&config.worker.path)),
            registration: catalog.map(|catalog| registration(instance, &catalog.service)),
            stop: stop(&instance.policy().stop, config.stop_timeout),
        }
    }
}

fn process(process: &Supervised, started: Option<SystemTime>, program: String) -> ProcessStatus {
    let state = match process.state() {
        Process::Idle => "idle",
        Process::Spawning => "spawning",
        Process::Running { .. } => "running",
        Process::Stopping { .. } => "stopping",
        Process::Killed { .. } => "killed",
        Process::Backoff { .. } => "backoff",
        Process::Ended => "ended",
    };
    ProcessStatus {
        state: state.to_owned(),
        pid: process.pid(),
        started: started.map(timestamp),
        restarts: process.restarts(),
        last_exit: process.last_exit().map(|exit| exit.to_string()),
        program,
    }
}

fn registration(instance: &Instance, service: &crate::config::Service) -> RegistrationStatus {
    let registration = instance.registration();
    let (state, checks) = match registration.known() {
        Known::Absent => ("absent", Vec::new()),
        Known::Unknown => ("unknown", Vec::new()),
        Known::Listed { http_check, report } => {
            let (status, output) = match report {
                Some(report) => (level(report.level), report.note.clone()),
                None => ("unknown", String::new()),
            };
            let mut checks =
                vec![CheckStatus { id: ttl_check_id(service), status: status.to_owned(), output }];
            if *http_check {
                let output = "Consul asks the worker itself".to_owned();
                checks.push(CheckStatus {
                    id: http_check_id(service),
                    status: "by consul".to_owned(),
                    output,
                });
            }
            ("listed", checks)
        }
    };
    RegistrationStatus {
        state: state.to_owned(),
        service: service.name.clone(),
        id: service.id.clone(),
        address: service.address.clone(),
        port: service.port,
        tags: service.tags.clone(),
        checks,
        last_error: registration.last_failure().map(str::to_owned),
    }
}

fn stop(budget: &StopBudget, timeout: Duration) -> StopStatus {
    StopStatus {
        timeout: timeout.as_secs_f64(),
        out_of_rotation: budget.out_of_rotation.as_secs_f64(),
        drain_window: budget.drain_window.as_secs_f64(),
        deregister: budget.deregister.as_secs_f64(),
        worker_grace: budget.worker_grace.as_secs_f64(),
        agent_leave: budget.agent_leave.as_secs_f64(),
    }
}

/// A level in Consul's words.
pub fn level(level: Level) -> &'static str {
    match level {
        Level::Passing => "passing",
        Level::Warning => "warning",
        Level::Critical => "critical",
    }
}

fn timestamp(time: SystemTime) -> String {
    humantime::format_rfc3339_seconds(time).to_string()
}
