//! Every setting there is: one table, from which the command line, the environment's names and the file's keys come.

use super::key::Applies::{AgentRestart, Now, WorkerRestart};
pub use super::key::{Applies, Key, Kind, Shape};

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
    Key::one(path, flag, placeholder, default, help)
}

const fn list(path: &'static str, flag: &'static str, placeholder: &'static str, help: &'static str) -> Key {
    Key::list(path, flag, placeholder, help)
}

/// All settings, in the order of the help text.
#[rustfmt::skip]
pub const KEYS: &[Key] = &[
    one("stop-timeout", "stop-timeout", "DURATION", Some("9s"), "Everything from the request to stop to the exit fits in this; keep it under the orchestrator's limit (Docker: 10 s)").applies(Now).common(),
    one("drain-window", "drain-window", "DURATION", Some("1s"), "How long the worker goes on serving once the instance is out of rotation").applies(Now).common(),
    one("start-timeout", "start-timeout", "DURATION", Some("never"), "Give up (exit 69) unless the instance is passing by then").applies(Now).or_word("never"),
    one("control-socket", "control-socket", "PATH", Some("/run/pilotlight/supervisor.sock"), "The Unix socket of `supervisor status`").common(),
    one("advertise", "advertise", "ADDRESS", None, "Address of this instance: an IP, an interface's name or a CIDR to choose among several; by default that of the default route").common(),

    one("agent.mode", "agent", "MODE", Some("child"), "child: run a Consul agent beside the worker; external: use one that runs already, at agent.http-addr; none: be a plain init").choices(&["child", "external", "none"]).common(),
    one("agent.bin", "agent-bin", "FILE", Some("consul"), "The Consul program, searched on PATH").applies(AgentRestart),
    one("agent.data-dir", "agent-data-dir", "DIR", Some("/var/lib/pilotlight/consul"), "Where the agent keeps its state; made if missing"),
    one("agent.config-dir", "agent-config-dir", "DIR", None, "Further configuration files for the agent").applies(AgentRestart),
    one("agent.node-name", "agent-node-name", "NAME", None, "The node's name in the catalog; by default the hostname"),
    list("agent.retry-join", "agent-retry-join", "ADDRESS", "A Consul server to join, tried again until it answers; may be given several times").applies(AgentRestart).common(),
    one("agent.datacenter", "agent-datacenter", "NAME", None, "The Consul datacenter; by default Consul's own (dc1)"),
    one("agent.encrypt-file", "agent-encrypt-file", "FILE", None, "A file that holds the gossip key").applies(AgentRestart),
    one("agent.http-addr", "agent-http-addr", "ADDRESS", Some("127.0.0.1:8500"), "Where the agent serves its API: HOST:PORT or unix:///PATH; with --agent external also http:// and https:// with a host's name").of_consul("CONSUL_HTTP_ADDR"),
    one("agent.serf-port", "agent-serf-port", "PORT", Some("8301"), "The agent's gossip port").applies(AgentRestart),
    one("agent.dns-port", "agent-dns-port", "PORT", Some("off"), "The port of the agent's DNS on loopback, or off").applies(AgentRestart).or_word("off"),
    one("agent.log-level", "agent-log-level", "LEVEL", Some("warn"), "What the agent logs: trace, debug, info, warn or err").applies(AgentRestart).choices(&["trace", "debug", "info", "warn", "err"]),
    one("agent.leave-timeout", "agent-leave-timeout", "DURATION", Some("4300ms"), "The part of the stop timeout in which the agent leaves the cluster (about 4 s)").applies(Now),

    one("agent.token-file", "agent-token-file", "FILE", None, "A file that holds the ACL token for the agent's API and, unless it has one of its own, for the agent; read again when it changes").of_consul("CONSUL_HTTP_TOKEN_FILE"),
    one("agent.own-token-file", "agent-own-token-file", "FILE", None, "A file that holds the ACL token with which the agent itself keeps its node in the catalog; by default that of agent.token-file; read again when it changes"),
    one("agent.ca-file", "agent-ca-file", "FILE", None, "The agent speaks TLS with the servers: the CA that their certificates are by; this and the two below are read again when they change"),
    one("agent.cert-file", "agent-cert-file", "FILE", None, "The agent's own certificate, for servers that ask for one"),
    one("agent.key-file", "agent-key-file", "FILE", None, "The key of agent.cert-file"),
    one("agent.auto-encrypt", "agent-auto-encrypt", "BOOL", Some("false"), "The agent gets its certificate from the servers (their auto_encrypt.allow_tls), so that agent.ca-file is enough").applies(AgentRestart),
    one("agent.verify-outgoing", "agent-verify-outgoing", "BOOL", None, "The agent speaks with servers of the CA only; by default true where there is agent.ca-file").applies(AgentRestart),
    one("agent.verify-server-hostname", "agent-verify-server-hostname", "BOOL", None, "And only with those whose certificate is for server.DATACENTER.consul; by default true where there is agent.ca-file").applies(AgentRestart),
    one("agent.verify-incoming", "agent-verify-incoming", "BOOL", None, "Whoever connects to the agent by TLS needs a certificate of the CA; by default true where there is agent.cert-file or agent.auto-encrypt").applies(AgentRestart),
    one("agent.http-ssl", "agent-http-ssl", "BOOL", Some("false"), "With --agent external: its API is asked over https whatever agent.http-addr says").of_consul("CONSUL_HTTP_SSL"),
    one("agent.http-ca-file", "agent-http-ca-file", "FILE", None, "With --agent external and https: the CA that its certificate is by, instead of the system's; this and the three below are read again when they change").of_consul("CONSUL_CACERT"),
    one("agent.http-ca-path", "agent-http-ca-path", "DIR", None, "The same: a folder of such CAs").of_consul("CONSUL_CAPATH"),
    one("agent.http-cert-file", "agent-http-cert-file", "FILE", None, "With --agent external and https: our own certificate, for an agent that asks for one").of_consul("CONSUL_CLIENT_CERT"),
    one("agent.http-key-file", "agent-http-key-file", "FILE", None, "The key of agent.http-cert-file").of_consul("CONSUL_CLIENT_KEY"),
    one("agent.http-server-name", "agent-http-server-name", "NAME", None, "With --agent external and https: the name that its certificate must be for, where that is not the address's").of_consul("CONSUL_TLS_SERVER_NAME"),
    one("agent.http-verify", "agent-http-verify", "BOOL", Some("true"), "With --agent external and https: false accepts any certificate, and so anybody in between").of_consul("CONSUL_HTTP_SSL_VERIFY"),

    one("service.name", "service-name", "NAME", None, "The service's whole name; otherwise it is put together as MODEL-TASK-ENV-VERSION").common(),
    one("service.model", "service-model", "NAME", None, "The model's name"),
    one("service.task", "service-task", "NAME", None, "What the model does, such as ner"),
    one("service.env", "service-env", "NAME", None, "The environment, such as prod"),
    one("service.version", "service-version", "VERSION", None, "The model's version, such as v2.6"),
    one("service.id", "service-id", "ID", None, "The instance's id; by default NAME-NODE-PORT, stable over restarts"),
    one("service.address", "service-address", "ADDRESS", None, "The address that clients should use, where it is not the advertised one"),
    one("service.port", "service-port", "PORT", Some("8000"), "The worker's port").common(),
    list("service.tags", "service-tag", "TAG", "A tag of the catalog entry, such as canary; may be given several times").applies(Now).alias("service-tags").common(),
    Key::map("service.meta", "service-meta", "NAME=VALUE", "Metadata of the catalog entry; may be given several times").applies(Now),
    one("service.pytorch-version", "service-pytorch-version", "VERSION", None, "Metadata pytorch_version; by default the image's variable PYTORCH_VERSION").applies(Now),
    one("service.config-version", "service-config-version", "VERSION", None, "Metadata config_version; by default a hash of the settings that instances share").applies(Now),
    one("service.weight-passing", "service-weight-passing", "N", Some("1"), "Weight in DNS answers while passing").applies(Now).range(1, 65535),
    one("service.weight-warning", "service-weight-warning", "N", Some("1"), "Weight in DNS answers while degraded").applies(Now).range(0, 65535),

    one("check.path", "check-path", "PATH", Some("/health"), "What is asked of the worker: by the supervisor's probe and by Consul's HTTP check").applies(Now).common(),
    one("check.interval", "check-interval", "DURATION", Some("10s"), "How often Consul itself asks the worker").applies(Now).common(),
    one("check.timeout", "check-timeout", "DURATION", Some("5s"), "How long Consul waits for the worker's answer").applies(Now),
    one("check.ttl", "check-ttl", "DURATION", Some("15s"), "The instance leaves rotation when the supervisor has been silent for so long").applies(Now),
    one("check.deregister-critical-after", "check-deregister-critical-after", "DURATION", Some("1m"), "Consul removes the entry when it has been critical for so long (Consul's minimum: 1m)").applies(Now),

    list("worker.command", "worker-command", "WORD", "The worker and its arguments, where they do not follow `--`").applies(WorkerRestart),
    one("worker.model", "worker-model", "DIR", None, "Without a worker command: run model-runtime with this model directory").applies(WorkerRestart).common(),
    one("worker.readiness", "worker-readiness", "PROBE", Some("http"), "What says that the worker is ready: http (check.path answers), tcp (its port takes connections), tcp:PORT, or exec:COMMAND ARGS (exits with 0, run as the worker is). Consul itself then asks whether the port takes connections").applies(Now),
    one("worker.probe-interval", "worker-probe-interval", "DURATION", Some("2s"), "How often the supervisor asks the worker").applies(Now),
    one("worker.probe-timeout", "worker-probe-timeout", "DURATION", Some("2s"), "How long the supervisor waits for the worker's answer").applies(Now),
    one("worker.failure-threshold", "worker-failure-threshold", "N", Some("2"), "Unanswered probes in a row until the worker counts as failed; an answer that says so counts at once").applies(Now).range(1, 100),
    one("worker.success-threshold", "worker-success-threshold", "N", Some("1"), "Probes in a row that must pass until a worker that failed counts as ready").applies(Now).range(1, 100),
    one("worker.liveness", "worker-liveness", "PROBE", Some("off"), "What says that the worker is alive: a path such as /livez (any answer below 500), tcp, tcp:PORT, exec:COMMAND ARGS (exits with 0), or off. It begins once the worker was ready").applies(Now),
    one("worker.liveness-threshold", "worker-liveness-threshold", "N", Some("3"), "Liveness probes in a row that must fail until the worker is restarted").applies(Now).range(1, 100),

    one("worker.user", "worker-user", "USER[:GROUP]", None, "Run the worker as this user, by name or number; the supervisor must be root then").applies(WorkerRestart),
    list("worker.exit-ok", "exit-ok", "N", "This exit status of the worker is as good as 0 (143: ended by SIGTERM); may be given several times").applies(Now).range(0, 255),

    one("signals.proxy", "proxy-signals", "BOOL", Some("false"), "With --agent none: hand on every signal, TERM and HUP included, and end when the worker does").applies(Now),
    one("signals.scope", "signal-scope", "SCOPE", Some("group"), "Whom a signal reaches: the worker's process group, or the child alone").applies(Now).choices(&["group", "child"]),
    list("signals.rewrite", "rewrite-signal", "FROM:TO", "The worker gets the signal TO where it would get FROM, by name or number, TERM at a stop included; TO 0: nothing; may be given several times").applies(Now),
    one("signals.parent-death", "parent-death-signal", "SIGNAL", None, "What the supervisor gets when its own parent dies; it acts on it as on any signal"),

    one("gpu.mode", "gpu", "MODE", Some("auto"), "auto: watch the visible GPUs through NVML, if there are any; off: do not look").choices(&["auto", "off"]),
    one("gpu.interval", "gpu-interval", "DURATION", Some("5s"), "How often the GPUs are looked at; Xid errors are heard at once"),
    one("gpu.stale-after", "gpu-stale-after", "DURATION", Some("15s"), "NVML has been silent for so long: critical").applies(Now),
    one("gpu.memory-warning", "gpu-memory-warning", "PERCENT", Some("95"), "More of a GPU's memory in use is a warning, until 2 points below; or off").applies(Now).range(1, 100).or_word("off"),
    one("gpu.temperature-warning", "gpu-temperature-warning", "CELSIUS", Some("off"), "A GPU as hot as this is a warning, until 3 degrees below; or off").applies(Now).range(1, 200).or_word("off"),
    one("gpu.temperature-critical", "gpu-temperature-critical", "CELSIUS", Some("off"), "A GPU as hot as this is critical, until 3 degrees below; or off").applies(Now).range(1, 200).or_word("off"),
    one("gpu.ecc-limit", "gpu-ecc-limit", "N", Some("0"), "More uncorrected ECC errors since the GPU's last reset are critical; or off").applies(Now).or_word("off"),
    list("gpu.fatal-xids", "gpu-fatal-xid", "N", "The Xid errors that are critical until the GPU is reset; may be given several times; or none").default("46,48,62,64,74,79,95,110,119,120,140,143,158").applies(Now).or_word("none"),
    one("gpu.nvml-library", "gpu-nvml-library", "FILE", None, "The NVML library; by default libnvidia-ml.so.1, where the dynamic linker finds it"),

    one("restart.policy", "restart-policy", "POLICY", None, "When the worker is restarted: on-failure, always or never; by default on-failure with an agent, never without").applies(Now).choices(&["on-failure", "always", "never"]),
    one("restart.limit", "restart-limit", "N", Some("5"), "How many restarts within the window; then the instance stops with the worker's status").applies(Now).range(0, 1000).common(),
    one("restart.window", "restart-window", "DURATION", Some("5m"), "The window of the limit").applies(Now),
    one("restart.backoff-min", "restart-backoff-min", "DURATION", Some("200ms"), "The first delay; doubled each time").applies(Now),
    one("restart.backoff-max", "restart-backoff-max", "DURATION", Some("30s"), "The longest delay").applies(Now),
    one("restart.stable-after", "restart-stable-after", "DURATION", Some("30s"), "A run this long was a good one: the delay starts over").applies(Now),

    one("log.format", "log-format", "FORMAT", Some("text"), "text or json").choices(&["text", "json"]).common(),
    one("log.level", "log-level", "LEVEL", Some("info"), "error, warn, info, debug or trace").applies(Now).choices(&["error", "warn", "info", "debug", "trace"]).common(),
    one("log.children", "log-children", "FORM", Some("untouched"), "The children's lines: untouched, prefixed (worker | …) or json").choices(&["untouched", "prefixed", "json"]),

    one("metrics.addr", "metrics-addr", "ADDRESS", Some("off"), "Where Prometheus gets the metrics: IP:PORT, such as 0.0.0.0:9102 (port 0: any free one; the catalog entry says which), or off"),
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
            value. Durations have units: `500ms`, `9s`, `1m 30s`. Unknown keys and variables are errors. Consul's own variables mean what they\n\
            mean to Consul; those of ours beat them. `CONSUL_HTTP_TOKEN` (the token itself) and `CONSUL_HTTP_AUTH` (user:password) have no setting,\n\
            since secrets belong into files; neither they nor the token files' names reach the worker. `CONSUL_NAMESPACE` and `CONSUL_PARTITION`\n\
            (Consul Enterprise) are not supported, and refused.\n\n\
            *Applies* says when a changed value takes effect after `supervisor reload` (or SIGHUP): now, with the next start of the worker\n\
            or the agent, or with a new container.\n\n\
            | Key | Flag | Variable | Default | Applies | Meaning |\n|---|---|---|---|---|---|\n"
            .to_owned();
        for key in KEYS {
            let default = key.default.map_or("–".to_owned(), |default| format!("`{default}`"));
            let (path, flag, placeholder, variable, help) =
                (key.path, key.flag, key.placeholder, key.variable(), key.help.replace('|', "\\|"));
            let applies = key.applies.name();
            let of_consul = key.of_consul.map(|name| format!(", `{name}`")).unwrap_or_default();
            text.push_str(&format!(
                "| `{path}` | `--{flag} {placeholder}` | `{variable}`{of_consul} | {default} | {applies} | {help} |\n"
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
        // Not assert_eq: it would print both.
        assert!(written == documentation(), "run this test with PILOTLIGHT_UPDATE_DOCS=1");
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
