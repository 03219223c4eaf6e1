//! The metrics: what they say, who may ask how, and that Prometheus finds them through Consul.

mod harness;

use std::io::{Read, Write};
use std::net::{Ipv6Addr, TcpListener, TcpStream};
use std::process::Stdio;

use harness::prometheus::{EXAMPLE, Prometheus, promtool};
use harness::scrape::{address, ask, get, metrics, value};
use harness::{PATIENCE, Server, Setup, pid_of, signal, wait_for};
use serde_json::Value;

fn with_metrics(setup: Setup) -> Setup {
    setup.option("metrics-addr", "127.0.0.1:0")
}

#[test]
fn without_being_asked_for_there_are_none() {
    let supervisor = Setup::plain(&[]).start();
    let status = supervisor.wait_for_phase("running");
    assert_eq!(status["supervisor"]["metrics"], Value::Null);
    // proc_net(5): column 4 is the state, 0A is LISTEN; column 10 the socket's inode.
    let sockets: Vec<String> = std::fs::read_dir(format!("/proc/{}/fd", supervisor.pid()))
        .expect("proc")
        .filter_map(|fd| Some(std::fs::read_link(fd.ok()?.path()).ok()?.display().to_string()))
        .collect();
    for table in ["tcp", "tcp6"] {
        let table = std::fs::read_to_string(format!("/proc/net/{table}")).unwrap_or_default();
        for line in table.lines() {
            let columns: Vec<&str> = line.split_whitespace().collect();
            let inode = columns.get(9).copied().unwrap_or_default();
            assert!(!sockets.contains(&format!("socket:[{inode}]")), "{line}");
        }
    }
}

#[test]
fn a_plain_inits_metrics_tell_of_signals_exits_restarts_and_orphans() {
    let setup = Setup::plain(&[]).option("restart-policy", "always").option("restart-backoff-min", "1ms");
    let orphan = setup.dir.path().join("orphan");
    let mut setup = with_metrics(setup);
    setup.worker.extend(["--orphan".to_owned(), orphan.display().to_string()]);
    let supervisor = setup.start();
    let address = address(&supervisor);
    let worker = pid_of(&supervisor.wait_for_phase("running"), "worker");
    wait_for("the orphan", || orphan.exists().then_some(()));
    let text = metrics(address);
    assert_eq!(value(&text, "supervisor_phase{phase=\"running\"}"), Some(1.0), "{text}");
    assert_eq!(value(&text, "supervisor_phase{phase=\"critical\"}"), Some(0.0), "{text}");
    assert_eq!(value(&text, "supervisor_restarts_total{process=\"worker\"}"), Some(0.0), "{text}");
    assert_eq!(value(&text, "supervisor_passing"), Some(1.0), "{text}");
    assert!(value(&text, "supervisor_time_to_passing_seconds").is_some_and(|took| took < 10.0), "{text}");
    let version = format!("supervisor_build_info{{version=\"{}\"}}", env!("CARGO_PKG_VERSION"));
    assert_eq!(value(&text, &version), Some(1.0), "{text}");
    assert!(!text.contains("process=\"agent\""), "there is none: {text}");

    supervisor.signal(libc::SIGUSR1);
    let orphan: i32 = std::fs::read_to_string(&orphan).expect("written").trim().parse().expect("a pid");
    signal(orphan, libc::SIGKILL);
    signal(worker, libc::SIGKILL);
    wait_for("the counts", || {
        let text = metrics(address);
        let counted = [
            ("supervisor_exits_total{process=\"worker\",reason=\"SIGKILL\"}", 1.0),
            ("supervisor_restarts_total{process=\"worker\"}", 1.0),
            ("supervisor_signals_total{signal=\"SIGUSR1\"}", 1.0),
            ("supervisor_orphans_reaped_total", 1.0),
            ("supervisor_process_running{process=\"worker\"}", 1.0),
        ];
        counted.iter().all(|(series, count)| value(&text, series) == Some(*count)).then_some(())
    });
}

#[test]
fn with_an_agent_they_tell_of_probes_requests_and_the_way_out_of_rotation() {
    let server = Server::start();
    let supervisor =
        with_metrics(Setup::joining(server.serf, &[])).option("restart-backoff-min", "1s").start();
    let status = supervisor.wait_for_phase("passing");
    let address = address(&supervisor);
    let text = metrics(address);
    for (series, expected) in [
        ("supervisor_phase{phase=\"passing\"}", 1.0),
        ("supervisor_agent_ready", 1.0),
        ("supervisor_entry_listed", 1.0),
        ("supervisor_out_of_rotation_seconds_count{confirmed_by=\"agent\"}", 0.0),
        ("supervisor_out_of_rotation_seconds_count{confirmed_by=\"servers\"}", 0.0),
        ("supervisor_consul_request_duration_seconds_count{request=\"agent/service/register\"}", 1.0),
        ("supervisor_stop_timeout_seconds", 9.0),
        ("supervisor_stop_budget_seconds{step=\"drain_window\"}", 1.0),
    ] {
        assert_eq!(value(&text, series), Some(expected), "{series}: {text}");
    }
    assert!(
        value(&text, "supervisor_probes_total{outcome=\"passing\",probe=\"readiness\"}")
            .is_some_and(|count| count >= 1.0),
        "{text}"
    );
    assert!(
        value(&text, "supervisor_probe_duration_seconds_count{kind=\"http\",probe=\"readiness\"}")
            .is_some_and(|count| count >= 1.0),
        "{text}"
    );

    signal(pid_of(&status, "worker"), libc::SIGKILL);
    for by in ["agent", "servers"] {
        let series =
            |what: &str| format!("supervisor_out_of_rotation_seconds_{what}{{confirmed_by=\"{by}\"}}");
        let text = wait_for("the way out", || {
            let text = metrics(address);
            (value(&text, &series("count")) == Some(1.0)).then_some(text)
        });
        let took = value(&text, &series("sum")).expect("a sum");
        assert!(took > 0.0 && took < 5.0, "{by}: {took}");
    }
    // An agent that is gone shows as errors of the requests that it does not answer.
    signal(pid_of(&status, "agent"), libc::SIGKILL);
    supervisor.wait_for_phase("passing");
    let text = metrics(address);
    assert_eq!(value(&text, "supervisor_restarts_total{process=\"agent\"}"), Some(1.0), "{text}");
    assert!(text.contains("supervisor_consul_request_errors_total{kind=\"connection\",request="), "{text}");
    // By now every metric has had its occasion.
    supervisor.signal(libc::SIGUSR1);
    let documentation = include_str!("../docs/metrics.md");
    let documented =
        documentation.lines().filter_map(|line| line.strip_prefix("| `supervisor_")?.split_once('`'));
    // GPUs have their occasion in tests/gpu.rs.
    for (name, _) in documented.filter(|(name, _)| !name.starts_with("gpu_")) {
        wait_for(name, || metrics(address).contains(&format!("# TYPE supervisor_{name} ")).then_some(()));
    }
}

#[test]
fn promtool_finds_nothing_to_complain_of() {
    let server = Server::start();
    let supervisor = with_metrics(Setup::joining(server.serf, &[])).start();
    supervisor.wait_for_phase("passing");
    let mut promtool = promtool()
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("promtool: set PROMTOOL_BIN, or run `make test`, which gets it");
    let text = metrics(address(&supervisor));
    promtool.stdin.take().expect("piped").write_all(text.as_bytes()).expect("written");
    let output = promtool.wait_with_output().expect("promtool");
    let said = [output.stdout, output.stderr].concat();
    assert!(output.status.success() && said.is_empty(), "{}\n{text}", String::from_utf8_lossy(&said));
}

#[test]
fn only_get_and_head_of_two_paths_are_answered_and_each_connection_once() {
    let supervisor = with_metrics(Setup::plain(&[])).start();
    supervisor.wait_for_phase("running");
    let address = address(&supervisor);
    let (head, body) = get(address, "/healthz");
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
    assert_eq!(body, "running: the worker runs\n");
    let answer = ask(address, "HEAD /metrics HTTP/1.1\r\nHost: test\r\n\r\n");
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
    assert!(head.contains("200 OK") && head.contains("connection: close") && body.is_empty(), "{answer}");
    assert!(!head.contains("content-length: 0"), "{head}");
    for (request, status) in [
        (
            "POST /metrics HTTP/1.1\r\nHost: test\r\nContent-Length: 0\r\n\r\n".to_owned(),
            "405 Method Not Allowed",
        ),
        ("DELETE /healthz HTTP/1.1\r\nHost: test\r\n\r\n".to_owned(), "405 Method Not Allowed"),
        ("GET / HTTP/1.1\r\nHost: test\r\n\r\n".to_owned(), "404 Not Found"),
        ("GET /metrics/ HTTP/1.1\r\nHost: test\r\n\r\n".to_owned(), "404 Not Found"),
        ("\u{1}\u{2}garbage\r\n\r\n".to_owned(), "400 Bad Request"),
        (
            format!("GET /metrics HTTP/1.1\r\nX: {}\r\n\r\n", "x".repeat(20_000)),
            "431 Request Header Fields Too Large",
        ),
        (
            format!("GET /metrics HTTP/1.1\r\n{}\r\n", "X: y\r\n".repeat(100)),
            "431 Request Header Fields Too Large",
        ),
    ] {
        let answer = ask(address, &request);
        let line = answer.lines().next().unwrap_or_default().to_owned();
        assert_eq!(line, format!("HTTP/1.1 {status}"), "{}", request.get(..40).unwrap_or(&request));
        assert_eq!(answer.to_lowercase().contains("allow: get, head"), status.starts_with("405"), "{answer}");
    }
    // Two requests in one connection: the first is answered.
    let twice = "GET /healthz HTTP/1.1\r\nHost: test\r\n\r\n".repeat(2);
    assert_eq!(ask(address, &twice).matches("HTTP/1.1").count(), 1);
}

#[test]
fn clients_that_dawdle_keep_nobody_out() {
    let supervisor = with_metrics(Setup::plain(&[])).start();
    supervisor.wait_for_phase("running");
    let address = address(&supervisor);
    // Slowloris: half a head, and never the rest.
    let mut dawdlers: Vec<TcpStream> = Vec::new();
    for round in 0..500 {
        let mut stream = TcpStream::connect(address).expect("connected");
        let _given_way = stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: te");
        dawdlers.push(stream);
        if round % 100 == 99 {
            assert!(metrics(address).contains("supervisor_phase"), "after {round} dawdlers");
        }
    }
    let descriptors = std::fs::read_dir(format!("/proc/{}/fd", supervisor.pid())).expect("proc").count();
    assert!(descriptors < 100, "{descriptors} descriptors");
    // The last ones are let go, too, without anybody else coming.
    let mut last = dawdlers.pop().expect("one");
    last.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    let mut answer = Vec::new();
    let ended = last.read_to_end(&mut answer);
    assert!(!matches!(&ended, Err(error) if error.kind() == std::io::ErrorKind::WouldBlock), "{ended:?}");
}

#[test]
fn thousands_of_short_connections_leave_nothing_behind_and_the_stop_is_in_time() {
    let mut supervisor = with_metrics(Setup::plain(&[])).start();
    supervisor.wait_for_phase("running");
    let address = address(&supervisor);
    let clients: Vec<_> = (0..4)
        .map(|client| {
            std::thread::spawn(move || {
                for round in 0..1000 {
                    match (client + round) % 3 {
                        0 => drop(TcpStream::connect(address)),
                        1 => assert!(get(address, "/healthz").0.starts_with("HTTP/1.1 200")),
                        _ => {
                            // Asks and does not listen.
                            let mut stream = TcpStream::connect(address).expect("connected");
                            let _given_way = stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: test\r\n\r\n");
                        }
                    }
                }
            })
        })
        .collect();
    for client in clients {
        client.join().expect("served");
    }
    wait_for("the connections to end", || {
        let descriptors = std::fs::read_dir(format!("/proc/{}/fd", supervisor.pid())).expect("proc").count();
        (descriptors < 20).then_some(())
    });
    let _open = TcpStream::connect(address).expect("connected");
    supervisor.signal(libc::SIGTERM);
    assert_eq!(supervisor.wait().code(), Some(0));
}

#[test]
fn an_address_that_cannot_be_listened_on_is_refused_with_the_cure() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = taken.local_addr().expect("bound").port();
    for (address, expected) in [
        (
            format!("127.0.0.1:{port}"),
            format!("metrics.addr: the metrics' port {port} is in use by another process"),
        ),
        ("192.0.2.1:9102".to_owned(), "metrics.addr: 192.0.2.1 is not an address of this host".to_owned()),
        (
            "9102".to_owned(),
            "metrics.addr = \"9102\" (--metrics-addr): IP:PORT, such as 0.0.0.0:9102, or off".to_owned(),
        ),
    ] {
        let output = Setup::plain(&[]).option("metrics-addr", &address).output();
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{stderr}");
        assert!(stderr.contains(&expected), "{stderr}");
    }
}

#[test]
fn ipv6_works() {
    if TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).is_err() {
        return; // No IPv6 on this machine.
    }
    let supervisor = Setup::plain(&[]).option("metrics-addr", "[::1]:0").start();
    supervisor.wait_for_phase("running");
    assert!(metrics(address(&supervisor)).contains("supervisor_phase"));
}

#[test]
fn the_entry_says_where_they_are_unless_that_is_not_where_clients_come() {
    let server = Server::start();
    let meta =
        |server: &Server| server.get("/v1/catalog/service/demo").expect("entry")[0]["ServiceMeta"].clone();
    {
        let supervisor = with_metrics(Setup::joining(server.serf, &[])).start();
        supervisor.wait_for_phase("passing");
        server.wait_for_instances("demo", (1, 1));
        assert_eq!(meta(&server)["metrics_port"], address(&supervisor).port().to_string());
    }
    let other = Setup::joining(server.serf, &[])
        .option("metrics-addr", "127.0.0.2:0")
        .option("service-name", "other");
    let supervisor = other.start();
    supervisor.wait_for_phase("passing");
    server.wait_for_instances("other", (1, 1));
    let entry = server.get("/v1/catalog/service/other").expect("entry");
    assert_eq!(entry[0]["ServiceMeta"].get("metrics_port"), None, "{entry}");
}

#[test]
fn the_example_for_prometheus_is_valid() {
    let output = promtool().args(["check", "config", EXAMPLE]).output().expect("promtool");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn prometheus_finds_an_instance_through_consul_and_forgets_it_when_it_stops() {
    let server = Server::start();
    let dir = tempfile::tempdir().expect("folder");
    let setup = with_metrics(Setup::joining(server.serf, &[]))
        .option("service-version", "v2.6")
        .option("service-meta", "worker_metrics_path=/metrics");
    let mut supervisor = setup.start();
    let status = supervisor.wait_for_phase("passing");
    let prometheus = Prometheus::start(dir.path(), server.http);
    let up = |job: &str| {
        let mut targets = prometheus.targets(job)?;
        (targets.len() == 1 && targets[0]["health"] == "up").then(|| targets.remove(0))
    };
    let target = wait_for("the supervisor's target", || up("pilotlight-supervisor"));
    let url = status["supervisor"]["metrics"].as_str().expect("a URL");
    assert_eq!(target["scrapeUrl"], url);
    let labels = &target["labels"];
    assert_eq!(labels["service"], "demo");
    assert_eq!(labels["instance"], status["registration"]["id"]);
    assert_eq!(labels["node"], status["agent"]["node"]);
    assert_eq!(labels["version"], "v2.6");
    assert_eq!(labels["datacenter"], "dc1");
    let worker = wait_for("the worker's target", || up("pilotlight-worker"));
    assert_eq!(worker["scrapeUrl"], format!("http://127.0.0.1:{}/metrics", supervisor.port));
    // supervisor_phase{phase="passing",service="demo"}
    let query = "supervisor_phase%7Bphase%3D%22passing%22%2Cservice%3D%22demo%22%7D";
    wait_for("the phase", || (prometheus.query(query).as_deref() == Some("1")).then_some(()));
    supervisor.set_health("503");
    wait_for("the other phase", || (prometheus.query(query).as_deref() == Some("0")).then_some(()));

    supervisor.signal(libc::SIGTERM);
    assert_eq!(supervisor.wait().code(), Some(0));
    for job in ["pilotlight-supervisor", "pilotlight-worker"] {
        wait_for("the target to go", || prometheus.targets(job)?.is_empty().then_some(()));
    }
}
