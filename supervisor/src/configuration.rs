//! The configuration in effect, and which of the values that were read last have to wait for something.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use lifecycle::Role;

use crate::config::keys::{Applies, Key};
use crate::config::{Config, Invocation, Loaded, Sources, reload};
use crate::control::protocol::ReloadReport;
use crate::status::{ConfigStatus, PendingChange, timestamp};

/// The configuration in effect.
#[derive(Debug)]
pub struct Configuration {
    /// What to do.
    pub config: Config,
    file: Option<String>,
    /// The values that the last successful reading found.
    latest: Arc<Sources>,
    /// Those of the start, of the worker's last start, and of the agent's: what is in effect of the keys that wait for one.
    started: Arc<Sources>,
    worker: Arc<Sources>,
    agent: Arc<Sources>,
    loaded_at: SystemTime,
    last_error: Option<String>,
}

impl Configuration {
    /// As loaded at the start.
    pub fn new(loaded: Loaded, invocation: &Invocation) -> Self {
        let sources = Arc::new(loaded.sources);
        Self {
            config: loaded.config,
            file: invocation.file().map(|(file, _)| Path::display(&file).to_string()),
            latest: Arc::clone(&sources),
            started: Arc::clone(&sources),
            worker: Arc::clone(&sources),
            agent: sources,
            loaded_at: SystemTime::now(),
            last_error: None,
        }
    }

    /// Where the metrics are served has turned out.
    pub fn serve_metrics_at(&mut self, address: SocketAddr) {
        self.config = self.config.clone().with_metrics_at(address);
    }

    /// The values of the start.
    pub fn started(&self) -> Arc<Sources> {
        Arc::clone(&self.started)
    }

    /// A process was started, with the values that were read last.
    pub fn spawned(&mut self, role: Role) {
        match role {
            Role::Agent => self.agent = Arc::clone(&self.latest),
            Role::Worker => self.worker = Arc::clone(&self.latest),
        }
    }

    /// Adopts what was read.
    pub fn adopt(&mut self, config: Config, sources: Sources) -> ReloadReport {
        let changed = reload::changed(&self.latest, &sources);
        self.config = config;
        self.latest = Arc::new(sources);
        self.loaded_at = SystemTime::now();
        self.last_error = None;
        let applied = changed
            .into_iter()
            .filter(|key| key.applies == Applies::Now)
            .map(|key| key.path.to_owned())
            .collect();
        ReloadReport { applied, pending: self.pending(), problems: Vec::new() }
    }

    /// What was read cannot work, and nothing has changed.
    pub fn refuse(&mut self, problems: Vec<String>) -> ReloadReport {
        self.last_error = Some(problems.join("; "));
        ReloadReport { applied: Vec::new(), pending: self.pending(), problems }
    }

    /// The keys whose values wait for a restart.
    fn pending(&self) -> Vec<PendingChange> {
        let waiting = |applies: Applies, baseline: &Arc<Sources>| -> Vec<&'static Key> {
            if Arc::ptr_eq(baseline, &self.latest) {
                return Vec::new();
            }
            reload::changed(baseline, &self.latest).into_iter().filter(|key| key.applies == applies).collect()
        };
        [
            (Applies::WorkerRestart, &self.worker),
            (Applies::AgentRestart, &self.agent),
            (Applies::ContainerRestart, &self.started),
        ]
        .into_iter()
        .flat_map(|(applies, baseline)| waiting(applies, baseline))
        .map(|key| PendingChange { key: key.path.to_owned(), applies: key.applies.name().to_owned() })
        .collect()
    }

    /// As `status` shows it.
    pub fn status(&self) -> ConfigStatus {
        ConfigStatus {
            file: self.file.clone(),
            loaded_at: timestamp(self.loaded_at),
            pending: self.pending(),
            last_error: self.last_error.clone(),
        }
    }
}
