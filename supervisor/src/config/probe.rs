//! How the worker is asked whether it is ready, and whether it is alive.

use std::ffi::OsString;
use std::net::IpAddr;
use std::path::PathBuf;

use super::address;
use super::settings::{Ask, CheckTarget, Probe};
use super::values::Values;
use super::worker::{find, secrets};
use crate::os::spawn::Program;

/// Our own probes, and what Consul itself asks: the same where it can, and otherwise whether the port takes connections.
pub(super) fn probe(values: &mut Values<'_>, address: IpAddr, port: u16) -> (Probe, CheckTarget) {
    let path = values.text("check.path").unwrap_or_default();
    if !path.starts_with('/') {
        values.wrong("check.path", "a path that begins with /");
    }
    let worker = Worker { address, port };
    let readiness = match values.text("worker.readiness").as_deref() {
        None | Some("http") => Ask::Http(worker.url(&path)),
        Some(text) => ask(values, &worker, "worker.readiness", text, "http"),
    };
    let liveness = match values.text("worker.liveness").as_deref() {
        None | Some("off") => None,
        Some(text) => Some(ask(values, &worker, "worker.liveness", text, "a path that begins with /, off")),
    };
    let target = match &readiness {
        Ask::Http(url) => CheckTarget::Http(url.clone()),
        Ask::Tcp { .. } | Ask::Exec(_) => {
            CheckTarget::Tcp(format!("{}:{port}", address::in_url(&address.to_string())))
        }
    };
    let probe = Probe {
        readiness,
        liveness,
        interval: values.positive_duration("worker.probe-interval"),
        timeout: values.positive_duration("worker.probe-timeout"),
    };
    (probe, target)
}

/// Where the worker listens.
struct Worker {
    address: IpAddr,
    port: u16,
}

impl Worker {
    fn url(&self, path: &str) -> String {
        format!("http://{}:{}{path}", address::in_url(&self.address.to_string()), self.port)
    }
}

/// A probe as it is written: `/PATH` (for liveness), `tcp`, `tcp:PORT` or `exec:COMMAND ARGS`.
fn ask(values: &mut Values<'_>, worker: &Worker, key: &str, text: &str, besides: &str) -> Ask {
    let (kind, rest) = text.split_once(':').map_or((text, None), |(kind, rest)| (kind, Some(rest)));
    let tcp = |port| Ask::Tcp { address: worker.address, port };
    match (kind, rest) {
        (path, _) if path.starts_with('/') && key == "worker.liveness" => return Ask::Http(worker.url(text)),
        ("tcp", None) => return tcp(worker.port),
        ("tcp", Some(port)) => {
            if let Some(port) = port.parse().ok().filter(|port| *port != 0) {
                return tcp(port);
            }
        }
        ("exec", Some(command)) => match exec(command) {
            Ok(program) => return Ask::Exec(program),
            Err(expected) => {
                values.wrong(key, &expected);
                return tcp(worker.port);
            }
        },
        _ => {}
    }
    values.wrong(key, &format!("{besides}, tcp, tcp:PORT, or exec:COMMAND ARGS (quoted as for a shell)"));
    tcp(worker.port)
}

fn exec(command: &str) -> Result<Program, String> {
    let words = shell_words::split(command).map_err(|_| "a command whose quotes are closed".to_owned())?;
    let mut words = words.into_iter();
    let name = words.next().ok_or_else(|| "a command after exec:".to_owned())?;
    let path: PathBuf = find(name.as_ref())
        .map_err(|_| format!("a command that is there and may be executed, which {name} is not"))?;
    Ok(Program {
        path,
        arguments: words.map(OsString::from).collect(),
        hidden_variables: secrets(),
        variables: Vec::new(),
        stdin: false,
        foreground: false,
        user: None,
    })
}
