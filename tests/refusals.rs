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
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = taken.local_addr().expect("bound").port().to_string();
    let setup = Setup::joining(free_port(), &[])
        .option("agent-serf-port", &port)
        .option("agent-http-addr", &format!("127.0.0.1:{port}"));
    refused(
        &setup,
        &[
            &format!("agent.serf-port: the agent's gossip port {port} is in use by another process"),
            &format!("agent.http-addr: the agent's API port {port} is in use by another process"),
        ],
    );
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
