//! The worker, and the supervisor itself.

use std::time::{Duration, Instant};

use crate::harness::{Server, Setup, alive, pid_of, signal, wait_for};
use crate::matrix::{Entry, Exit, Observer, Worker, passing, record};

#[test]
fn worker_crashes() {
    let server = Server::start();
    let supervisor = Setup::joining(server.serf, &[]).option("restart-backoff-min", "500ms").start();
    let worker = passing(&supervisor, &server);
    let observer = Observer::begin(&server, "demo");
    signal(worker, libc::SIGABRT);
    supervisor.wait_for_status("another worker", |status| {
        status["worker"]["restarts"] == 1 && status["phase"] == "passing"
    });
    server.wait_for_instances("demo", (1, 1));
    let entry = Entry::of(&observer, &server, "demo");
    record("worker crashes", "ABRT to the worker", entry, Worker::of(worker, &supervisor), Exit::GoesOn);
}

#[test]
fn worker_in_a_crash_loop() {
    let server = Server::start();
    let mut setup =
        Setup::joining(server.serf, &[]).option("restart-limit", "2").option("restart-backoff-min", "50ms");
    setup.worker = ["sh", "-c", "exit 9"].map(str::to_owned).to_vec();
    let mut supervisor = setup.start();
    let exit = Exit::of(supervisor.wait());
    assert_eq!(server.instances("demo").0, 0);
    record("worker in a crash loop", "a worker that exits with 9 each time", Entry::Gone, Worker::Dead, exit);
}

#[test]
fn worker_hangs() {
    let server = Server::start();
    let supervisor = Setup::joining(server.serf, &[])
        .option("worker-probe-timeout", "200ms")
        .option("worker-liveness", "/livez")
        .option("worker-liveness-threshold", "5")
        .option("restart-backoff-min", "500ms")
        .start();
    let worker = passing(&supervisor, &server);
    let observer = Observer::begin(&server, "demo");
    signal(worker, libc::SIGSTOP);
    supervisor.wait_for_status("another worker", |status| {
        status["worker"]["restarts"] == 1 && status["phase"] == "passing"
    });
    server.wait_for_instances("demo", (1, 1));
    let entry = Entry::of(&observer, &server, "demo");
    record(
        "worker hangs (SIGSTOP)",
        "STOP to a worker with a liveness probe",
        entry,
        Worker::of(worker, &supervisor),
        Exit::GoesOn,
    );
}

#[test]
fn worker_ignores_term() {
    let server = Server::start();
    let mut supervisor = Setup::joining(server.serf, &["--ignore-term"]).start();
    let worker = passing(&supervisor, &server);
    supervisor.signal(libc::SIGTERM);
    server.wait_for_instances("demo", (0, 0));
    assert!(alive(worker), "the entry goes first");
    let exit = Exit::of(supervisor.wait());
    assert!(!alive(worker));
    record("worker ignores TERM", "a stop", Entry::Gone, Worker::Dead, exit);
}

#[test]
fn worker_leaves_orphans() {
    let server = Server::start();
    let mut setup = Setup::joining(server.serf, &[]);
    let file = setup.dir.path().join("orphan");
    setup.worker.extend(["--orphan".to_owned(), file.display().to_string()]);
    let mut supervisor = setup.start();
    passing(&supervisor, &server);
    let orphan: i32 = wait_for("the orphan", || std::fs::read_to_string(&file).ok()?.trim().parse().ok());
    assert!(alive(orphan));
    supervisor.signal(libc::SIGTERM);
    let exit = Exit::of(supervisor.wait());
    assert!(!alive(orphan), "in a session of its own, and ended all the same");
    assert_eq!(server.instances("demo").0, 0);
    record(
        "worker leaves orphans",
        "a stop of a worker with a child in a session of its own, which ends too",
        Entry::Gone,
        Worker::Dead,
        exit,
    );
}

/// A memory cgroup of this test's, by either version of cgroups (cgroups(7)).
struct MemoryGroup(std::path::PathBuf);

impl MemoryGroup {
    fn new(limit: &str) -> Self {
        let name = format!("pilotlight-test-{}", std::process::id());
        let (parent, key) = match std::path::Path::new("/sys/fs/cgroup/memory") {
            v1 if v1.is_dir() => (v1.to_owned(), "memory.limit_in_bytes"),
            _ => (std::path::PathBuf::from("/sys/fs/cgroup"), "memory.max"),
        };
        if key == "memory.max" {
            let _on_already = std::fs::write(parent.join("cgroup.subtree_control"), "+memory");
        }
        let group = Self(parent.join(name));
        std::fs::create_dir(&group.0)
            .expect("a memory cgroup; these tests run as root with cgroups that can be written");
        std::fs::write(group.0.join(key), limit).expect("a limit");
        // Where there is swap it would put the end off.
        let _no_swap = std::fs::write(group.0.join("memory.swap.max"), "0");
        group
    }
}

impl Drop for MemoryGroup {
    fn drop(&mut self) {
        for _ in 0..500 {
            if std::fs::remove_dir(&self.0).is_ok() {
                return;
            }
            // The kernel takes a moment to see that its processes are gone.
            std::thread::park_timeout(Duration::from_millis(10));
        }
    }
}

#[test]
fn worker_killed_for_its_memory() {
    let server = Server::start();
    let group = MemoryGroup::new("64M");
    let mut setup = Setup::joining(server.serf, &[]).option("restart-backoff-min", "500ms");
    let stub: Vec<String> = setup.worker.iter().map(|word| format!("'{word}'")).collect();
    let eat = setup.dir.path().join("eat").display().to_string();
    let script = format!(
        "echo $$ > {}/cgroup.procs; {} & serving=$!; while kill -0 $serving; do [ -e {eat} ] && {{ rm {eat}; exec python3 -c 'x = bytearray(1 << 30)'; }}; sleep 0.02; done",
        group.0.display(),
        stub.join(" "),
    );
    setup.worker = ["sh", "-c", &script].map(str::to_owned).to_vec();
    let supervisor = setup.start();
    let worker = passing(&supervisor, &server);
    let observer = Observer::begin(&server, "demo");
    std::fs::write(&eat, "").expect("written");
    let status = supervisor.wait_for_status("another worker", |status| {
        status["worker"]["restarts"] == 1 && status["phase"] == "passing"
    });
    assert_eq!(status["worker"]["last_exit"], "was ended by SIGKILL");
    server.wait_for_instances("demo", (1, 1));
    let entry = Entry::of(&observer, &server, "demo");
    record(
        "worker killed for its memory",
        "a memory cgroup of 64 MiB, and a worker that takes a GiB",
        entry,
        Worker::of(worker, &supervisor),
        Exit::GoesOn,
    );
}

#[test]
fn supervisor_killed() {
    let server = Server::start();
    let mut supervisor = Setup::joining(server.serf, &[]).start();
    let worker = passing(&supervisor, &server);
    let agent = pid_of(&supervisor.status().expect("a status"), "agent");
    supervisor.signal(libc::SIGKILL);
    let exit = Exit::of(supervisor.wait());
    wait_for("the children to die", || (!alive(worker) && !alive(agent)).then_some(()));
    server.wait_for_instances("demo", (1, 0));
    record(
        "supervisor killed",
        "KILL to the supervisor, with which its children die; Consul forgets the failed node after 72 hours",
        Entry::Critical,
        Worker::Dead,
        exit,
    );
}

#[test]
fn supervisor_killed_beside_a_shared_agent() {
    let server = Server::start();
    let address = format!("127.0.0.1:{}", server.http);
    let setup =
        Setup::joining(server.serf, &[]).option("agent", "external").option("agent-http-addr", &address);
    let mut supervisor = setup.option("check-ttl", "1s").start();
    let worker = passing(&supervisor, &server);
    supervisor.signal(libc::SIGKILL);
    let exit = Exit::of(supervisor.wait());
    wait_for("the worker to die", || (!alive(worker)).then_some(()));
    server.wait_for_instances("demo", (1, 0));
    // A minute, and up to half a minute more until Consul looks (its documentation on checks).
    let began = Instant::now();
    while server.instances("demo").0 > 0 {
        assert!(began.elapsed() < Duration::from_secs(100), "deregister-critical-after has passed");
        std::thread::park_timeout(Duration::from_millis(200));
    }
    let done = "KILL to the supervisor; critical within check.ttl, removed by Consul after check.deregister-critical-after";
    record("supervisor killed beside a shared agent", done, Entry::Gone, Worker::Dead, exit);
}
