//! The agent, the entry and its checks.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use lifecycle::AgentMode;

use super::probe::probe;
use super::problem::Problem;
use super::settings::{Agent, Api, Catalog, Check, Secret, Service};
use super::values::Values;
use super::{access, address, folders, gpu, identity, version};

/// Consul raises a shorter time to this one (its documentation on checks, `DeregisterCriticalServiceAfter`).
const LEAST_DEREGISTER_AFTER: Duration = Duration::from_secs(60);
/// Consul's limits of a service's metadata (its documentation on services): pairs, and bytes of a value.
const META_PAIRS: usize = 64;
const META_VALUE: usize = 512;
const META_KEY: usize = 128;

pub(super) fn catalog(values: &mut Values<'_>, mode: AgentMode) -> Catalog {
    let address = match address::advertised(values.text("advertise").as_deref()) {
        Ok(address) => address,
        Err(reason) => {
            values.wrong("advertise", &reason);
            std::net::Ipv4Addr::LOCALHOST.into()
        }
    };
    let agent = agent(values, address, mode);
    let service = service(values, &agent);
    let (probe, target) = probe(values, address, service.port);
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
        mode,
        agent,
        service,
        check: Check {
            target,
            interval,
            timeout: values.positive_duration("check.timeout"),
            ttl,
            deregister_after,
        },
        probe,
    }
}

fn agent(values: &mut Values<'_>, address: IpAddr, mode: AgentMode) -> Agent {
    let ours = mode == AgentMode::Child;
    let bin = values.text("agent.bin").unwrap_or_default();
    let bin = which::which(&bin).unwrap_or_else(|_| {
        if !ours {
            return PathBuf::new();
        }
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
    if let (false, Err(expected)) = (node_name.is_empty(), identity::node_name(&node_name)) {
        let place = values.place("agent.node-name");
        values.problems.push(Problem::new("agent.node-name", &node_name, place, &expected));
    }
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
    if ours && let Err(error) = folders::writable(&data_dir) {
        values.wrong(
            "agent.data-dir",
            &format!("a folder that can be made and written to ({error}); mount one, or choose another"),
        );
    }
    let api = access::api(values, ours);
    if ours
        && let Api::Unix(path) = &api
        && let Err(expected) = folders::socket_folder(path)
    {
        values.wrong("agent.http-addr", &expected);
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
        api,
        serf_port: values.port("agent.serf-port"),
        dns_port,
        log_level: log_level(values),
        access: access::access(values, ours),
        own_token_file: access::secret_file(values, "agent.own-token-file"),
        tls: access::cluster_tls(values),
    }
}

/// One of Consul's own words (its documentation on agent configuration, `log_level`).
fn log_level(values: &mut Values<'_>) -> String {
    let levels = ["trace", "debug", "info", "warn", "err"].map(|level| (level, level));
    values.choice("agent.log-level", &levels).unwrap_or_default().to_owned()
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
    let pytorch = values.text("service.pytorch-version").or_else(|| std::env::var("PYTORCH_VERSION").ok());
    let config = values.text("service.config-version").unwrap_or_else(|| version::of(values));
    for (key, value) in [("pytorch_version", pytorch), ("config_version", Some(config))] {
        if let Some(value) = value.filter(|value| !value.is_empty() && value.len() <= META_VALUE) {
            meta.insert(key.to_owned(), value);
        }
    }
    for pair in values.list("service.meta") {
        match pair.split_once('=') {
            Some((key, value)) if is_meta(key, value) => {
                meta.insert(key.to_owned(), value.to_owned());
            }
            _ => values.wrong("service.meta", "pairs NAME=VALUE: a name of letters, digits, - and _ that does not begin with consul-, at most 128, and a value of at most 512 bytes"),
        }
    }
    // The metrics' port and path are added where they are served.
    let metrics_pairs = 2 * usize::from(values.text("metrics.addr").as_deref() != Some("off"));
    if meta.len() + gpu::META_PAIRS + metrics_pairs > META_PAIRS {
        let expected =
            "at most 64 pairs, those of the parts, the devices, the versions and the metrics included";
        values.wrong("service.meta", expected);
    }
    let id = values.text("service.id").unwrap_or_else(|| format!("{name}-{}-{port}", agent.node_name));
    if id.contains(['/', '?', '#', '%']) || id.chars().any(char::is_whitespace) {
        values.wrong("service.id", "an id without blanks and without / ? # %");
    }
    let address = values.text("service.address");
    if let Some(Err(expected)) = address.as_deref().map(identity::host) {
        values.wrong("service.address", &expected);
    }
    Service {
        name,
        id,
        address: address.unwrap_or_else(|| agent.address.to_string()),
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

pub(super) fn hostname() -> Option<String> {
    nix::unistd::gethostname().ok()?.into_string().ok().filter(|name| !name.is_empty())
}
