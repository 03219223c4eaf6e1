//! How the worker is asked: by HTTP (see catalog.rs), by TCP, and by a command.

mod harness;

use serde_json::Value;

use harness::{STUB_WORKER, Server, Setup, alive, free_port, pid_of, signal, wait_for};

fn check(server: &Server, id: &str) -> Option<(String, String)> {
    let checks = server.checks("demo").into_iter();
    checks.filter(|(found, ..)| found == id).map(|(_, status, output)| (status, output)).next()
}

/// A command that says what the file `answer` says: a status, and then a line.
fn oracle(setup: &Setup) -> String {
    let script = setup.dir.path().join("oracle");
    let answer = setup.dir.path().join("answer").display().to_string();
    std::fs::write(&script, format!("read status line < {answer}; echo \"$line\"; exit $status\n"))
        .expect("written");
    std::fs::write(&answer, "0 fine\n").expect("written");
    format!("exec:sh '{}'", script.display())
}

/// Waits until the status has this output of the supervisor's check. The servers hear of an output late, where nothing else changes.
fn wait_for_output(supervisor: &harness::Supervisor, output: &str) {
    supervisor.wait_for_status(output, |status| {
        let said = status.pointer("/registration/checks/0/output").and_then(Value::as_str);
        said.is_some_and(|said| said.contains(output))
    });
}

fn answer(supervisor: &harness::Supervisor, text: &str) {
    std::fs::write(supervisor.path("answer.new"), text).expect("written");
    std::fs::rename(supervisor.path("answer.new"), supervisor.path("answer")).expect("renamed");
}

#[test]
fn a_port_that_takes_connections_is_ready_and_consul_asks_the_same() {
    let server = Server::start();
    // Its HTTP says no: nobody asks.
    let setup =
        Setup::joining(server.serf, &[]).option("worker-readiness", "tcp").option("check-interval", "1s");
    std::fs::write(setup.dir.path().join("health"), "503").expect("written");
    // Has the servers hear of every output at once.
    let config = setup.dir.path().join("config");
    std::fs::create_dir(&config).expect("a folder");
    std::fs::write(config.join("sync.json"), r#"{"check_update_interval": "0s"}"#).expect("written");
    let setup = setup.option("agent-config-dir", &config.display().to_string());
    let supervisor = setup.start();
    server.wait_for_instances("demo", (1, 1));
    let (_, output) = check(&server, "supervisor").expect("a check");
    assert_eq!(output, format!("TCP 127.0.0.1:{}: connected", supervisor.port));
    wait_for("Consul's own answer", || check(&server, "worker")?.1.contains("TCP connect").then_some(()));
}

#[test]
fn a_port_that_takes_none_is_not_ready_and_its_silence_counts_when_it_lasts() {
    let server = Server::start();
    let port = free_port();
    let mut setup = Setup::joining(server.serf, &[]).option("worker-readiness", &format!("tcp:{port}"));
    let file = setup.dir.path().join("open").display().to_string();
    // A second worker process that listens where it is asked, once the file says so.
    let stub: Vec<String> = setup.worker.iter().map(|word| format!("'{word}'")).collect();
    let script = format!(
        "while [ ! -e {file} ]; do sleep 0.01; done; {STUB_WORKER} --port {port} & echo $! > {file}.new; mv {file}.new {file}; exec {}",
        stub.join(" ")
    );
    setup.worker = ["sh", "-c", &script].map(str::to_owned).to_vec();
    let supervisor = setup.start();
    server.wait_for_instances("demo", (1, 0));
    wait_for_output(&supervisor, "refused");
    std::fs::write(&file, "").expect("written");
    server.wait_for_instances("demo", (1, 1));
    let listener: i32 = wait_for("a pid", || std::fs::read_to_string(&file).ok()?.trim().parse().ok());
    signal(listener, libc::SIGKILL);
    supervisor.wait_for_phase("critical");
    server.wait_for_instances("demo", (1, 0));
}

#[test]
fn a_commands_exit_status_and_last_line_are_the_checks() {
    let server = Server::start();
    let setup = Setup::joining(server.serf, &[]);
    let probe = oracle(&setup);
    let supervisor = setup.option("worker-readiness", &probe).start();
    server.wait_for_instances("demo", (1, 1));
    assert_eq!(check(&server, "supervisor").expect("a check").1, "sh: exit status 0");
    answer(&supervisor, "3 the model is not loaded\n");
    server.wait_for_instances("demo", (1, 0));
    assert_eq!(
        check(&server, "supervisor").expect("a check"),
        ("critical".to_owned(), "sh: exited with status 3: the model is not loaded".to_owned())
    );
    answer(&supervisor, "0 fine\n");
    server.wait_for_instances("demo", (1, 1));
}

#[test]
fn a_command_that_hangs_is_killed_with_what_it_has_started() {
    let server = Server::start();
    let setup = Setup::joining(server.serf, &[]).option("worker-probe-timeout", "300ms");
    let pids = setup.dir.path().join("pids").display().to_string();
    let script = setup.dir.path().join("hang");
    std::fs::write(&script, format!("sleep 1000 & echo $$ $! >> {pids}; echo waiting; wait\n"))
        .expect("written");
    let mut supervisor = setup.option("worker-readiness", &format!("exec:sh {}", script.display())).start();
    let seen: Vec<i32> = wait_for("two attempts", || {
        let text = std::fs::read_to_string(&pids).ok()?;
        let pids: Vec<i32> = text.split_whitespace().filter_map(|pid| pid.parse().ok()).collect();
        (pids.len() >= 4).then_some(pids)
    });
    wait_for("the first attempt to be gone", || (!alive(seen[0]) && !alive(seen[1])).then_some(()));
    wait_for_output(&supervisor, "sh: not done within 300ms: waiting");
    // In the middle of an attempt.
    supervisor.signal(libc::SIGTERM);
    assert_eq!(supervisor.wait().code(), Some(0));
    for pid in std::fs::read_to_string(&pids).expect("pids").split_whitespace() {
        assert!(!alive(pid.parse().expect("a pid")), "{pid}");
    }
}

#[test]
fn a_command_that_writes_without_end_waits_for_nobody() {
    let server = Server::start();
    let setup = Setup::joining(server.serf, &[]);
    let script = setup.dir.path().join("talk");
    std::fs::write(&script, "head -c 3000000 /dev/zero | tr '\\0' x; echo; echo done\n").expect("written");
    let _supervisor = setup.option("worker-readiness", &format!("exec:sh {}", script.display())).start();
    server.wait_for_instances("demo", (1, 1));
}

#[test]
fn a_worker_whose_liveness_command_fails_is_restarted() {
    let server = Server::start();
    let setup = Setup::joining(server.serf, &[]);
    let probe = oracle(&setup);
    let supervisor = setup
        .option("worker-liveness", &probe)
        .option("worker-liveness-threshold", "2")
        .option("restart-backoff-min", "10ms")
        .start();
    let first = pid_of(&supervisor.wait_for_phase("passing"), "worker");
    answer(&supervisor, "1 stuck\n");
    let status = supervisor.wait_for_status("a restart", |status| status["worker"]["restarts"] == 1);
    assert!(!alive(first), "{status}");
    assert!(supervisor.log().contains("stuck"), "{}", supervisor.log());
}

#[test]
fn commands_see_what_the_worker_sees_and_no_token() {
    let server = Server::start();
    let setup = Setup::joining(server.serf, &[]).variable("KEEP", "this").variable("CONSUL_HTTP_TOKEN", "");
    let (script, out) = (setup.dir.path().join("env"), setup.dir.path().join("out").display().to_string());
    std::fs::write(&script, format!("env > {out}.new; ls /proc/self/fd >> {out}.new; mv {out}.new {out}\n"))
        .expect("written");
    let _supervisor = setup.option("worker-readiness", &format!("exec:sh {}", script.display())).start();
    server.wait_for_instances("demo", (1, 1));
    let seen = std::fs::read_to_string(&out).expect("written");
    assert!(seen.contains("KEEP=this") && !seen.contains("CONSUL_HTTP_TOKEN"), "{seen}");
    // 3 is the folder's own.
    let descriptors: Vec<&str> = seen.lines().rev().take_while(|line| line.len() == 1).collect();
    assert_eq!(descriptors, ["3", "2", "1", "0"], "{seen}");
}

#[test]
fn probes_that_cannot_be_are_refused_with_what_could() {
    for (value, expected) in [
        ("udp", "http, tcp, tcp:PORT, or exec:COMMAND ARGS"),
        ("tcp:0", "http, tcp, tcp:PORT"),
        ("exec:", "a command after exec:"),
        ("exec:no-such-program -x", "no-such-program"),
        ("exec:sh 'open", "a command whose quotes are closed"),
        ("/health", "http, tcp"),
    ] {
        let output = Setup::joining(1, &[]).option("worker-readiness", value).output();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(said.contains(&format!("worker.readiness = {value:?}")) && said.contains(expected), "{said}");
    }
}
