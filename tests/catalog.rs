//! The catalog entry of a real supervisor with a real agent, as a real server sees it.

mod harness;

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use harness::{PATIENCE, Server, Setup, free_port, pid_of, signal, wait_for};
use serde_json::json;

fn states(server: &Server) -> Vec<(String, String)> {
    server
        .checks("demo")
        .into_iter()
        .map(|(id, status, _)| (id, status))
        .filter(|(id, _)| id != "serfHealth")
        .collect()
}

fn is_passing(server: &Server) -> bool {
    let passing = [("supervisor", "passing"), ("worker", "passing")]
        .map(|(id, status)| (id.to_owned(), status.to_owned()));
    states(server) == passing && server.instances("demo") == (1, 1)
}

#[test]
fn registered_as_critical_until_the_worker_is_ready_then_passing_with_both_checks() {
    let server = Server::start();
    let setup =
        Setup::joining(server.serf, &[]).option("service-version", "v2.6").option("service-tag", "canary");
    std::fs::write(setup.dir.path().join("health"), "503").expect("written");
    let setup = setup.option("service-config-version", "7").option("service-pytorch-version", "2.6.0");
    let supervisor = setup.option("service-meta", "team=nlp").start();
    server.wait_for_instances("demo", (1, 0));
    wait_for("the critical check", || {
        (states(&server) == [("supervisor".to_owned(), "critical".to_owned())]).then_some(())
    });
    // Consul's servers hear of an output without a change of status within minutes only (check_update_interval), the agent at once.
    let status = supervisor.wait_for_status("the reason", |status| {
        let output = status["registration"]["checks"][0]["output"].as_str().unwrap_or_default().to_owned();
        output.starts_with("starting: ") && output.contains("503")
    });
    assert_eq!((&status["phase"], &status["registration"]["state"]), (&json!("starting"), &json!("listed")));
    assert_eq!(
        server.checks("demo").iter().filter(|(id, ..)| id == "worker").count(),
        0,
        "no probes before it is ready"
    );

    supervisor.set_health("200");
    wait_for("passing", || is_passing(&server).then_some(()));
    let status = supervisor.wait_for_phase("passing");
    assert_eq!(status["agent"]["ready"], true);
    let entry = &server.get("/v1/catalog/service/demo").expect("entry")[0];
    assert_eq!(entry["ServiceTags"], json!(["canary", "v2.6", "cpu"]));
    assert_eq!(
        entry["ServiceMeta"],
        json!({
            "team": "nlp", "version": "v2.6", "config_version": "7", "pytorch_version": "2.6.0",
            "device": "cpu", "gpu_count": "0",
        })
    );
    assert_eq!(entry["ServiceID"], status["registration"]["id"]);
    assert_eq!(supervisor.cli(&["status"]).status.code(), Some(0));
    assert_eq!(supervisor.cli(&["health"]).status.code(), Some(0));
}

#[test]
fn servers_that_are_late_are_waited_for_while_the_worker_serves() {
    let serf = free_port();
    let supervisor = Setup::joining(serf, &[]).start();
    let status = supervisor.wait_for_status("the worker without servers", |status| {
        let detail = status["agent"]["detail"].as_str().unwrap_or_default();
        let named = detail.starts_with("500 No known Consul servers: none of agent.retry-join answers");
        named && status["worker"]["state"] == "running"
    });
    assert_eq!(status["phase"], "starting");
    assert_eq!(supervisor.cli(&["status"]).status.code(), Some(1));
    let server = Server::start_on(serf);
    wait_for("passing", || is_passing(&server).then_some(()));
    supervisor.wait_for_phase("passing");
}

#[test]
fn a_crash_leaves_the_passing_set_at_once_and_comes_back_with_the_worker() {
    let server = Server::start();
    let supervisor = Setup::joining(server.serf, &[]).option("restart-backoff-min", "1s").start();
    wait_for("passing", || is_passing(&server).then_some(()));
    let status = supervisor.wait_for_phase("passing");
    signal(pid_of(&status, "worker"), libc::SIGKILL);
    server.wait_for_instances("demo", (1, 0));
    let report = wait_for("the reason", || {
        server.checks("demo").into_iter().find(|(id, status, _)| id == "supervisor" && status == "critical")
    });
    assert_eq!(report.2, "the worker was ended by SIGKILL");
    wait_for("passing again", || is_passing(&server).then_some(()));
    let status = supervisor.wait_for_phase("passing");
    assert_eq!(
        (status["worker"]["restarts"].as_i64(), status["agent"]["restarts"].as_i64()),
        (Some(1), Some(0))
    );
}

#[test]
fn what_the_worker_says_of_itself_is_in_the_catalog() {
    let server = Server::start();
    let supervisor = Setup::joining(server.serf, &[]).start();
    wait_for("passing", || is_passing(&server).then_some(()));
    supervisor.set_health("429");
    wait_for("warning", || {
        states(&server).contains(&("supervisor".to_owned(), "warning".to_owned())).then_some(())
    });
    supervisor.wait_for_phase("degraded");
    assert_eq!(supervisor.cli(&["status"]).status.code(), Some(1), "not passing");
    assert_eq!(supervisor.cli(&["health"]).status.code(), Some(0), "and not to be killed for it");
    supervisor.set_health("503");
    wait_for("critical", || {
        states(&server).contains(&("supervisor".to_owned(), "critical".to_owned())).then_some(())
    });
    assert_eq!(supervisor.cli(&["health"]).status.code(), Some(1));
    supervisor.set_health("200");
    wait_for("passing", || is_passing(&server).then_some(()));
}

#[test]
fn an_agent_that_is_killed_is_restarted_and_the_instance_never_leaves_the_passing_set() {
    let server = Server::start();
    // Consul's first probe would come anywhere within the interval: an entry that has to wait for it is seen.
    let supervisor = Setup::joining(server.serf, &[]).option("check-interval", "60s").start();
    wait_for("passing", || is_passing(&server).then_some(()));
    let before = supervisor.wait_for_phase("passing");
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let looks = scope.spawn(|| {
            let mut looks = 0;
            while !done.load(Ordering::Relaxed) {
                assert_eq!(
                    server.instances("demo"),
                    (1, 1),
                    "after {looks} looks: {:?}",
                    server.checks("demo")
                );
                looks += 1;
            }
            looks
        });
        signal(pid_of(&before, "agent"), libc::SIGKILL);
        let after = supervisor.wait_for_status("the next agent", |status| {
            status["agent"]["restarts"] == 1 && status["phase"] == "passing"
        });
        assert_ne!(pid_of(&before, "agent"), pid_of(&after, "agent"));
        assert_eq!(
            pid_of(&before, "worker"),
            pid_of(&after, "worker"),
            "the worker has nothing to do with it"
        );
        wait_for("both checks again", || is_passing(&server).then_some(()));
        done.store(true, Ordering::Relaxed);
        assert!(looks.join().expect("always passing") > 10);
    });
}

#[test]
fn an_agent_that_has_lost_its_data_is_the_same_node_and_registers_again() {
    let server = Server::start();
    let supervisor = Setup::joining(server.serf, &[]).option("restart-backoff-min", "1s").start();
    wait_for("passing", || is_passing(&server).then_some(()));
    let before = supervisor.wait_for_phase("passing");
    let agent = pid_of(&before, "agent");
    signal(agent, libc::SIGKILL);
    wait_for("the agent to be dead", || (!harness::alive(agent)).then_some(()));
    std::fs::remove_dir_all(supervisor.path("agent/data")).expect("removed before the restart");
    supervisor.wait_for_status("the next agent", |status| {
        status["agent"]["restarts"] == 1 && status["phase"] == "passing"
    });
    wait_for("one passing entry", || is_passing(&server).then_some(()));
}

#[test]
fn a_crash_loop_ends_with_the_workers_status_and_no_entry() {
    let server = Server::start();
    let mut setup = Setup::joining(server.serf, &["--exit", "7"]);
    setup = setup.option("restart-limit", "2").option("restart-backoff-min", "10ms");
    let started = Instant::now();
    let mut supervisor = setup.start();
    assert_eq!(supervisor.wait().code(), Some(7), "{}", supervisor.log());
    assert!(started.elapsed() < PATIENCE);
    assert_eq!(server.instances("demo").0, 0);
    assert!(supervisor.log().contains("has used up its restarts"), "{}", supervisor.log());
}

#[test]
fn a_start_timeout_gives_up_with_69() {
    let mut supervisor = Setup::joining(free_port(), &[]).option("start-timeout", "500ms").start();
    assert_eq!(supervisor.wait().code(), Some(69), "{}", supervisor.log());
    assert!(supervisor.log().contains("not passing within the start timeout"));
}

fn put(server: &Server, path: &str, body: &serde_json::Value) {
    let url = format!("http://127.0.0.1:{}{path}", server.http);
    let agent = ureq::Agent::config_builder().timeout_global(Some(PATIENCE)).build().new_agent();
    agent.put(url).send_json(body).expect("taken");
}

#[test]
fn an_entry_that_an_operator_removes_from_the_catalog_comes_back() {
    let server = Server::start();
    let supervisor = Setup::joining(server.serf, &[]).start();
    let status = supervisor.wait_for_phase("passing");
    let node = &server.get("/v1/catalog/service/demo").expect("entry")[0]["Node"];
    let id = &status["registration"]["id"];
    put(&server, "/v1/catalog/deregister", &json!({ "Node": node, "ServiceID": id }));
    // The agent does not notice; its own repair takes minutes.
    wait_for("the entry again", || is_passing(&server).then_some(()));
    supervisor.wait_for_phase("passing");
}

#[test]
fn a_check_that_somebody_changes_at_the_servers_is_put_right() {
    let server = Server::start();
    let supervisor = Setup::joining(server.serf, &[]).start();
    let status = supervisor.wait_for_phase("passing");
    let entry = &server.get("/v1/catalog/service/demo").expect("entry")[0];
    let check = json!({
        "CheckID": status["registration"]["checks"][0]["id"], "Name": "supervisor", "Status": "critical",
        "ServiceID": status["registration"]["id"],
    });
    put(
        &server,
        "/v1/catalog/register",
        &json!({ "Node": entry["Node"], "Address": "127.0.0.1", "SkipNodeUpdate": true, "Check": check }),
    );
    wait_for("passing again", || is_passing(&server).then_some(()));
    supervisor.wait_for_phase("passing");
}

#[test]
fn a_failure_that_only_consul_sees_is_not_called_passing() {
    let server = Server::start();
    let setup = Setup::joining(server.serf, &[]);
    let socket = setup.dir.path().join("consul.sock").display().to_string();
    let supervisor = setup.start();
    let status = supervisor.wait_for_phase("passing");
    let id = status["registration"]["id"].as_str().expect("id").to_owned();
    let consul = |words: &[&str]| {
        let status = std::process::Command::new(harness::consul())
            .args(words)
            .env("CONSUL_HTTP_ADDR", format!("unix://{socket}"))
            .stdout(std::process::Stdio::null())
            .status();
        assert!(status.expect("consul").success());
    };
    consul(&["maint", "-enable", "-service", &id, "-reason", "a new disk"]);
    let status = supervisor.wait_for_phase("critical");
    assert_eq!(status["reason"], "catalog: the service is in maintenance mode: a new disk");
    assert_eq!(status["healthy"], true, "the worker serves, and killing it would not help");
    consul(&["maint", "-disable", "-service", &id]);
    supervisor.wait_for_phase("passing");
}

#[test]
fn an_agent_that_hangs_is_killed_and_its_successor_takes_the_entry_over() {
    let server = Server::start();
    let supervisor = Setup::joining(server.serf, &[]).start();
    let before = supervisor.wait_for_phase("passing");
    signal(pid_of(&before, "agent"), libc::SIGSTOP);
    let after = supervisor.wait_for_status("the next agent", |status| {
        status["agent"]["restarts"] == 1 && status["phase"] == "passing"
    });
    assert_eq!(pid_of(&before, "worker"), pid_of(&after, "worker"));
    assert!(!harness::alive(pid_of(&before, "agent")));
    wait_for("passing", || is_passing(&server).then_some(()));
}

#[test]
fn an_agent_that_hangs_at_a_stop_leaves_no_entry_behind() {
    let server = Server::start();
    let mut supervisor = Setup::joining(server.serf, &[]).start();
    let status = supervisor.wait_for_phase("passing");
    signal(pid_of(&status, "agent"), libc::SIGSTOP);
    supervisor.signal(libc::SIGTERM);
    let started = Instant::now();
    assert_eq!(supervisor.wait().code(), Some(0), "{}", supervisor.log());
    assert!(started.elapsed().as_secs() < 10, "{}", supervisor.log());
    assert_eq!(server.instances("demo").0, 0, "no ghost: {}", supervisor.log());
}

#[test]
fn a_worker_that_is_not_alive_is_restarted() {
    let server = Server::start();
    let setup = Setup::joining(server.serf, &[]).option("worker-liveness", "/livez");
    let supervisor =
        setup.option("worker-probe-timeout", "300ms").option("worker-liveness-threshold", "2").start();
    let before = supervisor.wait_for_phase("passing");
    signal(pid_of(&before, "worker"), libc::SIGSTOP);
    let after = supervisor.wait_for_status("the next worker", |status| {
        status["worker"]["restarts"] == 1 && status["phase"] == "passing"
    });
    assert_ne!(pid_of(&before, "worker"), pid_of(&after, "worker"));
    assert_eq!(after["worker"]["last_exit"], "was ended by SIGKILL", "stopped, it cannot obey TERM");
}

#[test]
fn instances_share_an_agent_that_is_not_theirs_without_meeting_each_others_entries() {
    let server = Server::start();
    let external = |id: &str| {
        let setup = Setup::joining(server.serf, &[]).option("agent", "external").option("service-id", id);
        setup.option("agent-http-addr", &format!("127.0.0.1:{}", server.http)).start()
    };
    let (mut one, other) = (external("one"), external("other"));
    server.wait_for_instances("demo", (2, 2));
    let status = one.wait_for_phase("passing");
    assert_eq!(status["agent"]["state"], "external");
    other.wait_for_phase("passing");
    one.signal(libc::SIGTERM);
    assert_eq!(one.wait().code(), Some(0), "{}", one.log());
    assert_eq!(server.instances("demo"), (1, 1), "the other's entry stays");
    other.wait_for_phase("passing");
}

#[test]
fn an_instance_that_is_reached_by_ipv6_only() {
    let serf = free_port();
    let server = Server::start_with(serf, "::1", None, None);
    let setup = Setup::joining(serf, &[]).option("agent-retry-join", &format!("[::1]:{serf}"));
    // The range chooses the address.
    let mut supervisor = setup.option("advertise", "::1/128").start();
    let status = supervisor.wait_for_phase("passing");
    assert_eq!(status["registration"]["address"], "::1");
    let entry = &server.get("/v1/catalog/service/demo").expect("entry")[0];
    assert_eq!((&entry["Address"], &entry["ServiceAddress"]), (&json!("::1"), &json!("::1")));
    let text = supervisor.cli(&["status"]);
    let text = String::from_utf8_lossy(&text.stdout);
    assert!(text.contains(&format!("[::1]:{}", supervisor.port)), "{text}");
    supervisor.signal(libc::SIGTERM);
    assert_eq!(supervisor.wait().code(), Some(0), "{}", supervisor.log());
    assert_eq!(server.instances("demo").0, 0);
}

#[test]
fn an_interfaces_name_chooses_the_address() {
    let server = Server::start();
    let supervisor = Setup::joining(server.serf, &[]).option("advertise", "lo").start();
    let status = supervisor.wait_for_phase("passing");
    assert_eq!(status["registration"]["address"], "127.0.0.1");
}

#[test]
fn servers_without_a_leader_are_waited_for_while_the_worker_serves() {
    let half = Server::start_half(None);
    let supervisor = Setup::joining(half.serf, &[]).start();
    let status = supervisor.wait_for_status("no leader", |status| {
        let detail = status["agent"]["detail"].as_str().unwrap_or_default().to_lowercase();
        detail.contains("leader") && status["worker"]["state"] == "running"
    });
    assert_eq!((&status["phase"], &status["healthy"]), (&json!("starting"), &json!(true)), "{status}");
    let _other = Server::start_half(Some(&half));
    let status = supervisor.wait_for_phase("passing");
    assert_eq!(status["agent"]["members"], 3);
}

#[test]
fn an_api_that_is_open_to_the_network_is_said_aloud() {
    let server = Server::start();
    let api = format!("0.0.0.0:{}", free_port());
    let supervisor = Setup::joining(server.serf, &[]).option("agent-http-addr", &api).start();
    supervisor.wait_for_phase("passing");
    let log = supervisor.log();
    assert!(log.lines().any(|line| line.contains("open to the network") && line.contains(&api)), "{log}");
}
