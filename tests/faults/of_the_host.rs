//! Disks, users, networks and names.

use std::net::{Ipv4Addr, UdpSocket};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::harness::{Server, Setup, alive, pid_of, wait_for};
use crate::matrix::{Entry, Exit, Worker, passing, record};

/// Runs the supervisor in a mount namespace of its own, after this script.
fn after_mounting<'a>(script: &'a str, program: &'a mut String) -> [&'a str; 5] {
    *program = format!("{script} && exec \"$0\" \"$@\"");
    ["unshare", "--mount", "sh", "-c", program]
}

#[test]
fn disk_full_from_the_start() {
    let server = Server::start();
    let setup =
        Setup::joining(server.serf, &[]).option("restart-limit", "3").option("restart-backoff-min", "50ms");
    let data = setup.dir.path().join("agent").display().to_string();
    std::fs::create_dir(&data).expect("a folder");
    let script = format!(
        "mount -t tmpfs -o size=1m none '{data}' && (cat /dev/zero > '{data}/filler' 2> /dev/null; true)"
    );
    let mut supervisor = setup.start_under(&after_mounting(&script, &mut String::new()));
    let exit = supervisor.wait();
    assert!(supervisor.log().contains("No space left on device"), "{}", supervisor.log());
    assert_eq!(server.instances("demo").0, 0);
    record(
        "disk full from the start",
        "the data folder of the agent on a full disk",
        Entry::Never,
        Worker::Dead,
        Exit::of(exit),
    );
}

#[test]
fn read_only_root() {
    let server = Server::start();
    let setup = Setup::joining(server.serf, &[]);
    let dir = setup.dir.path().display().to_string();
    let script =
        format!("mount --bind '{dir}' '{dir}' && mount -o remount,bind,ro / && ! touch /root/x 2> /dev/null");
    let mut supervisor = setup.start_under(&after_mounting(&script, &mut String::new()));
    let worker = passing(&supervisor, &server);
    supervisor.signal(libc::SIGTERM);
    let exit = supervisor.wait();
    assert!(!alive(worker));
    assert_eq!(server.instances("demo").0, 0);
    let done = "everything read-only but the folders of the agent and the control socket; a stop";
    record("read-only root", done, Entry::Gone, Worker::Dead, Exit::of(exit));
}

#[test]
fn no_tmp() {
    let server = Server::start();
    // Not in /tmp, which is about to be gone.
    let setup = Setup::joining_in(Path::new(env!("CARGO_TARGET_TMPDIR")), server.serf, &[]);
    let script = "mount -t tmpfs -o ro none /tmp && ! touch /tmp/x 2> /dev/null";
    let mut supervisor = setup.start_under(&after_mounting(script, &mut String::new()));
    let worker = passing(&supervisor, &server);
    supervisor.signal(libc::SIGTERM);
    let exit = supervisor.wait();
    assert!(!alive(worker));
    assert_eq!(server.instances("demo").0, 0);
    record("no /tmp", "an empty, read-only one; a stop", Entry::Gone, Worker::Dead, Exit::of(exit));
}

#[test]
fn another_user() {
    let server = Server::start();
    let setup = Setup::joining(server.serf, &[]);
    // Nobody, without a capability left once it runs (user_namespaces(7)).
    let mut supervisor =
        setup.start_under(&["unshare", "--user", "--map-user=65534", "--map-group=65534", "--"]);
    let worker = passing(&supervisor, &server);
    let status = std::fs::read_to_string(format!("/proc/{worker}/status")).expect("a process");
    assert!(status.contains("CapEff:\t0000000000000000"), "{status}");
    supervisor.signal(libc::SIGTERM);
    let exit = supervisor.wait();
    assert_eq!(server.instances("demo").0, 0);
    record(
        "another user than root",
        "as nobody, without capabilities; a stop",
        Entry::Gone,
        Worker::Dead,
        Exit::of(exit),
    );
}

#[test]
fn no_network() {
    // A server that is there all right, and cannot be reached from that namespace.
    let server = Server::start();
    let setup = Setup::joining(server.serf, &[]);
    let mut supervisor =
        setup.start_under(&["unshare", "--net", "sh", "-c", "ip link set lo up && exec \"$0\" \"$@\""]);
    let status = supervisor.wait_for_status("the reason", |status| {
        status["agent"]["ready"] == false
            && status["agent"]["detail"].as_str().is_some_and(|why| why.contains("servers"))
    });
    assert_eq!(status["healthy"], true, "the worker serves");
    let worker = pid_of(&status, "worker");
    let began = Instant::now();
    supervisor.signal(libc::SIGTERM);
    let exit = supervisor.wait();
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    assert!(!alive(worker));
    assert_eq!(server.instances("demo").0, 0);
    record("no network", "loopback alone; a stop", Entry::Never, Worker::Dead, Exit::of(exit));
}

/// A DNS server that takes its time and then says that every name is 127.0.0.1 (RFC 1035).
fn slow_resolver(address: Ipv4Addr, delay: Duration) -> Arc<AtomicUsize> {
    let socket = UdpSocket::bind((address, 53)).expect("port 53, for which this must be root");
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    // It ends with the test's process.
    std::thread::spawn(move || {
        let mut buffer = [0; 512];
        while let Ok((length, client)) = socket.recv_from(&mut buffer) {
            count.fetch_add(1, Ordering::Relaxed);
            let question = buffer.get(..length).unwrap_or_default().to_vec();
            let socket = socket.try_clone().expect("a descriptor");
            std::thread::spawn(move || {
                std::thread::sleep(delay);
                let _gone = socket.send_to(&answer(&question), client);
            });
        }
    });
    asked
}

/// The same question with an A record, or with nothing where something else was asked for.
fn answer(question: &[u8]) -> Vec<u8> {
    let end_of_name = question.iter().skip(12).position(|byte| *byte == 0).map_or(12, |place| place + 13);
    let wants_address = question.get(end_of_name..end_of_name + 2) == Some(&[0, 1]);
    let mut text = question.get(..end_of_name + 4).unwrap_or_default().to_vec();
    // A response, recursion available; one question, so many answers, nothing else.
    text.splice(2..12, [0x81, 0x80, 0, 1, 0, u8::from(wants_address), 0, 0, 0, 0]);
    if wants_address {
        text.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 0, 0, 4, 127, 0, 0, 1]);
    }
    text
}

#[test]
fn slow_dns() {
    let server = Server::start();
    let [_, _, low, high] = std::process::id().to_be_bytes();
    let resolver = Ipv4Addr::new(127, 53, low, high.max(1));
    let asked = slow_resolver(resolver, Duration::from_secs(2));
    let setup = Setup::joining(server.serf, &[])
        .option("agent-retry-join", &format!("consul.example.:{}", server.serf));
    let file = setup.dir.path().join("resolv.conf");
    std::fs::write(&file, format!("nameserver {resolver}\noptions timeout:5\n")).expect("written");
    let script = format!("mount --bind '{}' /etc/resolv.conf", file.display());
    let supervisor = setup.start_under(&after_mounting(&script, &mut String::new()));
    // While the name is looked up the worker serves and the socket answers.
    let status = supervisor.wait_for_status("the worker", |status| {
        status["healthy"] == true && status["agent"]["ready"] == false
    });
    let worker = pid_of(&status, "worker");
    server.wait_for_instances("demo", (1, 1));
    wait_for("a question", || (asked.load(Ordering::Relaxed) > 0).then_some(()));
    let seen = Worker::of(worker, &supervisor);
    record(
        "slow DNS",
        "a resolver that takes two seconds to name the servers",
        Entry::Late,
        seen,
        Exit::GoesOn,
    );
}
