//! The published snapshot: what `supervisor status --json` prints. Fields are added, never renamed or removed.

use std::time::{Duration, SystemTime};

use lifecycle::process::{Process, Supervised};
use lifecycle::registration::Known;
use lifecycle::{AgentMode, AgentReport, Goal, GpuSample, Instance, Level, Report, Role, StopBudget, View};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::config::Config;
use crate::consul::api_client::{http_check_id, ttl_check_id};

/// How the instance is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Status {
    /// `starting`, `running`, `passing`, `degraded`, `critical`, `draining`, `drained`, `stopping` or `stopped`.
    pub phase: String,
    /// Why, in one line.
    pub reason: String,
    /// Since when it is in this phase (RFC 3339, UTC).
    pub since: String,
    /// In rotation without reservation, or running where there is no catalog: the exit status 0 of `supervisor status`.
    pub passing: bool,
    /// The worker serves and is meant to, whatever the catalog says: the exit status 0 of `supervisor health`.
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
    /// The GPUs and MIG instances that are visible here.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub gpus: Vec<GpuStatus>,
    /// How the stop timeout is divided.
    pub stop: StopStatus,
    /// Whether the instance is on its way to its end: nothing brings it back.
    pub stopping: bool,
    /// The configuration.
    pub config: ConfigStatus,
}

/// The configuration.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ConfigStatus {
    /// The file of settings, if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    /// When it was last read with success (RFC 3339, UTC).
    pub loaded_at: String,
    /// The settings whose new values wait for a restart.
    pub pending: Vec<PendingChange>,
    /// Why the last reload changed nothing, unless one succeeded since.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_error: Option<String>,
}

/// A setting whose new value waits.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PendingChange {
    /// The setting.
    pub key: String,
    /// What it waits for: `worker restart`, `agent restart` or `container restart`.
    pub applies: String,
}

impl Status {
    /// The reason, without the phase where it repeats that.
    pub fn why(&self) -> &str {
        let rest = self.reason.strip_prefix(self.phase.as_str()).and_then(|rest| rest.strip_prefix(": "));
        rest.unwrap_or(&self.reason)
    }
}

/// The supervisor itself.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct SupervisorStatus {
    /// Its version.
    pub version: String,
    /// Its process id, 1 in a container.
    pub pid: u32,
    /// When it was started (RFC 3339, UTC).
    pub started: String,
    /// Where its metrics are, if anywhere: a URL.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metrics: Option<String>,
}

/// One of the two processes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ProcessStatus {
    /// `idle`, `spawning`, `running`, `stopping`, `killed`, `backoff` or `ended`; `external` for an agent that is not ours.
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
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct AgentStatus {
    /// Its process.
    #[serde(flatten)]
    pub process: ProcessStatus,
    /// Whether a leader is known and the node is in the catalog.
    pub ready: bool,
    /// The leader's address, or why the agent is not ready.
    pub detail: String,
    /// The leader's address, while the agent is ready.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub leader: Option<String>,
    /// How many members of the cluster the agent sees alive, itself and the servers included, while it is ready.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub members: Option<u32>,
    /// The agent's version, while it is ready.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// Its node name.
    pub node: String,
    /// Where it serves its API.
    pub api: String,
}

/// The catalog entry.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
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
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct CheckStatus {
    /// Its id.
    pub id: String,
    /// `passing`, `warning` or `critical`; `unknown` before the servers have said.
    pub status: String,
    /// What it says.
    pub output: String,
}

/// One GPU or MIG instance. Figures that it does not have are absent.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct GpuStatus {
    /// NVML's number for it; that of the whole GPU for a MIG instance.
    pub index: u32,
    /// Its UUID.
    pub uuid: String,
    /// The product.
    pub name: String,
    /// Memory that cannot be had, whoever uses it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_used_bytes: Option<u64>,
    /// All its memory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_total_bytes: Option<u64>,
    /// The one as a part of the other, to a tenth.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_used_percent: Option<f64>,
    /// Its temperature.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub temperature_celsius: Option<u32>,
    /// For how much of the last moment it computed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub utilization_percent: Option<u32>,
    /// Uncorrected ECC errors since the driver was loaded or the GPU was reset.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ecc_uncorrected: Option<u64>,
    /// The last Xid error since the supervisor was started, fatal or not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_xid: Option<u64>,
    /// `passing`, `warning` or `critical`.
    pub level: String,
    /// Why, if it is not passing.
    pub note: String,
}

/// How the stop timeout is divided, in seconds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
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
    /// The JSON Schema (draft 2020-12) of what `supervisor status --json` prints.
    pub fn schema() -> serde_json::Value {
        schemars::schema_for!(Status).to_value()
    }

    /// The snapshot of this moment.
    pub fn of(instance: &Instance, config: &Config, clock: &Clock) -> Self {
        let phase = instance.phase();
        let catalog = config.catalog.as_ref();
        let cluster = match instance.link().last() {
            AgentReport::Ready { leader, cluster } => Some((leader, cluster)),
            AgentReport::NotReady(_) | AgentReport::Unreachable(_) | AgentReport::Silent(_) => None,
        };
        let program = |path: &std::path::Path| path.display().to_string();
        Self {
            phase: phase.name().to_owned(),
            reason: instance.reason(),
            since: timestamp(clock.phase),
            passing: phase.is_well(),
            healthy: instance.is_serving(),
            supervisor: SupervisorStatus {
                version: env!("CARGO_PKG_VERSION").to_owned(),
                pid: std::process::id(),
                started: timestamp(clock.started),
                metrics: config.metrics.map(|address| format!("http://{address}/metrics")),
            },
            agent: catalog.map(|catalog| AgentStatus {
                process: match catalog.mode {
                    AgentMode::Child => {
                        process(instance.process(Role::Agent), clock.agent, program(&catalog.agent.bin))
                    }
                    AgentMode::External | AgentMode::None => external(),
                },
                ready: instance.link().is_ready(),
                detail: match instance.link().last() {
                    AgentReport::Ready { leader, cluster } if cluster.trouble.is_empty() => {
                        format!("leader {leader}")
                    }
                    AgentReport::Ready { leader, cluster } => format!("leader {leader}; {}", cluster.trouble),
                    AgentReport::NotReady(why) | AgentReport::Unreachable(why) => why.clone(),
                    AgentReport::Silent(why) => format!("it does not answer: {why}"),
                },
                leader: cluster.map(|(leader, _)| leader.clone()),
                members: cluster.and_then(|(_, cluster)| cluster.members),
                version: cluster.map(|(_, cluster)| cluster.version.clone()).filter(|v| !v.is_empty()),
                node: catalog.agent.node_name.clone(),
                api: catalog.agent.api.to_string(),
            }),
            worker: process(instance.process(Role::Worker), clock.worker, program(&config.worker.path)),
            registration: catalog.map(|catalog| {
                registration(instance, &catalog.service.on(instance.gpus().devices().as_ref()))
            }),
            gpus: gpus(instance),
            stop: stop(&instance.policy().stop, config.stop_timeout),
            stopping: matches!(instance.goal(), Goal::Stop(_)),
            config: ConfigStatus::default(),
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

/// An agent that is not ours: nothing is known of its process.
fn external() -> ProcessStatus {
    ProcessStatus {
        state: "external".to_owned(),
        pid: None,
        started: None,
        restarts: 0,
        last_exit: None,
        program: String::new(),
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
                let seen = match registration.seen() {
                    Some(View::Listed(listing)) => listing.worker_check.map(level),
                    _ => None,
                };
                checks.push(CheckStatus {
                    id: http_check_id(service),
                    status: seen.unwrap_or("unknown").to_owned(),
                    output: "Consul asks the worker itself".to_owned(),
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

fn gpus(instance: &Instance) -> Vec<GpuStatus> {
    let each = instance.gpus().each(instance.policy().gpu.as_ref());
    let status = |(gpu, report): (&lifecycle::gpu::Gpu, Report)| {
        let GpuSample { uuid, index, name, reading } = gpu.sample();
        let reading = reading.as_ref().ok();
        let memory = reading.and_then(|reading| reading.memory);
        GpuStatus {
            index: *index,
            uuid: uuid.clone(),
            name: name.clone(),
            memory_used_bytes: memory.map(|memory| memory.used),
            memory_total_bytes: memory.map(|memory| memory.total),
            memory_used_percent: memory.map(|memory| percent(memory.used, memory.total)),
            temperature_celsius: reading.and_then(|reading| reading.temperature),
            utilization_percent: reading.and_then(|reading| reading.utilization),
            ecc_uncorrected: reading.and_then(|reading| reading.ecc_uncorrected),
            last_xid: gpu.last_xid(),
            level: level(report.level).to_owned(),
            note: report.note,
        }
    };
    each.into_iter().map(status).collect()
}

/// To a tenth.
fn percent(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { (part as f64 * 1000.0 / whole as f64).round() / 10.0 }
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

/// As timestamps are written (RFC 3339, UTC).
pub fn timestamp(time: SystemTime) -> String {
    humantime::format_rfc3339_seconds(time).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SCHEMA: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/status.schema.json");

    #[test]
    fn the_documented_schema_is_that_of_the_status() {
        let schema = format!("{:#}\n", Status::schema());
        if std::env::var_os("PILOTLIGHT_UPDATE_DOCS").is_some() {
            std::fs::write(SCHEMA, &schema).expect("written");
        }
        let written = std::fs::read_to_string(SCHEMA).expect("docs/status.schema.json");
        assert!(written == schema, "run this test with PILOTLIGHT_UPDATE_DOCS=1");
    }
}
