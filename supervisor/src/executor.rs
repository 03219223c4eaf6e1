//! From a command to the mechanism that does it. Nothing here waits.

use std::future::poll_fn;
use std::task::Poll;
use std::time::Duration;

use lifecycle::signal::{CONT, TSTP, TTIN, TTOU};
use lifecycle::{
    AgentMode, Command, Devices, EntryChange, Event, Exit, Failure, Generation, Role, SpawnFailure,
};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::AbortHandle;

use crate::config::{Catalog, Config, Probe, identity};
use crate::consul::agent_config;
use crate::consul::api_client::{ApiClient, http_check_id, ttl_check_id};
use crate::consul::catalog::{self, Asked, Entry};
use crate::consul::connection::Connection;
use crate::consul::credentials::{self, Credentials};
use crate::consul::entry_watch;
use crate::consul::readiness::{self, Identity};
use crate::consul::trouble::Names;
use crate::metrics::Metrics;
use crate::os::children::{Children, Reaped, Scope, Whose};
use crate::os::spawn::{Pipes, Program};
use crate::os::terminal;
use crate::output::Output;
use crate::probe::exec::Order;
use crate::probe::{self, Prober};

/// For the last lines of the children, where the reader of our output is slow. It comes on top of the stop timeout.
const LAST_LINES: Duration = Duration::from_millis(300);

/// What commands are carried out with.
#[derive(Debug)]
pub struct Executor {
    children: Children,
    output: Output,
    worker: Program,
    signal_scope: Scope,
    consul: Option<Consul>,
    events: mpsc::Sender<Event>,
    agent_watch: Watch,
    worker_watch: Watch,
    metrics: Metrics,
    orders: mpsc::Sender<Order>,
    /// The commands that ask the worker how it is, by pid, and who waits for them.
    commands: Vec<(i32, oneshot::Sender<Result<Exit, SpawnFailure>>)>,
}

/// Whoever looks after a process.
#[derive(Debug, Default)]
struct Watch {
    /// Which spawn of it is watched, if one is.
    generation: Option<Generation>,
    tasks: Vec<AbortHandle>,
}

/// What is needed only where there is an agent: a plain init never builds an HTTP client.
#[derive(Debug)]
struct Consul {
    config: Catalog,
    client: ApiClient,
    probe_client: reqwest::Client,
    requests: mpsc::Sender<Asked>,
    devices: watch::Sender<Option<Devices>>,
    /// What the agent's API is asked with, and the agent is configured with.
    connection: watch::Receiver<Connection>,
    /// The name of the agent's node, once it has said it.
    node: watch::Sender<Option<String>>,
    /// What the catalog task registers.
    entry: watch::Sender<Entry>,
}

impl Executor {
    /// Sets the mechanisms up. Needs a running tokio runtime.
    ///
    /// # Errors
    /// An HTTP client cannot be built, or orphans cannot be adopted.
    pub fn new(
        config: &Config,
        events: mpsc::Sender<Event>,
        orders: mpsc::Sender<Order>,
        metrics: &Metrics,
    ) -> Result<Self, String> {
        let children = Children::default();
        children.adopt_orphans().map_err(|error| format!("cannot become a child subreaper: {error}"))?;
        let output = Output::new(config.logging.children)
            .map_err(|error| format!("there is no pipe for the children's output: {error}"))?;
        let consul =
            config.catalog.clone().map(|config| Consul::new(config, &events, metrics)).transpose()?;
        Ok(Self {
            children,
            output,
            worker: config.worker.clone(),
            signal_scope: config.signal_scope,
            consul,
            events,
            agent_watch: Watch::default(),
            worker_watch: Watch::default(),
            metrics: metrics.clone(),
            orders,
            commands: Vec::new(),
        })
    }

    /// Carries a command out. What is known at once comes back as an event.
    pub fn run(&mut self, command: Command) -> Option<Event> {
        match command {
            Command::Spawn { role, kept_check_is_true, .. } => {
                Some(match self.spawn(role, kept_check_is_true) {
                    Ok(pid) => Event::Spawned { role, pid },
                    Err(failure) => Event::SpawnFailed { role, failure },
                })
            }
            Command::Signal { role, pid, signal } => {
                // KILL is never handed on: it is the last word to all of a group.
                let narrowly = role == Role::Worker && signal != lifecycle::signal::KILL;
                let scope = if narrowly { self.signal_scope } else { Scope::Group };
                self.children.signal(pid, signal, scope);
                None
            }
            Command::ReloadAgent { pid } => {
                self.reload_agent(pid);
                None
            }
            Command::Watch { role, generation } => {
                self.watch(role, generation);
                None
            }
            Command::Unwatch { role } => {
                self.replace_watch(role, Watch::default());
                None
            }
            Command::Catalog { generation, request, timeout } => {
                let asked = (generation, request, timeout);
                let sent = self.consul.as_ref().map(|consul| consul.requests.try_send(asked));
                // Cannot be: the policy has one request in flight, and the task outlives it. But a request must be answered.
                let failure = || Failure::Unreachable("the catalog task is gone".to_owned());
                (!matches!(sent, Some(Ok(()))))
                    .then(|| Event::CatalogReplied { generation, outcome: Err(failure()) })
            }
            Command::Describe(devices) => {
                self.consul
                    .iter()
                    .for_each(|consul| drop(consul.devices.send_replace(Some(devices.clone()))));
                None
            }
            // The event loop's own: it ends.
            Command::Exit(_) => None,
        }
    }

    /// Works with another configuration from now on: the next spawns, the probe of the worker, and what the entry is.
    pub fn reconfigure(&mut self, config: &Config) -> EntryChange {
        self.worker = config.worker.clone();
        self.signal_scope = config.signal_scope;
        let (Some(consul), Some(catalog)) = (&mut self.consul, &config.catalog) else {
            return EntryChange::Same;
        };
        let probed_otherwise = consul.config.probe != catalog.probe;
        consul.config = catalog.clone();
        let change = entry_change(&consul.entry, entry(catalog));
        // Those who watch hold on to what they were told at their beginning.
        for (role, changed, generation) in [
            (Role::Worker, probed_otherwise, self.worker_watch.generation),
            (Role::Agent, change == EntryChange::Changed, self.agent_watch.generation),
        ] {
            if let (true, Some(generation)) = (changed, generation) {
                self.watch(role, generation);
            }
        }
        change
    }

    /// Looks whether the worker was stopped, and does about it what a shell does about a job: one that wants the terminal gets it, and when
    /// the terminal's user suspends it, so are we, until somebody continues us.
    pub fn look_for_stopped_worker(&self) {
        let Some((worker, signal)) = self.children.stopped_worker() else { return };
        let wants_terminal = matches!(signal, TTIN | TTOU);
        if wants_terminal && terminal::give_to(worker) {
            self.children.signal(worker, CONT, Scope::Group);
        } else if wants_terminal || (signal == TSTP && terminal::is_held_by(worker)) {
            self.suspend();
        }
    }

    /// Stops this process. Whoever continues it does so by SIGCONT, which is handed on like any signal.
    pub fn suspend(&self) {
        let holder = self.children.worker().filter(|worker| terminal::is_held_by(*worker));
        terminal::suspend();
        if let Some(worker) = holder {
            terminal::give_to(worker);
        }
    }

    /// Starts a command that asks the worker how it is.
    pub fn start_command(&mut self, Order { program, pipes, reply }: Order) {
        match self.children.spawn(Whose::Probe, &program, Some(pipes)) {
            Ok(pid) => self.commands.push((pid, reply)),
            Err(failure) => {
                let _nobody_waits = reply.send(Err(failure));
            }
        }
    }

    /// Kills a command that nobody waits for any more, when there is one. Cancel-safe.
    pub async fn end_abandoned_command(&mut self) {
        let abandoned = poll_fn(|context| {
            let mut closed = |reply: &mut oneshot::Sender<_>| reply.poll_closed(context).is_ready();
            let mut commands = self.commands.iter_mut();
            commands.find_map(|(pid, reply)| closed(reply).then_some(*pid)).map_or(Poll::Pending, Poll::Ready)
        })
        .await;
        self.children.signal(abandoned, lifecycle::signal::KILL, Scope::Group);
        self.commands.retain(|(pid, _)| *pid != abandoned);
    }

    /// Reaps whatever has died, and tells those who wait for commands.
    pub fn reap(&mut self) -> Vec<Reaped> {
        let reaped = self.children.reap();
        for dead in reaped.iter().filter(|dead| dead.whose == Some(Whose::Probe)) {
            if let Some(at) = self.commands.iter().position(|(pid, _)| *pid == dead.pid) {
                let _nobody_waits = self.commands.swap_remove(at).1.send(Ok(dead.exit));
            }
        }
        reaped
    }

    /// Kills and reaps what is left at the end, and writes out what it has written.
    pub fn end_survivors(&mut self, limit: Duration) {
        self.children.end_survivors(limit);
        self.output.finish(LAST_LINES);
    }

    /// The agent reads its configuration and its certificates again at SIGHUP (Consul's documentation on reloading: ACL tokens and TLS).
    fn reload_agent(&mut self, pid: i32) {
        let Some(consul) = &self.consul else { return };
        let credentials = consul.connection.borrow().credentials.clone();
        match agent_config::write(&consul.config.agent, &credentials) {
            Ok(_) => self.children.signal(pid, lifecycle::signal::HUP, Scope::Child),
            Err(error) => {
                let dir = consul.config.agent.data_dir.display();
                tracing::warn!(%error, %dir, "the agent's configuration cannot be written: it keeps the earlier token");
            }
        }
    }

    fn spawn(&mut self, role: Role, kept_check_is_true: bool) -> Result<i32, SpawnFailure> {
        let program = match (role, &self.consul) {
            (Role::Worker, _) => self.worker.clone(),
            (Role::Agent, Some(consul)) => {
                let service = &consul.config.service;
                let ttl_check = (!kept_check_is_true).then(|| ttl_check_id(service));
                let forgotten: Vec<String> = [http_check_id(service)].into_iter().chain(ttl_check).collect();
                let credentials = consul.connection.borrow().credentials.clone();
                agent_config::prepare(&consul.config.agent, &credentials, &forgotten).map_err(|error| {
                    let dir = consul.config.agent.data_dir.display();
                    SpawnFailure::Other(format!(
                        "the agent's configuration cannot be written to {dir}: {error}"
                    ))
                })?
            }
            (Role::Agent, None) => return Err(SpawnFailure::NotFound),
        };
        let pipes = self.output.pipes(role).map_err(|error| {
            SpawnFailure::Other(format!("there is no pipe or thread for its output: {error}"))
        })?;
        let pipes = pipes.map(|(stdout, stderr)| Pipes { stdout, stderr });
        self.children.spawn(Whose::Process(role), &program, pipes)
    }

    fn watch(&mut self, role: Role, generation: Generation) {
        let Some(consul) = &self.consul else { return };
        let events = self.events.clone();
        let tasks = match role {
            Role::Agent => {
                let agent = &consul.config.agent;
                let node = agent.node_name.clone();
                let identity = match consul.config.mode {
                    AgentMode::Child => {
                        let node_id = identity::node_id(&node);
                        Identity::Ours { node, node_id, address: agent.address }
                    }
                    AgentMode::External | AgentMode::None => Identity::Any,
                };
                let service = consul.config.service.clone();
                let (client, node) = (consul.client.clone(), consul.node.clone());
                let of_entry =
                    entry_watch::run(client.clone(), service, node.subscribe(), generation, events.clone());
                vec![
                    tokio::spawn(readiness::run(client, identity, node, generation, events)),
                    tokio::spawn(of_entry),
                ]
            }
            Role::Worker => {
                let probe: Probe = consul.config.probe.clone();
                let liveness = probe.liveness.clone();
                let prober = Prober {
                    client: consul.probe_client.clone(),
                    orders: self.orders.clone(),
                    probe,
                    metrics: self.metrics.clone(),
                };
                let liveness = liveness
                    .map(|ask| tokio::spawn(prober.clone().run_liveness(ask, generation, events.clone())));
                let readiness = tokio::spawn(prober.run(generation, events));
                [readiness].into_iter().chain(liveness).collect()
            }
        };
        let tasks = tasks.iter().map(tokio::task::JoinHandle::abort_handle).collect();
        self.replace_watch(role, Watch { generation: Some(generation), tasks });
    }

    fn replace_watch(&mut self, role: Role, watch: Watch) {
        let place = match role {
            Role::Agent => &mut self.agent_watch,
            Role::Worker => &mut self.worker_watch,
        };
        for earlier in std::mem::replace(place, watch).tasks {
            earlier.abort();
        }
    }
}

/// What the configuration says of the entry.
fn entry(config: &Catalog) -> Entry {
    Entry { service: config.service.clone(), check: config.check.clone() }
}

/// Hands the entry to the catalog task. The policy decides when it is registered.
fn entry_change(current: &watch::Sender<Entry>, new: Entry) -> EntryChange {
    if *current.borrow() == new {
        return EntryChange::Same;
    }
    current.send_replace(new);
    EntryChange::Changed
}

impl Consul {
    fn new(config: Catalog, events: &mpsc::Sender<Event>, metrics: &Metrics) -> Result<Self, String> {
        let credentials = Credentials::read(&config.agent)?;
        let (current, connection) = watch::channel(Connection::new(&config.agent, credentials)?);
        let names = Names::new(&config.agent, config.mode == AgentMode::Child);
        let client = ApiClient::new(connection.clone(), names, metrics.clone());
        if credentials::can_change(&config.agent) {
            tokio::spawn(credentials::watch(config.agent.clone(), current, events.clone()));
        }
        let (entry, shown) = watch::channel(entry(&config));
        // One place: the policy never has more than one request in flight.
        let (requests, received) = mpsc::channel(1);
        let (devices, known) = watch::channel(None);
        let (node, at) = watch::channel(None);
        tokio::spawn(catalog::run(client.clone(), shown, known, at, received, events.clone()));
        let probe_client = probe::http::client()?;
        Ok(Self { config, client, probe_client, requests, devices, connection, node, entry })
    }
}
