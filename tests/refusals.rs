//! What cannot work is refused before anything is started: every message names the thing and the cure.

mod harness;

use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;

use harness::{Setup, free_port};

fn refused(setup: &Setup, expected: &[&str]) {
    let output = setup.output();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{stderr}");
    for words in expected {
        assert!(stderr.contains(words), "{words:?} is not in:\n{stderr}");
    }
}

#[test]
fn an_unknown_flag_is_refused_with_the_nearest_one() {
    refused(&Setup::plain(&[]).option("drain-windo", "1s"), &["--drain-windo", "--drain-window"]);
}

#[test]
fn all_problems_of_all_sources_are_reported_at_once() {
    let setup =
        Setup::joining(free_port(), &[]).option("stop-timeout", "nine").option("service-port", "70000");
    let file = setup.dir.path().join("pilotlight.toml");
    std::fs::write(&file, "[restart]\npolicy = \"sometimes\"\nlimmit = 3\n[check]\ninterval = \"10ms\"\n")
        .expect("written");
    let file = file.display().to_string();
    let setup = setup
        .option("config", &file)
        .variable("SUPERVISOR_DRAIN_WINDOW", "1")
        .variable("SUPERVISOR_STOP_TIMOUT", "1s");
    let [third, fourth] = [2, 3].map(|line| format!("{file}:{line}"));
    refused(
        &setup,
        &[
            "stop-timeout = \"nine\" (--stop-timeout): a duration with its unit, such as 500ms, 9s or 1m, of at most a year",
            "service.port = \"70000\" (--service-port): a whole number from 1 to 65535",
            "drain-window = \"1\" (environment variable SUPERVISOR_DRAIN_WINDOW)",
            "SUPERVISOR_STOP_TIMOUT (environment variable SUPERVISOR_STOP_TIMOUT): no such setting; did you mean SUPERVISOR_STOP_TIMEOUT?",
            &format!("restart.policy = \"sometimes\" ({third}): one of: on-failure, always, never"),
            &format!("restart.limmit ({fourth}): no such setting; did you mean restart.limit?"),
            "check.interval = \"10ms\"",
        ],
    );
}

#[test]
fn a_flag_beats_the_environment_which_beats_the_file() {
    let setup = Setup::plain(&[]).variable("SUPERVISOR_LOG_LEVEL", "loud");
    let file = setup.dir.path().join("p.toml");
    std::fs::write(&file, "[log]\nlevel = \"louder\"\n").expect("written");
    let setup = setup.option("config", &file.display().to_string());
    refused(&setup, &["log.level = \"loud\" (environment variable SUPERVISOR_LOG_LEVEL)"]);
    refused(&setup.option("log-level", "loudest"), &["log.level = \"loudest\" (--log-level)"]);
}

#[test]
fn a_stop_timeout_that_is_too_short_is_refused_with_the_arithmetic() {
    let setup = Setup::joining(free_port(), &[]).option("stop-timeout", "5s");
    refused(
        &setup,
        &[
            "500ms out of rotation + 1s drain-window + 1s deregistration + 4s 300ms agent.leave-timeout",
            "= 7s",
        ],
    );
}

#[test]
fn durations_that_make_no_sense_are_refused() {
    let setup = Setup::joining(free_port(), &[])
        .option("start-timeout", "0s")
        .option("drain-window", "18446744073709551615s");
    refused(
        &setup,
        &["start-timeout = \"0s\"", "or never", "drain-window = \"18446744073709551615s\"", "at most a year"],
    );
}

#[test]
fn a_missing_agent_program_is_refused() {
    refused(
        &Setup::joining(free_port(), &[]).option("agent-bin", "/nowhere/consul"),
        &["agent.bin", "install Consul, or use --agent none"],
    );
}

#[test]
fn a_data_folder_that_cannot_be_written_is_refused() {
    // A folder below a file cannot be made, not even by root.
    let setup = Setup::joining(free_port(), &[]);
    let file = setup.dir.path().join("file");
    std::fs::write(&file, "").expect("written");
    let dir = file.join("agent").display().to_string();
    refused(&setup.option("agent-data-dir", &dir), &["agent.data-dir", "mount one, or choose another"]);
}

#[test]
fn ports_in_use_are_refused() {
    let (gossip, api) = (listener("127.0.0.1:0"), listener("127.0.0.1:0"));
    // A worker that listens on IPv6 is in the way of ours, too.
    let worker = listener("[::1]:0");
    let setup = Setup::joining(free_port(), &[])
        .option("agent-serf-port", &gossip.1)
        .option("agent-http-addr", &format!("127.0.0.1:{}", api.1))
        .option("service-port", &worker.1);
    refused(
        &setup,
        &[
            &format!("agent.serf-port: the agent's gossip port {} is in use by another process", gossip.1),
            &format!("agent.http-addr: the agent's API port {} is in use by another process", api.1),
            &format!("service.port: the worker's port {} is in use by another process", worker.1),
        ],
    );
}

fn listener(address: &str) -> (TcpListener, String) {
    let listener = TcpListener::bind(address).expect("a port");
    let port = listener.local_addr().expect("bound").port().to_string();
    (listener, port)
}

#[test]
fn our_own_ports_must_not_meet() {
    let port = free_port().to_string();
    let setup = Setup::joining(free_port(), &[])
        .option("service-port", &port)
        .option("agent-serf-port", &port)
        .option("agent-http-addr", &format!("127.0.0.1:{port}"));
    refused(
        &setup,
        &[
            &format!(
                "agent.serf-port = \"{port}\" (--agent-serf-port): a port of its own; the worker has {port} by service.port"
            ),
            "agent.http-addr = ",
        ],
    );
}

#[test]
fn names_and_words_that_consul_would_choke_on_are_refused() {
    let setup = Setup::joining(free_port(), &[])
        .option("agent-node-name", "gpu/7?")
        .option("agent-log-level", "loud")
        .option("service-address", "10.0.0.300");
    refused(
        &setup,
        &[
            "agent.node-name = \"gpu/7?\" (--agent-node-name): a name of letters, digits, hyphens and dots",
            "agent.log-level = \"loud\" (--agent-log-level): one of: trace, debug, info, warn, err",
            "service.address = \"10.0.0.300\" (--service-address): an IP address or a host name, without a port",
        ],
    );
}

#[test]
fn sockets_that_cannot_be_made_are_refused() {
    let long = format!("/{}", "s".repeat(107));
    refused(
        &Setup::joining(free_port(), &[])
            .option("control-socket", &long)
            .option("agent-http-addr", "unix:///nowhere/consul.sock"),
        &[
            "control-socket = ",
            "(--control-socket): an absolute path of at most 107 bytes",
            "agent.http-addr = \"unix:///nowhere/consul.sock\"",
            "a socket in a folder that exists; /nowhere does not",
        ],
    );
    refused(&Setup::plain(&[]).option("control-socket", "relative.sock"), &["an absolute path"]);
    let setup = Setup::plain(&[]);
    let file = setup.dir.path().join("file");
    std::fs::write(&file, "").expect("written");
    let socket = file.join("s").display().to_string();
    refused(
        &setup.option("control-socket", &socket),
        &["Not a directory", "choose another path with --control-socket, or mount a writable folder"],
    );
}

#[test]
fn a_configuration_file_that_is_not_there_is_reported_by_whoever_named_it() {
    let setup = Setup::plain(&[]).variable("SUPERVISOR_CONFIG", "/nowhere/p.toml");
    refused(
        &setup,
        &[
            "config = \"/nowhere/p.toml\" (environment variable SUPERVISOR_CONFIG): a readable TOML file (No such",
        ],
    );
    let setup = setup.option("config", "/elsewhere/p.toml");
    refused(&setup, &["config = \"/elsewhere/p.toml\" (--config): a readable TOML file"]);
}

#[test]
fn a_variable_that_is_not_utf_8_is_refused_and_not_ignored() {
    use std::os::unix::ffi::OsStrExt;
    let output = std::process::Command::new(harness::SUPERVISOR)
        .args(["config", "check", "--no-agent", "--", "true"])
        .env("SUPERVISOR_SERVICE_TAG", std::ffi::OsStr::from_bytes(b"caf\xe9"))
        .env("CAF\u{e9}", std::ffi::OsStr::from_bytes(b"\xff"))
        .output()
        .expect("supervisor");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{stderr}");
    assert!(stderr.contains("(environment variable SUPERVISOR_SERVICE_TAG): a value in UTF-8"), "{stderr}");
    assert_eq!(stderr.lines().count(), 1, "others' variables are others' business: {stderr}");
}

#[test]
fn two_names_of_one_setting_must_not_contradict_each_other() {
    let setup =
        Setup::plain(&[]).variable("SUPERVISOR_SERVICE_TAG", "a").variable("SUPERVISOR_SERVICE_TAGS", "b");
    refused(&setup, &["service.tags = \"b\"", "one of the two names; SUPERVISOR_SERVICE_TAG is set, too"]);
}

#[test]
fn variables_of_kubernetes_and_supervisord_are_no_settings() {
    let setup = [
        ("SUPERVISOR_SERVICE_HOST", "10.0.0.7"),
        ("SUPERVISOR_SERVICE_PORT", "80"),
        ("SUPERVISOR_PORT", "tcp://10.0.0.7:80"),
        ("SUPERVISOR_PORT_80_TCP_ADDR", "10.0.0.7"),
        ("SUPERVISOR_ENABLED", "1"),
    ]
    .into_iter()
    .fold(Setup::plain(&["--exit", "0"]), |setup, (name, value)| setup.variable(name, value));
    let output = setup.output();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{stderr}");
    assert!(stderr.contains("they describe a Service of Kubernetes"), "{stderr}");
    assert!(stderr.contains("SUPERVISOR_SERVICE_PORT") && !stderr.contains("SUPERVISOR_ENABLED"), "{stderr}");
}

#[test]
fn an_address_that_is_not_ours_is_refused() {
    refused(
        &Setup::joining(free_port(), &[]).option("advertise", "192.0.2.7"),
        &["192.0.2.7 is not an address of this host"],
    );
}

#[test]
fn a_missing_model_directory_and_a_missing_worker_are_refused() {
    let mut setup = Setup::plain(&[]);
    setup.worker.clear();
    refused(&setup, &["worker.command: a worker: `supervisor run -- COMMAND`, or worker.model"]);
    refused(
        &setup.option("worker-model", "/nowhere"),
        &["worker.model = \"/nowhere\" (--worker-model): an existing model directory"],
    );
}

#[test]
fn a_service_name_that_dns_cannot_resolve_is_refused() {
    let setup = Setup::joining(free_port(), &[]).option("service-name", "bert/ner");
    refused(&setup, &["service.name = \"bert/ner\"", "'/' is not a letter"]);
}

#[test]
fn a_control_socket_that_is_being_served_is_not_taken_over() {
    let supervisor = Setup::plain(&[]).start();
    supervisor.wait_for_phase("running");
    let mode = supervisor.path("control.sock").metadata().expect("socket").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let mut second = Setup::plain(&["--exit", "0"]);
    let socket = supervisor.path("control.sock").display().to_string();
    second.options = ["--no-agent", "--control-socket", &socket].map(str::to_owned).to_vec();
    refused(&second, &["another supervisor is serving it"]);
    supervisor.wait_for_phase("running");
}

#[test]
fn what_consuls_own_variables_cannot_mean_here_is_refused() {
    let child = Setup::joining(free_port(), &[])
        .option("agent-http-addr", "https://consul.internal:8501")
        .option("agent-cert-file", "/nowhere/cert.pem")
        .variable("CONSUL_HTTP_TOKEN_FILE", "/nowhere/token")
        .variable("CONSUL_NAMESPACE", "team-a");
    refused(
        &child,
        &[
            "agent.http-addr = \"https://consul.internal:8501\"",
            "https and other hosts are for --agent external",
            "agent.cert-file = \"/nowhere/cert.pem\"",
            "agent.key-file beside it",
            "agent.token-file = \"/nowhere/token\" (environment variable CONSUL_HTTP_TOKEN_FILE): a readable file",
            "CONSUL_NAMESPACE = \"team-a\"",
            "Consul Enterprise",
        ],
    );
    let external = Setup::joining(free_port(), &[])
        .option("agent", "external")
        .option("agent-http-addr", "consul.internal:8500/path")
        .variable("CONSUL_HTTP_SSL", "maybe")
        .variable("CONSUL_HTTP_AUTH", "s3cr3t")
        .variable("CONSUL_HTTP_TOKEN", "s3cr3t\n");
    let words = [
        "agent.http-addr = \"consul.internal:8500/path\"",
        "agent.http-ssl = \"maybe\" (environment variable CONSUL_HTTP_SSL): true or false",
        "CONSUL_HTTP_AUTH = \"(hidden)\"",
        "CONSUL_HTTP_TOKEN = \"(hidden)\"",
    ];
    refused(&external, &words);
    let stderr = external.output().stderr;
    assert!(!String::from_utf8_lossy(&stderr).contains("s3cr3t"));
}
