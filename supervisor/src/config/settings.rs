//! The validated configuration.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use lifecycle::{AgentMode, Policy};

use super::address;
use super::gpu::Gpu;
use crate::os::children::Scope;
use crate::os::spawn::Program;

/// Everything that `supervisor run` needs to know, checked.
#[derive(Clone, Debug)]
pub struct Config {
    /// The timings and limits of the policy.
    pub policy: Policy,
    /// The whole stop budget.
    pub stop_timeout: Duration,
    /// What to run.
    pub worker: Program,
    /// Whom the signals to the worker reach.
    pub signal_scope: Scope,
    /// What this process gets when its parent dies, if anything.
    pub parent_death_signal: Option<u8>,
    /// The agent and the entry; `None` for a plain init.
    pub catalog: Option<Catalog>,
    /// The GPUs to watch; `None` where nobody looks: as a plain init, or because that is off.
    pub gpu: Option<Gpu>,
    /// Where `status` asks.
    pub control_socket: PathBuf,
    /// Whether somebody chose that place, and so counts on it. At the default place a plain init must also run where nothing can be
    /// written, as tini does.
    pub control_socket_chosen: bool,
    /// How the supervisor itself logs.
    pub logging: Logging,
    /// Where the metrics are served, if anywhere.
    pub metrics: Option<SocketAddr>,
}

/// All that has to do with Consul.
#[derive(Clone, Debug)]
pub struct Catalog {
    /// Whose agent it is: never [`AgentMode::None`].
    pub mode: AgentMode,
    /// The agent to run.
    pub agent: Agent,
    /// The entry.
    pub service: Service,
    /// Its two checks.
    pub check: Check,
    /// The supervisor's own probe of the worker.
    pub probe: Probe,
}

impl Catalog {
    /// Commands that ask the worker run as the worker does.
    pub(super) fn with_probes_of(mut self, worker: &Program) -> Self {
        let asks = [Some(&mut self.probe.readiness), self.probe.liveness.as_mut()];
        for ask in asks.into_iter().flatten() {
            if let Ask::Exec(command) = ask {
                command.user.clone_from(&worker.user);
                command.variables.clone_from(&worker.variables);
            }
        }
        self
    }
}

/// The Consul agent.
#[derive(Clone, Debug)]
pub struct Agent {
    /// The program.
    pub bin: PathBuf,
    /// Where it keeps its state.
    pub data_dir: PathBuf,
    /// Further configuration.
    pub config_dir: Option<PathBuf>,
    /// Its name in the catalog.
    pub node_name: String,
    /// The address that it uses and tells others.
    pub address: IpAddr,
    /// The servers.
    pub retry_join: Vec<String>,
    /// Its datacenter, if not Consul's default.
    pub datacenter: Option<String>,
    /// The gossip key, if any. Never logged.
    pub encrypt: Option<Secret>,
    /// Where it serves its API.
    pub api: Api,
    /// Its gossip port.
    pub serf_port: u16,
    /// Its DNS port, if any.
    pub dns_port: Option<u16>,
    /// What it logs.
    pub log_level: String,
    /// How its API is asked.
    pub access: Access,
    /// The file of the token that it uses itself, where that is another one.
    pub own_token_file: Option<PathBuf>,
    /// How it speaks with the servers.
    pub tls: ClusterTls,
}

/// How the agent's API is asked: whether we may, and how we know that it is the right one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Access {
    /// The token.
    pub token: Token,
    /// User and password of whatever stands before the API (`CONSUL_HTTP_AUTH`). Never logged.
    pub auth: Option<Secret>,
    /// The CAs that its certificate may be by, instead of the system's.
    pub ca_file: Option<PathBuf>,
    /// A folder of such.
    pub ca_path: Option<PathBuf>,
    /// Our certificate and its key, if it asks for one.
    pub certificate: Option<(PathBuf, PathBuf)>,
    /// The name that its certificate must be for, if not that of its address.
    pub server_name: Option<String>,
    /// Any certificate will do.
    pub unverified: bool,
}

/// Where the token for the agent's API comes from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Token {
    /// There is none.
    #[default]
    None,
    /// `CONSUL_HTTP_TOKEN`, which never changes. Never logged.
    Variable(Secret),
    /// A file, read again when it changes.
    File(PathBuf),
}

/// How the agent speaks with the servers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClusterTls {
    /// The CA that their certificates are by; without it there is no TLS.
    pub ca_file: Option<PathBuf>,
    /// The agent's certificate and its key.
    pub certificate: Option<(PathBuf, PathBuf)>,
    /// Or the servers give it one.
    pub auto_encrypt: bool,
    /// It speaks with servers of the CA only.
    pub verify_outgoing: bool,
    /// And only with those that their certificate calls servers.
    pub verify_server_hostname: bool,
    /// Whoever connects to it by TLS must have a certificate of the CA.
    pub verify_incoming: bool,
}

/// A value that must not be shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(pub String);

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("(hidden)")
    }
}

/// Where the agent serves its API.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Api {
    /// On this address and port.
    Tcp(IpAddr, u16),
    /// On this Unix socket.
    Unix(PathBuf),
    /// At a host's name, or by https: somebody else's agent.
    Url {
        /// By https.
        tls: bool,
        /// A name or an address.
        host: String,
        /// The port.
        port: u16,
    },
}

impl Default for Api {
    /// Consul's own default.
    fn default() -> Self {
        Self::Tcp(std::net::Ipv4Addr::LOCALHOST.into(), 8500)
    }
}

impl std::fmt::Display for Api {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Tcp(address, port) => write!(f, "http://{}:{port}", address::in_url(&address.to_string())),
            Self::Unix(path) => write!(f, "unix://{}", path.display()),
            Self::Url { tls, host, port } => {
                write!(f, "http{}://{}:{port}", if *tls { "s" } else { "" }, address::in_url(host))
            }
        }
    }
}

/// The catalog entry.
#[derive(Clone, Debug, PartialEq)]
pub struct Service {
    /// Its name, a DNS label.
    pub name: String,
    /// Its id.
    pub id: String,
    /// Where clients reach it.
    pub address: String,
    /// On which port.
    pub port: u16,
    /// Its tags.
    pub tags: Vec<String>,
    /// Its metadata.
    pub meta: BTreeMap<String, String>,
    /// Its weight in DNS answers while passing.
    pub weight_passing: u32,
    /// Its weight in DNS answers while degraded.
    pub weight_warning: u32,
}

/// The two checks of the entry.
#[derive(Clone, Debug, PartialEq)]
pub struct Check {
    /// What Consul asks.
    pub target: CheckTarget,
    /// How often.
    pub interval: Duration,
    /// How long it waits for an answer.
    pub timeout: Duration,
    /// How long the supervisor may be silent.
    pub ttl: Duration,
    /// How long the entry may be critical.
    pub deregister_after: Duration,
}

/// What Consul itself asks (its documentation on checks: HTTP and TCP).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CheckTarget {
    /// An answer from this URL.
    Http(String),
    /// Whether this `HOST:PORT` takes a connection.
    Tcp(String),
}

/// How the worker is asked something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ask {
    /// For an answer from this URL.
    Http(String),
    /// Whether this port takes a connection.
    Tcp {
        /// The advertised address.
        address: IpAddr,
        /// Which port.
        port: u16,
    },
    /// By a command, which says yes by exit status 0.
    Exec(Program),
}

/// The supervisor's own probes of the worker.
#[derive(Clone, Debug, PartialEq)]
pub struct Probe {
    /// What says that it is ready.
    pub readiness: Ask,
    /// What says that it is alive, if anything is asked.
    pub liveness: Option<Ask>,
    /// How often, once the worker is ready.
    pub interval: Duration,
    /// How long it waits for an answer.
    pub timeout: Duration,
}

/// How the supervisor itself logs.
#[derive(Clone, Debug)]
pub struct Logging {
    /// Its form.
    pub format: LogFormat,
    /// From which level on.
    pub level: tracing::level_filters::LevelFilter,
    /// What becomes of the children's lines.
    pub children: ChildrenOutput,
}

/// What becomes of the lines that children write.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ChildrenOutput {
    /// Children write to the container's standard output and error themselves.
    #[default]
    Untouched,
    /// Each line begins with who wrote it.
    Prefixed,
    /// Each line is wrapped in a JSON object.
    Json,
}

/// The form of log lines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

impl Catalog {
    /// Where others could reach the API of an agent of ours; `None` where they cannot.
    pub fn is_open(&self) -> Option<SocketAddr> {
        match self.agent.api {
            Api::Tcp(ip, port) if self.mode == AgentMode::Child && !ip.is_loopback() => {
                Some(SocketAddr::new(ip, port))
            }
            Api::Tcp(..) | Api::Unix(_) | Api::Url { .. } => None,
        }
    }
}

impl Config {
    /// Whether this process has secrets in its memory or its environment, used or not.
    pub fn holds_secrets(&self) -> bool {
        let in_environment = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
        let in_files = |agent: &Agent| {
            agent.encrypt.is_some()
                || agent.own_token_file.is_some()
                || agent.access.token != Token::None
                || agent.access.certificate.is_some()
        };
        super::shown::SECRETS.into_iter().any(in_environment)
            || self.catalog.as_ref().is_some_and(|catalog| in_files(&catalog.agent))
    }

    /// The same with metrics served at this address, and with a catalog entry that says so to Prometheus, where it can be reached at the
    /// service's address. What the entry says of the worker's own metrics is `model-runtime`'s, unless it is configured.
    #[must_use]
    pub fn with_metrics_at(mut self, address: SocketAddr) -> Self {
        self.metrics = Some(address);
        if let Some(Service { address: service, meta, .. }) =
            self.catalog.as_mut().map(|catalog| &mut catalog.service)
        {
            if address.ip().is_unspecified() || address.ip().to_string() == *service {
                meta.entry("metrics_port".to_owned()).or_insert_with(|| address.port().to_string());
            }
            if self.worker.path.file_name().is_some_and(|name| name == "model-runtime") {
                meta.entry("worker_metrics_path".to_owned()).or_insert_with(|| "/metrics".to_owned());
            }
        }
        self
    }
}
