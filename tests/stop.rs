//! The stop ladder: out of rotation, drain, deregister, the worker, the agent, exit.

mod harness;

use std::time::{Duration, Instant};

use harness::{Server, Setup, alive, free_port, pid_of, wait_for};

#[test]
fn the_worker_serves_until_the_entry_is_gone_and_the_agent_leaves_last() {
    let server = Server::start();
    let setup = Setup::joining(server.serf, &["--exit-on-term", "5"]).option("drain-window", "1500ms");
    let events = setup.dir.path().join("signals").display().to_string();
    let mut setup = setup;
    setup.worker.extend(["--signals".to_owned(), events.clone()]);
    let mut supervisor = setup.start();
    server.wait_for_instances("demo", (1, 1));
    let before = supervisor.wait_for_phase("passing");

    supervisor.signal(libc::SIGTERM);
    server.wait_for_instances("demo", (1, 0));
    let status = supervisor.wait_for_phase("draining");
    assert_eq!(pid_of(&status, "worker"), pid_of(&before, "worker"), "it serves while it drains");
    assert_eq!(status["reason"], "SIGTERM received");
    server.wait_for_instances("demo", (0, 0));
    assert_eq!(supervisor.wait().code(), Some(5), "the worker's own status: {}", supervisor.log());
    assert_eq!(
        std::fs::read_to_string(&events).expect("signals"),
        "ready\n15\n",
        "TERM once, and nothing else"
    );

    let log = supervisor.log();
    let position = |words: &str| log.find(words).unwrap_or_else(|| panic!("{words:?} is not in\n{log}"));
    let order = [
        "phase=\"draining\"",
        "deregistering",
        "signal sent role=worker",
        "worker exited",
        "signal sent role=agent",
        "agent exited",
        "exiting",
    ];
    assert!(order.map(position).is_sorted(), "{log}");
    let members = server.get("/v1/agent/members").expect("members");
    let left =
        members.as_array().into_iter().flatten().find(|member| member["Name"] != "server").expect("our node");
    assert_eq!(left["Status"], 3, "left, not failed (serf.StatusLeft)");
    for role in ["agent", "worker"] {
        assert!(!alive(pid_of(&before, role)), "{role} lives on");
    }
    assert!(!supervisor.path("control.sock").exists());
}

#[test]
fn a_worker_that_ignores_term_is_killed_within_the_stop_timeout() {
    let server = Server::start();
    let mut supervisor = Setup::joining(server.serf, &["--ignore-term"]).start();
    server.wait_for_instances("demo", (1, 1));
    let started = Instant::now();
    supervisor.signal(libc::SIGTERM);
    assert_eq!(supervisor.wait().code(), Some(137));
    assert!(started.elapsed() < Duration::from_secs(10), "{:?}: {}", started.elapsed(), supervisor.log());
    assert_eq!(server.instances("demo").0, 0);
}

#[test]
fn a_second_signal_skips_the_drain_and_a_third_kills() {
    let server = Server::start();
    let setup = Setup::joining(server.serf, &["--ignore-term"]);
    let mut supervisor = setup.option("stop-timeout", "120s").option("drain-window", "60s").start();
    server.wait_for_instances("demo", (1, 1));
    supervisor.signal(libc::SIGTERM);
    supervisor.wait_for_phase("draining");
    supervisor.signal(libc::SIGTERM);
    server.wait_for_instances("demo", (0, 0));
    supervisor.wait_for_status("TERM for the worker", |status| status["worker"]["state"] == "stopping");
    supervisor.signal(libc::SIGTERM);
    assert_eq!(supervisor.wait().code(), Some(137));
}

#[test]
fn stopping_without_servers_stays_within_the_stop_timeout() {
    let mut supervisor = Setup::joining(free_port(), &[]).start();
    let before =
        supervisor.wait_for_status("a running worker", |status| status["worker"]["state"] == "running");
    let started = Instant::now();
    supervisor.signal(libc::SIGTERM);
    assert_eq!(supervisor.wait().code(), Some(0));
    assert!(started.elapsed() < Duration::from_secs(10), "{:?}: {}", started.elapsed(), supervisor.log());
    assert!(!alive(pid_of(&before, "agent")));
}

#[test]
fn servers_that_are_gone_do_not_hold_up_a_stop() {
    let mut server = Server::start();
    let mut supervisor = Setup::joining(server.serf, &[]).start();
    server.wait_for_instances("demo", (1, 1));
    server.stop();
    let started = Instant::now();
    supervisor.signal(libc::SIGTERM);
    assert_eq!(supervisor.wait().code(), Some(0), "{}", supervisor.log());
    assert!(started.elapsed() < Duration::from_secs(10), "{:?}: {}", started.elapsed(), supervisor.log());
}

#[test]
fn an_agent_that_is_dead_is_started_once_more_to_remove_the_entry() {
    let server = Server::start();
    let mut supervisor = Setup::joining(server.serf, &[]).option("restart-backoff-min", "20s").start();
    server.wait_for_instances("demo", (1, 1));
    let agent = pid_of(&supervisor.wait_for_phase("passing"), "agent");
    harness::signal(agent, libc::SIGKILL);
    supervisor.wait_for_status("back-off", |status| status["agent"]["state"] == "backoff");
    supervisor.signal(libc::SIGTERM);
    assert_eq!(supervisor.wait().code(), Some(0), "{}", supervisor.log());
    assert_eq!(server.instances("demo").0, 0, "no ghost: {}", supervisor.log());
}

#[test]
fn a_worker_that_is_done_ends_the_instance_and_takes_its_entry_along() {
    let server = Server::start();
    let mut supervisor = Setup::joining(server.serf, &[]).option("restart-policy", "never").start();
    server.wait_for_instances("demo", (1, 1));
    let status = supervisor.wait_for_phase("passing");
    harness::signal(pid_of(&status, "worker"), libc::SIGUSR1);
    harness::signal(pid_of(&status, "worker"), libc::SIGKILL);
    assert_eq!(supervisor.wait().code(), Some(137));
    assert_eq!(server.instances("demo").0, 0);
}

#[test]
fn the_stop_command_is_the_same_as_sigterm() {
    let mut supervisor = Setup::plain(&["--exit-on-term", "3"]).start();
    supervisor.wait_for_phase("running");
    assert_eq!(supervisor.cli(&["stop"]).status.code(), Some(0));
    assert_eq!(supervisor.wait().code(), Some(3));
    wait_for("the socket to be gone", || (!supervisor.path("control.sock").exists()).then_some(()));
    assert_eq!(supervisor.cli(&["status"]).status.code(), Some(3));
}
