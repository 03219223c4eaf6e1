//! The validated configuration.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use lifecycle::backoff::Backoff;
use lifecycle::{Policy, RestartPolicy, RestartWhen, StopBudget};

use super::problem::Problem;
use super::sources::{Place, Sources};
use super::values::Values;
use super::{address, identity};
use crate::os::children::Program;

/// To tell the catalog that the instance is critical: an update takes 4 ms, so this is a limit for bad days.
const OUT_OF_ROTATION: Duration = Duration::from_millis(500);
/// To remove the entry and see it gone: 4 ms on good days.
const DEREGISTER: Duration = Duration::from_secs(1);
/// For the kernel to hand over a killed process.
const REAP: Duration = Duration::from_millis(100);
/// The least that a worker needs to finish what it does.
const LEAST_WORKER_GRACE: Duration = Duration::from_millis(100);
/// Consul raises a shorter time to this one (its documentation on checks, `DeregisterCriticalServiceAfter`).
const LEAST_DEREGISTER_AFTER: Duration = Duration::from_secs(60);
/// Consul's limits of a service's metadata (its documentation on services): pairs, and bytes of a value.
const META_PAIRS: usize = 64;
const META_VALUE: usize = 512;
const META_KEY: usize = 128;

/// Everything that `supervisor run` needs to know, checked.
#[derive(Clone, Debug)]
pub struct Config {
    /// The timings and limits of the policy.
    pub policy: Policy,
    /// The whole stop budget.
    pub stop_timeout: Duration,
    /// What to run.
    pub worker: Program,
    /// The agent and the entry; `None` for a plain init.
    pub catalog: Option<Catalog>,
    /// Where `status` asks.
    pub control_socket: PathBuf,
    /// How the supervisor itself logs.
    pub logging: Logging,
}

/// All that has to do with Consul.
#[derive(Clone, Debug)]
pub struct Catalog {
    /// The agent to run.
    pub agent: Agent,
    /// The entry.
    pub service: Service,
    /// Its two checks.
    pub check: Check,
    /// The supervisor's own probe of the worker.
    pub probe: Probe,
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
    /// The token for its API, if any. Never logged.
    pub token: Option<Secret>,
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
        }
    }
}

/// The catalog entry.
#[derive(Clone, Debug)]
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
#[derive(Clone, Debug)]
pub struct Check {
    /// What Consul asks.
    pub url: String,
    /// How often.
    pub interval: Duration,
    /// How long it waits for an answer.
    pub timeout: Duration,
    /// How long the supervisor may be silent.
    pub ttl: Duration,
    /// How long the entry may be critical.
    pub deregister_after: Duration,
}

/// The supervisor's own probe of the worker.
#[derive(Clone, Debug)]
pub struct Probe {
    /// What is asked.
    pub url: String,
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

impl Config {
    /// Puts the configuration together.
    ///
    /// # Errors
    /// All problems at once, those in `problems` already included.
    pub fn build(
        sources: &Sources,
        command: Vec<OsString>,
        mut problems: Vec<Problem>,
    ) -> Result<Self, Vec<Problem>> {
        let mut values = Values::new(sources, &mut problems);
        let with_agent = values.choice("agent.mode", &[("child", true), ("none", false)]).unwrap_or(true);
        let catalog = with_agent.then(|| catalog(&mut values));
        let config = Self {
            policy: policy(&mut values, with_agent),
            stop_timeout: values.duration("stop-timeout"),
            worker: worker(&mut values, command),
            catalog,
            control_socket: values.path("control-socket").unwrap_or_default(),
            logging: Logging {
                format: values
                    .choice("log.format", &[("text", LogFormat::Text), ("json", LogFormat::Json)])
                    .unwrap_or_default(),
                level: log_level(&mut values),
            },
        };
        if problems.is_empty() { Ok(config) } else { Err(problems) }
    }
}

fn log_level(values: &mut Values<'_>) -> tracing::level_filters::LevelFilter {
    use tracing::level_filters::LevelFilter as L;
    let levels =
        [("error", L::ERROR), ("warn", L::WARN), ("info", L::INFO), ("debug", L::DEBUG), ("trace", L::TRACE)];
    values.choice("log.level", &levels).unwrap_or(L::INFO)
}

fn policy(values: &mut Values<'_>, with_agent: bool) -> Policy {
    let seed = u64::from(std::process::id()) ^ hash(&hostname().unwrap_or_default());
    let backoff = Backoff {
        min: values.positive_duration("restart.backoff-min"),
        max: values.positive_duration("restart.backoff-max"),
        seed,
    };
    if backoff.min > backoff.max {
        values.wrong("restart.backoff-max", "a duration of at least restart.backoff-min");
    }
    let choices = [
        ("on-failure", RestartWhen::OnFailure),
        ("always", RestartWhen::Always),
        ("never", RestartWhen::Never),
    ];
    let default = if with_agent { RestartWhen::OnFailure } else { RestartWhen::Never };
    let worker_restart = RestartPolicy {
        when: values.choice("restart.policy", &choices).unwrap_or(default),
        backoff,
        stable_after: values.duration("restart.stable-after"),
        limit: values.number("restart.limit", 0, 1000),
        window: values.positive_duration("restart.window"),
    };
    // The agent is a means: it is always wanted, whatever the worker's policy says.
    let agent_restart = RestartPolicy { when: RestartWhen::Always, ..worker_restart.clone() };
    Policy {
        agent: with_agent,
        probe: with_agent,
        failure_threshold: values.number("worker.failure-threshold", 1, 100),
        worker_restart,
        agent_restart,
        catalog_retry: Backoff { min: Duration::from_millis(100), max: Duration::from_secs(5), seed },
        // Two may be lost before the TTL is over.
        heartbeat: values.duration("check.ttl") / 3,
        start_timeout: values.optional_duration("start-timeout", "never"),
        stop: stop_budget(values, with_agent),
    }
}

/// Divides the stop timeout: the catalog's and the agent's parts are fixed, the worker gets the rest.
fn stop_budget(values: &mut Values<'_>, with_agent: bool) -> StopBudget {
    let total = values.positive_duration("stop-timeout");
    let drain_window = values.duration("drain-window");
    let agent_leave = values.duration("agent.leave-timeout");
    let mut budget = if with_agent {
        StopBudget {
            out_of_rotation: OUT_OF_ROTATION,
            drain_window,
            deregister: DEREGISTER,
            worker_grace: Duration::ZERO,
            agent_leave,
            reap: REAP,
        }
    } else {
        StopBudget {
            out_of_rotation: Duration::ZERO,
            drain_window: Duration::ZERO,
            deregister: Duration::ZERO,
            worker_grace: Duration::ZERO,
            agent_leave: Duration::ZERO,
            reap: REAP,
        }
    };
    let others = budget.total();
    budget.worker_grace = total.saturating_sub(others);
    if !total.is_zero() && budget.worker_grace < LEAST_WORKER_GRACE {
        let show = humantime::format_duration;
        let parts = if with_agent {
            format!(
                "{} out of rotation + {} drain-window + {} deregistration + {} agent.leave-timeout + {} reaping",
                show(OUT_OF_ROTATION),
                show(drain_window),
                show(DEREGISTER),
                show(agent_leave),
                show(2 * REAP),
            )
        } else {
            format!("{} reaping", show(2 * REAP))
        };
        values.wrong(
            "stop-timeout",
            &format!(
                "more than {}: the steps of a stop take {parts} = {}, and the worker needs at least {} to finish; \
                 raise it, or lower drain-window",
                show(others), show(others), show(LEAST_WORKER_GRACE),
            ),
        );
    }
    budget
}

fn worker(values: &mut Values<'_>, command: Vec<OsString>) -> Program {
    let configured = values.list("worker.command");
    let model = values.path("worker.model");
    let (mut words, place) = if !command.is_empty() {
        (command, Place::CommandLine)
    } else if !configured.is_empty() {
        (configured.into_iter().map(OsString::from).collect(), values.place("worker.command"))
    } else if let Some(model) = model {
        if !model.is_dir() {
            values.wrong("worker.model", "an existing model directory (with model.pt in it)");
        }
        let listen = format!("0.0.0.0:{}", values.port("service.port"));
        let words = [
            "model-runtime".into(),
            "serve".into(),
            "--model".into(),
            model.into(),
            "--listen".into(),
            listen.into(),
        ];
        (words.to_vec(), values.place("worker.model"))
    } else {
        let expected =
            "a worker: `supervisor run -- COMMAND`, or worker.model (--worker-model DIR) for model-runtime";
        values.problems.push(Problem::missing("worker.command", expected));
        (vec![OsString::new()], Place::Default)
    };
    let name = words.remove(0);
    let path = match which::which(&name) {
        Ok(path) => path,
        Err(_) if place == Place::Default => PathBuf::new(),
        // Whether it is missing or may not be executed decides the exit status, so spawning it says which.
        Err(_) => PathBuf::from(&name),
    };
    Program { path, arguments: words, hidden_variables: secrets(), variables: Vec::new(), stdin: true }
}

/// The variables that hold secrets for us and are none of the children's business.
fn secrets() -> Vec<OsString> {
    ["CONSUL_HTTP_TOKEN", "CONSUL_HTTP_TOKEN_FILE"].map(OsString::from).to_vec()
}

fn catalog(values: &mut Values<'_>) -> Catalog {
    let address = match address::advertised(values.text("advertise").as_deref()) {
        Ok(address) => address,
        Err(reason) => {
            values.wrong("advertise", &reason);
            std::net::Ipv4Addr::LOCALHOST.into()
        }
    };
    let agent = agent(values, address);
    let service = service(values, &agent);
    let path = values.text("check.path").unwrap_or_default();
    if !path.starts_with('/') {
        values.wrong("check.path", "a path that begins with /");
    }
    let url = format!("http://{}:{}{path}", address::in_url(&address.to_string()), service.port);
    let ttl = values.duration("check.ttl");
    if ttl < Duration::from_secs(1) {
        values.wrong("check.ttl", "a duration of at least 1s");
    }
    let deregister_after = values.duration("check.deregister-critical-after");
    if deregister_after < LEAST_DEREGISTER_AFTER {
        values
            .wrong("check.deregister-critical-after", "a duration of at least 1m, which is Consul's minimum");
    }
    let interval = values.duration("check.interval");
    if interval < Duration::from_secs(1) {
        values.wrong("check.interval", "a duration of at least 1s, which is Consul's minimum");
    }
    Catalog {
        agent,
        service,
        check: Check {
            url: url.clone(),
            interval,
            timeout: values.positive_duration("check.timeout"),
            ttl,
            deregister_after,
        },
        probe: Probe {
            url,
            interval: values.positive_duration("worker.probe-interval"),
            timeout: values.positive_duration("worker.probe-timeout"),
        },
    }
}

fn agent(values: &mut Values<'_>, address: IpAddr) -> Agent {
    let bin = values.text("agent.bin").unwrap_or_default();
    let bin = which::which(&bin).unwrap_or_else(|_| {
        values.wrong(
            "agent.bin",
            "the Consul program, on PATH or with its path; install Consul, or use --agent none to run without it",
        );
        PathBuf::new()
    });
    let node_name = values.text("agent.node-name").or_else(hostname).unwrap_or_else(|| {
        values.problems.push(Problem::missing("agent.node-name", "a name, since this host has none"));
        String::new()
    });
    let encrypt = values.path("agent.encrypt-file").and_then(|path| match std::fs::read_to_string(path) {
        Ok(key) => Some(Secret(key.trim().to_owned())),
        Err(error) => {
            values.wrong("agent.encrypt-file", &format!("a readable file with the gossip key ({error})"));
            None
        }
    });
    let config_dir = values.path("agent.config-dir");
    if config_dir.as_ref().is_some_and(|dir| !dir.is_dir()) {
        values.wrong("agent.config-dir", "an existing folder");
    }
    let dns_port = if values.text("agent.dns-port").as_deref() == Some("off") {
        None
    } else {
        Some(values.port("agent.dns-port"))
    };
    let data_dir = values.path("agent.data-dir").unwrap_or_default();
    if let Err(error) = writable(&data_dir) {
        values.wrong(
            "agent.data-dir",
            &format!("a folder that can be made and written to ({error}); mount one, or choose another"),
        );
    }
    Agent {
        bin,
        data_dir,
        config_dir,
        node_name,
        address,
        retry_join: values.list("agent.retry-join"),
        datacenter: values.text("agent.datacenter"),
        encrypt,
        api: values.parse(
            "agent.http-addr",
            "HOST:PORT or unix:///PATH, with an IP or localhost as the host",
            api,
        ),
        serf_port: values.port("agent.serf-port"),
        dns_port,
        log_level: values.text("agent.log-level").unwrap_or_default(),
        token: std::env::var("CONSUL_HTTP_TOKEN").ok().filter(|token| !token.is_empty()).map(Secret),
    }
}

/// Makes the folder if it is missing, and proves that a file can be made in it.
fn writable(dir: &std::path::Path) -> std::io::Result<()> {
    std::fs::create_dir_all(dir)?;
    let probe = dir.join(format!(".writable-{}", std::process::id()));
    std::fs::write(&probe, b"")?;
    std::fs::remove_file(&probe)
}

/// `HOST:PORT`, `http://HOST:PORT` or `unix:///PATH`.
fn api(text: &str) -> Result<Api, &'static str> {
    if let Some(path) = text.strip_prefix("unix://") {
        // sun_path holds 108 bytes, the last of which is 0 (unix(7)).
        let fits = path.starts_with('/') && path.len() <= 107;
        return if fits {
            Ok(Api::Unix(path.into()))
        } else {
            Err("not an absolute path of at most 107 bytes")
        };
    }
    let text = text.strip_prefix("http://").unwrap_or(text).trim_end_matches('/');
    let text =
        text.strip_prefix("localhost").map_or_else(|| text.to_owned(), |port| format!("127.0.0.1{port}"));
    let address: std::net::SocketAddr = text.parse().map_err(|_| "not HOST:PORT")?;
    if address.port() == 0 { Err("port 0") } else { Ok(Api::Tcp(address.ip(), address.port())) }
}

fn service(values: &mut Values<'_>, agent: &Agent) -> Service {
    let parts =
        ["model", "task", "env", "version"].map(|part| (part, values.text(&format!("service.{part}"))));
    let (path, wanted) = match values.text("service.name") {
        Some(name) => ("service.name", name),
        None => {
            let given: Vec<&str> = parts.iter().filter_map(|(_, value)| value.as_deref()).collect();
            ("service.model", given.join("-"))
        }
    };
    let name = if wanted.is_empty() {
        let expected = "a name (--service-name), or its parts (--service-model, -task, -env, -version)";
        values.problems.push(Problem::missing("service.name", expected));
        String::new()
    } else {
        identity::service_name(&wanted).unwrap_or_else(|expected| {
            values.problems.push(Problem::new("service.name", &wanted, values.place(path), &expected));
            String::new()
        })
    };
    let port = values.port("service.port");
    let version = parts.iter().find(|(part, _)| *part == "version").and_then(|(_, value)| value.clone());
    let mut tags = values.list("service.tags");
    tags.extend(version.filter(|version| !tags.contains(version)));
    let mut meta: BTreeMap<String, String> =
        parts.into_iter().filter_map(|(part, value)| Some((part.to_owned(), value?))).collect();
    for pair in values.list("service.meta") {
        match pair.split_once('=') {
            Some((key, value)) if is_meta(key, value) => {
                meta.insert(key.to_owned(), value.to_owned());
            }
            _ => values.wrong("service.meta", "pairs NAME=VALUE: a name of letters, digits, - and _ that does not begin with consul-, at most 128, and a value of at most 512 bytes"),
        }
    }
    if meta.len() > META_PAIRS {
        values.wrong("service.meta", "at most 64 pairs");
    }
    let id = values.text("service.id").unwrap_or_else(|| format!("{name}-{}-{port}", agent.node_name));
    if id.contains(['/', '?', '#', '%']) || id.chars().any(char::is_whitespace) {
        values.wrong("service.id", "an id without blanks and without / ? # %");
    }
    Service {
        name,
        id,
        address: values.text("service.address").unwrap_or_else(|| agent.address.to_string()),
        port,
        tags,
        meta,
        weight_passing: values.number("service.weight-passing", 1, 65535),
        weight_warning: values.number("service.weight-warning", 0, 65535),
    }
}

/// What Consul takes as a service's metadata (its documentation on services).
fn is_meta(key: &str, value: &str) -> bool {
    (1..=META_KEY).contains(&key.len())
        && key.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_')
        && !key.starts_with("consul-")
        && value.len() <= META_VALUE
}

fn hostname() -> Option<String> {
    nix::unistd::gethostname().ok()?.into_string().ok().filter(|name| !name.is_empty())
}

/// FNV-1a (Fowler, Noll, Vo): enough to tell instances apart.
fn hash(text: &str) -> u64 {
    text.bytes()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}
