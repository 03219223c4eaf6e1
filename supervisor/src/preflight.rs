//! What can be known before anything is started: so that a mistake gives one clear message and no half-started children.

use std::ffi::OsStr;
use std::io::{ErrorKind, Read};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, UdpSocket};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use lifecycle::AgentMode;

use crate::config::{Api, Catalog, Config};
use crate::os::spawn::Program;

/// The kernel reads no further (execve(2)).
const INTERPRETER_LINE_MAX: u64 = 255;

/// Why nothing was started.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// The worker's program is not there.
    #[error("worker {0}: not found; give its path, or install it on PATH")]
    WorkerNotFound(String),
    /// The worker is a script, and what it is written for is not there.
    #[error(
        "worker {script}: its first line wants {interpreter}, which is not there; install it, or mend that line (a line end of Windows counts as part of the name)"
    )]
    NoInterpreter {
        /// The worker.
        script: String,
        /// What its first line names.
        interpreter: String,
    },
    /// The worker's program may not be executed.
    #[error(
        "worker {0}: may not be executed; check its mode (chmod +x) and that the file system is not mounted noexec"
    )]
    WorkerNotExecutable(String),
    /// These ports are taken.
    #[error("{}", .0.join("\n"))]
    PortsInUse(Vec<String>),
}

impl Refusal {
    /// The exit status: 127 and 126 as shells have them, 2 for everything that the configuration can cure.
    pub fn exit_status(&self) -> u8 {
        match self {
            Self::WorkerNotFound(_) | Self::NoInterpreter { .. } => 127,
            Self::WorkerNotExecutable(_) => 126,
            Self::PortsInUse(_) => 2,
        }
    }
}

/// Looks for what would make a start fail.
///
/// # Errors
/// See [`Refusal`].
pub fn check(config: &Config) -> Result<(), Refusal> {
    worker(&config.worker)?;
    let taken: Vec<String> =
        config.catalog.iter().flat_map(ports_in_use).chain(config.metrics.and_then(no_metrics_at)).collect();
    if taken.is_empty() { Ok(()) } else { Err(Refusal::PortsInUse(taken)) }
}

/// Whether the worker's program is there and may be executed: the one look that means the same beside a running instance.
///
/// # Errors
/// See [`Refusal`].
pub fn worker(program: &Program) -> Result<(), Refusal> {
    let name = program.path.display().to_string();
    match program.path.metadata() {
        Ok(file) if file.is_file() && file.permissions().mode() & 0o111 != 0 => {
            match interpreter(&program.path).filter(|interpreter| !interpreter.exists()) {
                Some(missing) => {
                    Err(Refusal::NoInterpreter { script: name, interpreter: format!("{missing:?}") })
                }
                None => Ok(()),
            }
        }
        Ok(_) => Err(Refusal::WorkerNotExecutable(name)),
        Err(error) if error.kind() == ErrorKind::PermissionDenied => Err(Refusal::WorkerNotExecutable(name)),
        Err(_) => Err(Refusal::WorkerNotFound(name)),
    }
}

/// What a script's first line names (execve(2), "Interpreter scripts"); the kernel says of a missing one only that there is no such file.
fn interpreter(script: &Path) -> Option<PathBuf> {
    let mut head = Vec::new();
    std::fs::File::open(script).ok()?.take(INTERPRETER_LINE_MAX).read_to_end(&mut head).ok()?;
    let line = head.strip_prefix(b"#!")?.split(|byte| *byte == b'\n').next()?.trim_ascii_start();
    let name = line.split(|byte| matches!(byte, b' ' | b'\t')).next()?;
    (!name.is_empty()).then(|| PathBuf::from(OsStr::from_bytes(name)))
}

/// A port that another process serves already would answer in our children's stead.
fn ports_in_use(catalog: &Catalog) -> Vec<String> {
    let agent = &catalog.agent;
    // A worker may listen on either family, or on both.
    let all: [IpAddr; 2] = [Ipv4Addr::UNSPECIFIED.into(), Ipv6Addr::UNSPECIFIED.into()];
    let worker = catalog.service.port;
    let taken = all.iter().any(|any| tcp_is_in_use(*any, worker));
    let mut wanted = vec![(taken, worker, "service.port", "the worker's")];
    if catalog.mode == AgentMode::Child {
        let taken = is_in_use(agent.address, agent.serf_port);
        wanted.push((taken, agent.serf_port, "agent.serf-port", "the agent's gossip"));
        if let Api::Tcp(address, port) = agent.api {
            wanted.push((tcp_is_in_use(address, port), port, "agent.http-addr", "the agent's API"));
        }
        if let Some(port) = agent.dns_port {
            let taken = is_in_use(Ipv4Addr::LOCALHOST.into(), port);
            wanted.push((taken, port, "agent.dns-port", "the agent's DNS"));
        }
    }
    let mut problems: Vec<String> = wanted
        .into_iter()
        .filter(|(taken, ..)| *taken)
        .map(|(_, port, key, whose)| {
            format!("{key}: {whose} port {port} is in use by another process; stop that one, or choose another port with --{}", flag(key))
        })
        .collect();
    if let Err(error) = TcpListener::bind((agent.address, 0))
        && error.kind() == ErrorKind::AddrNotAvailable
    {
        problems.push(format!(
            "advertise: {} is not an address of this host; --advertise takes one that is",
            agent.address
        ));
    }
    problems
}

/// Why the metrics cannot be served there.
fn no_metrics_at(address: SocketAddr) -> Option<String> {
    let error = TcpListener::bind(address).err()?;
    let cure = "choose another with --metrics-addr IP:PORT (port 0: any free one), or off";
    Some(match error.kind() {
        ErrorKind::AddrInUse => format!(
            "metrics.addr: the metrics' port {} is in use by another process; stop that one, or {cure}",
            address.port()
        ),
        ErrorKind::AddrNotAvailable => {
            format!("metrics.addr: {} is not an address of this host; {cure}", address.ip())
        }
        _ => format!("metrics.addr: {address} cannot be listened on: {error}; {cure}"),
    })
}

fn flag(key: &str) -> &str {
    crate::config::keys::find(key).map_or(key, |key| key.flag)
}

/// Gossip and DNS use both protocols.
fn is_in_use(address: IpAddr, port: u16) -> bool {
    tcp_is_in_use(address, port) || UdpSocket::bind((address, port)).is_err_and(is_taken)
}

fn tcp_is_in_use(address: IpAddr, port: u16) -> bool {
    TcpListener::bind((address, port)).is_err_and(is_taken)
}

/// Where there is no IPv6 the error is another one.
fn is_taken(error: std::io::Error) -> bool {
    error.kind() == ErrorKind::AddrInUse
}
