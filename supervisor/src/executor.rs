//! From a command to the mechanism that does it. Nothing here waits.

use lifecycle::{Command, Event, Failure, Generation, Request, Role, SpawnFailure};
use tokio::sync::mpsc;
use tokio::task::AbortHandle;

use crate::config::{Catalog, Config, Probe, identity};
use crate::consul::agent_config;
use crate::consul::api_client::{ApiClient, http_check_id};
use crate::consul::catalog::{self, Entry};
use crate::consul::readiness::{self, Identity};
use crate::os::children::{Children, Program, Reaped};
use crate::probe;

/// What commands are carried out with.
#[derive(Debug)]
pub struct Executor {
    children: Children,
    worker: Program,
    consul: Option<Consul>,
    events: mpsc::Sender<Event>,
    agent_watch: Option<AbortHandle>,
    worker_watch: Option<AbortHandle>,
}

/// What is needed only where there is an agent: a plain init never builds an HTTP client.
#[derive(Debug)]
struct Consul {
    config: Catalog,
    client: ApiClient,
    probe_client: reqwest::Client,
    requests: mpsc::Sender<(Generation, Request)>,
}

impl Executor {
    /// Sets the mechanisms up. Needs a running tokio runtime.
    ///
    /// # Errors
    /// An HTTP client cannot be built, or orphans cannot be adopted.
    pub fn new(config: &Config, events: mpsc::Sender<Event>) -> Result<Self, String> {
        let children = Children::default();
        children.adopt_orphans().map_err(|error| format!("cannot become a child subreaper: {error}"))?;
        let consul = config.catalog.clone().map(|config| Consul::new(config, &events)).transpose()?;
        Ok(Self {
            children,
            worker: config.worker.clone(),
            consul,
            events,
            agent_watch: None,
            worker_watch: None,
        })
    }

    /// Carries a command out. What is known at once comes back as an event.
    pub fn run(&mut self, command: Command) -> Option<Event> {
        match command {
            Command::Spawn { role, .. } => Some(match self.spawn(role) {
                Ok(pid) => Event::Spawned { role, pid },
                Err(failure) => Event::SpawnFailed { role, failure },
            }),
            Command::Signal { pid, signal, .. } => {
                self.children.signal_group(pid, signal);
                None
            }
            Command::Watch { role, generation } => {
                self.watch(role, generation);
                None
            }
            Command::Unwatch { role } => {
                self.replace_watch(role, None);
                None
            }
            Command::Catalog { generation, request } => {
                let sent = self.consul.as_ref().map(|consul| consul.requests.try_send((generation, request)));
                // Cannot be: the policy has one request in flight, and the task outlives it. But a request must be answered.
                let failure = || Failure::Unanswered("the catalog task is gone".to_owned());
                (!matches!(sent, Some(Ok(()))))
                    .then(|| Event::CatalogReplied { generation, outcome: Err(failure()) })
            }
            // The event loop's own: it ends.
            Command::Exit(_) => None,
        }
    }

    /// Reaps whatever has died.
    pub fn reap(&mut self) -> Vec<Reaped> {
        self.children.reap()
    }

    /// Kills and reaps what is left at the end.
    pub fn end_survivors(&mut self, limit: std::time::Duration) {
        self.children.end_survivors(limit);
    }

    fn spawn(&mut self, role: Role) -> Result<i32, SpawnFailure> {
        let program = match (role, &self.consul) {
            (Role::Worker, _) => self.worker.clone(),
            (Role::Agent, Some(consul)) => agent_config::prepare(
                &consul.config.agent,
                &http_check_id(&consul.config.service),
            )
            .map_err(|error| {
                let dir = consul.config.agent.data_dir.display();
                SpawnFailure::Other(format!("the agent's configuration cannot be written to {dir}: {error}"))
            })?,
            (Role::Agent, None) => return Err(SpawnFailure::NotFound),
        };
        self.children.spawn(role, &program)
    }

    fn watch(&mut self, role: Role, generation: Generation) {
        let Some(consul) = &self.consul else { return };
        let events = self.events.clone();
        let task = match role {
            Role::Agent => {
                let node = consul.config.agent.node_name.clone();
                let node_id = identity::node_id(&node);
                tokio::spawn(readiness::run(
                    consul.client.clone(),
                    Identity { node, node_id },
                    generation,
                    events,
                ))
            }
            Role::Worker => {
                let probe: Probe = consul.config.probe.clone();
                tokio::spawn(probe::http::run(consul.probe_client.clone(), probe, generation, events))
            }
        };
        self.replace_watch(role, Some(task.abort_handle()));
    }

    fn replace_watch(&mut self, role: Role, task: Option<AbortHandle>) {
        let place = match role {
            Role::Agent => &mut self.agent_watch,
            Role::Worker => &mut self.worker_watch,
        };
        if let Some(earlier) = std::mem::replace(place, task) {
            earlier.abort();
        }
    }
}

impl Consul {
    fn new(config: Catalog, events: &mpsc::Sender<Event>) -> Result<Self, String> {
        let client = ApiClient::new(&config.agent)?;
        let entry = Entry {
            service: config.service.clone(),
            check: config.check.clone(),
            node: config.agent.node_name.clone(),
        };
        // One place: the policy never has more than one request in flight.
        let (requests, received) = mpsc::channel(1);
        tokio::spawn(catalog::run(client.clone(), entry, received, events.clone()));
        Ok(Self { config, client, probe_client: probe::http::client()?, requests })
    }
}
