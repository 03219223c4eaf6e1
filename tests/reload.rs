//! `supervisor reload` and SIGHUP: what holds now, what waits, and what changes nothing.

mod harness;

use std::path::PathBuf;

use harness::{STUB_WORKER, Server, Setup, Supervisor, alive, pid_of, signal, wait_for};

/// A setup whose settings are in a file.
fn with_file(setup: Setup, text: &str) -> (Setup, PathBuf) {
    let file = setup.dir.path().join("pilotlight.toml");
    std::fs::write(&file, text).expect("written");
    let setup = setup.option("config", &file.display().to_string());
    (setup, file)
}

fn reload(supervisor: &Supervisor) -> (Option<i32>, String) {
    let output = supervisor.cli(&["reload"]);
    let said =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    (output.status.code(), said)
}

#[test]
fn what_can_be_applied_holds_at_once_and_the_rest_is_named() {
    let (setup, file) = with_file(Setup::plain(&[]), "[log]\nlevel = \"warn\"\n");
    let supervisor = setup.start();
    supervisor.wait_for_phase("running");
    assert!(!supervisor.log().contains("INFO"), "{}", supervisor.log());
    std::fs::write(&file, "stop-timeout = \"20s\"\nservice.port = 9000\n[log]\nlevel = \"info\"\n")
        .expect("written");
    let (code, said) = reload(&supervisor);
    assert_eq!(code, Some(0), "{said}");
    assert_eq!(
        said,
        "reloaded: applied stop-timeout, log.level; waiting for a restart: service.port (container restart)\n"
    );
    let status = supervisor.status().expect("a status");
    assert_eq!(status["stop"]["timeout"], 20.0);
    assert_eq!(status["config"]["pending"][0]["key"], "service.port");
    assert_eq!(status["config"]["file"], file.display().to_string());
    wait_for("the new level", || supervisor.log().contains("INFO configuration reloaded").then_some(()));
    std::fs::write(&file, "[log]\nlevel = \"info\"\n").expect("written");
    let (_, said) = reload(&supervisor);
    assert_eq!(said, "reloaded: applied stop-timeout\n", "what was taken back waits no more");
}

#[test]
fn an_invalid_configuration_changes_nothing_and_all_problems_are_said() {
    let (setup, file) = with_file(Setup::plain(&[]), "stop-timeout = \"8s\"\n");
    let supervisor = setup.start();
    supervisor.wait_for_phase("running");
    std::fs::write(&file, "stop-timeout = \"20s\"\nspeed = 1\n[log]\nlevel = \"loud\"\n").expect("written");
    let (code, said) = reload(&supervisor);
    assert_eq!(code, Some(1), "{said}");
    for words in ["speed (", ":2): no such setting", "log.level = \"loud\"", "nothing was changed"] {
        assert!(said.contains(words), "{words} is not in {said}");
    }
    let status = supervisor.status().expect("a status");
    assert_eq!(status["stop"]["timeout"], 8.0);
    let error = status["config"]["last_error"].as_str().unwrap_or_default();
    assert!(error.contains("speed") && error.contains("loud"), "{status}");
    assert!(supervisor.log().contains("the configuration cannot work"), "{}", supervisor.log());
    std::fs::remove_file(&file).expect("removed");
    assert!(reload(&supervisor).1.contains("a readable TOML file"));
    std::fs::write(&file, "stop-timeout = \"20s\"\n").expect("written");
    assert_eq!(reload(&supervisor).0, Some(0));
    let status = supervisor.status().expect("a status");
    assert!(status["stop"]["timeout"] == 20.0 && status["config"]["last_error"].is_null(), "{status}");
}

#[test]
fn a_hangup_reloads_and_does_not_reach_the_worker() {
    let mut setup = Setup::plain(&[]);
    let signals = setup.dir.path().join("signals");
    setup.worker.extend(["--signals".to_owned(), signals.display().to_string()]);
    let (setup, file) = with_file(setup, "");
    let supervisor = setup.start();
    supervisor.wait_for_phase("running");
    wait_for("the worker", || signals.exists().then_some(()));
    std::fs::write(&file, "stop-timeout = \"20s\"\n").expect("written");
    supervisor.signal(libc::SIGHUP);
    supervisor.wait_for_status("the new value", |status| status["stop"]["timeout"] == 20.0);
    supervisor.signal(libc::SIGUSR1);
    wait_for("what follows", || {
        let seen = std::fs::read_to_string(&signals).unwrap_or_default();
        seen.contains("10").then(|| assert_eq!(seen, "ready\n10\n"))
    });
}

#[test]
fn a_new_worker_command_waits_for_the_next_start_of_the_worker() {
    let mut setup = Setup::plain(&[]);
    setup.worker.clear();
    let settings = |flags: &str| {
        format!(
            "[worker]\ncommand = [{STUB_WORKER:?}{flags}]\n[restart]\npolicy = \"always\"\nbackoff-min = \"1ms\"\n"
        )
    };
    let (setup, file) = with_file(setup, &settings(""));
    let report = setup.dir.path().join("report");
    let supervisor = setup.start();
    let old = pid_of(&supervisor.wait_for_phase("running"), "worker");
    std::fs::write(&file, settings(&format!(", \"--report\", {report:?}"))).expect("written");
    let (_, said) = reload(&supervisor);
    assert!(said.ends_with("waiting for a restart: worker.command (worker restart)\n"), "{said}");
    assert!(alive(old) && !report.exists());
    signal(old, libc::SIGKILL);
    wait_for("the new command", || report.exists().then_some(()));
    supervisor
        .wait_for_status("nothing waits", |status| status["config"]["pending"] == serde_json::json!([]));
}

#[test]
fn a_value_that_clashes_with_one_that_waits_is_refused() {
    let server = Server::start();
    let (setup, file) = with_file(Setup::joining(server.serf, &[]), "");
    let ports = [harness::free_port(), harness::free_port()];
    // What a flag says cannot be reloaded: these two come from the file.
    let mut setup = setup;
    for flag in ["--service-port", "--agent-serf-port", "--worker-probe-interval"] {
        let at = setup.options.iter().position(|word| word == flag).expect("set");
        setup.options.drain(at..at + 2);
    }
    let port = setup.port;
    let text = |service: u16, serf: u16, probe: &str| {
        format!(
            "[service]\nport = {service}\n[agent]\nserf-port = {serf}\n[worker]\nprobe-interval = \"{probe}\"\n"
        )
    };
    std::fs::write(&file, text(port, ports[0], "1h")).expect("written");
    let supervisor = setup.start();
    supervisor.wait_for_phase("passing");
    std::fs::write(&file, text(ports[1], port, "1h")).expect("written");
    let (code, said) = reload(&supervisor);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("agent.serf-port") && said.contains("a port of its own"), "{said}");

    // The probe's interval holds at once, though the next probe was an hour away.
    std::fs::write(&file, text(port, ports[0], "100ms")).expect("written");
    assert_eq!(reload(&supervisor).1, "reloaded: applied worker.probe-interval\n");
    supervisor.set_health("503");
    supervisor.wait_for_phase("critical");
}
