//! Every setting there is: one table, from which the command line, the environment's names and the file's keys come.

/// What a value looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// One value.
    One,
    /// Several, separated by commas or given several times; an array in the file.
    List,
    /// Several `name=value`, likewise; a table in the file.
    Map,
}

/// One setting.
#[derive(Clone, Copy, Debug)]
pub struct Key {
    /// Its place in the file: `section.key`, or `key` at the top.
    pub path: &'static str,
    /// Its flag, without the dashes. The variable is `SUPERVISOR_` and this in capitals.
    pub flag: &'static str,
    /// What the value looks like.
    pub kind: Kind,
    /// The value's name in the help text.
    pub placeholder: &'static str,
    /// The value when nothing is said; `None` where that depends.
    pub default: Option<&'static str>,
    /// One line for the help text.
    pub help: &'static str,
}

impl Key {
    /// The environment variable's name.
    pub fn variable(&self) -> String {
        format!("SUPERVISOR_{}", self.flag.to_uppercase().replace('-', "_"))
    }

    /// The section of the file, and of the help text.
    pub fn section(&self) -> Option<&'static str> {
        self.path.split_once('.').map(|(section, _)| section)
    }
}

/// The key at `path`, if there is one.
pub fn find(path: &str) -> Option<&'static Key> {
    KEYS.iter().find(|key| key.path == path)
}

const fn one(
    path: &'static str,
    flag: &'static str,
    placeholder: &'static str,
    default: Option<&'static str>,
    help: &'static str,
) -> Key {
    Key { path, flag, kind: Kind::One, placeholder, default, help }
}

const fn list(path: &'static str, flag: &'static str, placeholder: &'static str, help: &'static str) -> Key {
    Key { path, flag, kind: Kind::List, placeholder, default: None, help }
}

/// All settings, in the order of the help text.
#[rustfmt::skip]
pub const KEYS: &[Key] = &[
    one("stop-timeout", "stop-timeout", "DURATION", Some("9s"), "Everything from the request to stop to the exit fits in this; keep it under the orchestrator's limit (Docker: 10 s)"),
    one("drain-window", "drain-window", "DURATION", Some("1s"), "How long the worker goes on serving once the instance is out of rotation"),
    one("start-timeout", "start-timeout", "DURATION", Some("never"), "Give up (exit 69) unless the instance is passing by then"),
    one("control-socket", "control-socket", "PATH", Some("/run/pilotlight/supervisor.sock"), "The Unix socket of `supervisor status`"),
    one("advertise", "advertise", "ADDRESS", None, "Address of this instance: an IP, an interface's name or a CIDR to choose among several; by default that of the default route"),

    one("agent.mode", "agent", "MODE", Some("child"), "child: run a Consul agent beside the worker; none: be a plain init"),
    one("agent.bin", "agent-bin", "FILE", Some("consul"), "The Consul program, searched on PATH"),
    one("agent.data-dir", "agent-data-dir", "DIR", Some("/var/lib/pilotlight/consul"), "Where the agent keeps its state; made if missing"),
    one("agent.config-dir", "agent-config-dir", "DIR", None, "Further configuration files for the agent"),
    one("agent.node-name", "agent-node-name", "NAME", None, "The node's name in the catalog; by default the hostname"),
    list("agent.retry-join", "agent-retry-join", "ADDRESS", "A Consul server to join, tried again until it answers; may be given several times"),
    one("agent.datacenter", "agent-datacenter", "NAME", None, "The Consul datacenter; by default Consul's own (dc1)"),
    one("agent.encrypt-file", "agent-encrypt-file", "FILE", None, "A file that holds the gossip key"),
    one("agent.http-addr", "agent-http-addr", "ADDRESS", Some("127.0.0.1:8500"), "Where the agent serves its API: HOST:PORT or unix:///PATH"),
    one("agent.serf-port", "agent-serf-port", "PORT", Some("8301"), "The agent's gossip port"),
    one("agent.dns-port", "agent-dns-port", "PORT", Some("off"), "The port of the agent's DNS on loopback, or off"),
    one("agent.log-level", "agent-log-level", "LEVEL", Some("warn"), "What the agent logs: trace, debug, info, warn, err"),
    one("agent.leave-timeout", "agent-leave-timeout", "DURATION", Some("4300ms"), "The part of the stop timeout in which the agent leaves the cluster (about 4 s)"),

    one("service.name", "service-name", "NAME", None, "The service's whole name; otherwise it is put together as MODEL-TASK-ENV-VERSION"),
    one("service.model", "service-model", "NAME", None, "The model's name"),
    one("service.task", "service-task", "NAME", None, "What the model does, such as ner"),
    one("service.env", "service-env", "NAME", None, "The environment, such as prod"),
    one("service.version", "service-version", "VERSION", None, "The model's version, such as v2.6"),
    one("service.id", "service-id", "ID", None, "The instance's id; by default NAME-NODE-PORT, stable over restarts"),
    one("service.address", "service-address", "ADDRESS", None, "The address that clients should use, where it is not the advertised one"),
    one("service.port", "service-port", "PORT", Some("8000"), "The worker's port"),
    list("service.tags", "service-tag", "TAG", "A tag of the catalog entry, such as canary; may be given several times"),
    Key { path: "service.meta", flag: "service-meta", kind: Kind::Map, placeholder: "NAME=VALUE", default: None, help: "Metadata of the catalog entry; may be given several times" },
    one("service.weight-passing", "service-weight-passing", "N", Some("1"), "Weight in DNS answers while passing"),
    one("service.weight-warning", "service-weight-warning", "N", Some("1"), "Weight in DNS answers while degraded"),

    one("check.path", "check-path", "PATH", Some("/health"), "What is asked of the worker: by the supervisor's probe and by Consul's HTTP check"),
    one("check.interval", "check-interval", "DURATION", Some("10s"), "How often Consul itself asks the worker"),
    one("check.timeout", "check-timeout", "DURATION", Some("5s"), "How long Consul waits for the worker's answer"),
    one("check.ttl", "check-ttl", "DURATION", Some("15s"), "The instance leaves rotation when the supervisor has been silent for so long"),
    one("check.deregister-critical-after", "check-deregister-critical-after", "DURATION", Some("1m"), "Consul removes the entry when it has been critical for so long (Consul's minimum: 1m)"),

    list("worker.command", "worker-command", "WORD", "The worker and its arguments, where they do not follow `--`"),
    one("worker.model", "worker-model", "DIR", None, "Without a worker command: run model-runtime with this model directory"),
    one("worker.probe-interval", "worker-probe-interval", "DURATION", Some("2s"), "How often the supervisor asks the worker"),
    one("worker.probe-timeout", "worker-probe-timeout", "DURATION", Some("2s"), "How long the supervisor waits for the worker's answer"),
    one("worker.failure-threshold", "worker-failure-threshold", "N", Some("2"), "Unanswered probes in a row until the worker counts as failed; an answer that says so counts at once"),

    one("restart.policy", "restart-policy", "POLICY", None, "When the worker is restarted: on-failure, always or never; by default on-failure with an agent, never without"),
    one("restart.limit", "restart-limit", "N", Some("5"), "How many restarts within the window; then the instance stops with the worker's status"),
    one("restart.window", "restart-window", "DURATION", Some("5m"), "The window of the limit"),
    one("restart.backoff-min", "restart-backoff-min", "DURATION", Some("200ms"), "The first delay; doubled each time"),
    one("restart.backoff-max", "restart-backoff-max", "DURATION", Some("30s"), "The longest delay"),
    one("restart.stable-after", "restart-stable-after", "DURATION", Some("30s"), "A run this long was a good one: the delay starts over"),

    one("log.format", "log-format", "FORMAT", Some("text"), "text or json"),
    one("log.level", "log-level", "LEVEL", Some("info"), "error, warn, info, debug or trace"),
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    const DOCUMENTATION: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/settings.md");

    fn documentation() -> String {
        let mut text = "# Settings of `supervisor run`\n\n\
            Made from the table in `supervisor/src/config/keys.rs`; a test compares them (`PILOTLIGHT_UPDATE_DOCS=1` rewrites this file).\n\n\
            Flag beats environment beats file beats default. The file is TOML: `section.key` is the key in its `[section]`. Lists are\n\
            comma-separated in a variable, repeated as a flag, an array in the file; `service.meta` is a table there. An empty value is no\n\
            value. Durations have units: `500ms`, `9s`, `1m 30s`. Unknown keys and variables are errors. `CONSUL_HTTP_ADDR` stands for\n\
            `agent.http-addr`, and `CONSUL_HTTP_TOKEN` is the token for the agent's API; neither token reaches the children.\n\n\
            | Key | Flag | Variable | Default | Meaning |\n|---|---|---|---|---|\n"
            .to_owned();
        for key in KEYS {
            let default = key.default.map_or("–".to_owned(), |default| format!("`{default}`"));
            let (path, flag, placeholder, variable, help) =
                (key.path, key.flag, key.placeholder, key.variable(), key.help.replace('|', "\\|"));
            text.push_str(&format!(
                "| `{path}` | `--{flag} {placeholder}` | `{variable}` | {default} | {help} |\n"
            ));
        }
        text
    }

    #[test]
    fn the_documentation_has_every_setting() {
        if std::env::var_os("PILOTLIGHT_UPDATE_DOCS").is_some() {
            std::fs::write(DOCUMENTATION, documentation()).expect("written");
        }
        let written = std::fs::read_to_string(DOCUMENTATION).expect("docs/settings.md");
        assert_eq!(written, documentation(), "run this test with PILOTLIGHT_UPDATE_DOCS=1");
    }

    #[test]
    fn paths_and_flags_are_unique() {
        assert_eq!(KEYS.iter().map(|key| key.path).collect::<BTreeSet<_>>().len(), KEYS.len());
        assert_eq!(KEYS.iter().map(|key| key.flag).collect::<BTreeSet<_>>().len(), KEYS.len());
    }

    #[test]
    fn the_variable_follows_the_flag() {
        assert_eq!(find("agent.mode").map(Key::variable).as_deref(), Some("SUPERVISOR_AGENT"));
        assert_eq!(find("check.deregister-critical-after").map(Key::section), Some(Some("check")));
    }
}
