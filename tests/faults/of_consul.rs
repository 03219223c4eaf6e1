//! The agent, the servers, and what keeps the two from trusting each other.

use crate::harness::secure::{Authority, Locked, replace};
use crate::harness::{Server, Setup, pid_of, signal, wait_for};
use crate::matrix::{Entry, Exit, Observer, Worker, passing, record};

#[test]
fn agent_killed() {
    let server = Server::start();
    let supervisor = Setup::joining(server.serf, &[]).start();
    let worker = passing(&supervisor, &server);
    let observer = Observer::begin(&server, "demo");
    let agent = pid_of(&supervisor.status().expect("a status"), "agent");
    signal(agent, libc::SIGKILL);
    supervisor.wait_for_status("another agent", |status| {
        status["agent"]["restarts"] == 1 && status["phase"] == "passing"
    });
    record(
        "agent killed",
        "KILL to the agent",
        Entry::of(&observer, &server, "demo"),
        Worker::of(worker, &supervisor),
        Exit::GoesOn,
    );
}

#[test]
fn agent_hangs() {
    let server = Server::start();
    let supervisor = Setup::joining(server.serf, &[]).start();
    let worker = passing(&supervisor, &server);
    let agent = pid_of(&supervisor.status().expect("a status"), "agent");
    signal(agent, libc::SIGSTOP);
    supervisor.wait_for_status("another agent", |status| {
        status["agent"]["restarts"] == 1 && status["phase"] == "passing"
    });
    server.wait_for_instances("demo", (1, 1));
    // The other members may notice the silence of its gossip before it is killed.
    let seen = Worker::of(worker, &supervisor);
    record(
        "agent hangs (SIGSTOP)",
        "STOP to the agent, which is killed and replaced",
        Entry::EndsPassing,
        seen,
        Exit::GoesOn,
    );
}

#[test]
fn agents_data_lost() {
    let server = Server::start();
    let supervisor = Setup::joining(server.serf, &[]).start();
    let worker = passing(&supervisor, &server);
    let agent = pid_of(&supervisor.status().expect("a status"), "agent");
    std::fs::remove_dir_all(supervisor.path("agent/data")).expect("removed");
    signal(agent, libc::SIGKILL);
    supervisor.wait_for_status("another agent", |status| {
        status["agent"]["restarts"] == 1 && status["phase"] == "passing"
    });
    server.wait_for_instances("demo", (1, 1));
    // For the moment between the new agent's first sync and the registration that follows it.
    let seen = Worker::of(worker, &supervisor);
    record(
        "agent's data lost",
        "its data folder removed, KILL to the agent",
        Entry::EndsPassing,
        seen,
        Exit::GoesOn,
    );
}

#[test]
fn agents_disk_full() {
    let server = Server::start();
    let setup = Setup::joining(server.serf, &[])
        .option("restart-backoff-min", "200ms")
        .option("restart-backoff-max", "200ms")
        .option("restart-limit", "1000");
    let data = setup.dir.path().join("agent").display().to_string();
    std::fs::create_dir(&data).expect("a folder");
    let script = format!("mount -t tmpfs -o size=2m none '{data}' && exec \"$0\" \"$@\"");
    let supervisor = setup.start_under(&["unshare", "--mount", "sh", "-c", &script]);
    let worker = passing(&supervisor, &server);
    let observer = Observer::begin(&server, "demo");
    // Seen through the supervisor's mount namespace.
    let full = format!("/proc/{}/root{data}/filler", supervisor.pid());
    let filled = std::fs::write(&full, vec![0; 4 << 20]).expect_err("no room for that");
    assert_eq!(filled.kind(), std::io::ErrorKind::StorageFull);
    signal(pid_of(&supervisor.status().expect("a status"), "agent"), libc::SIGKILL);
    wait_for("the reason", || {
        supervisor.log().to_lowercase().contains("no space left on device").then_some(())
    });
    std::fs::remove_file(&full).expect("removed");
    supervisor.wait_for_status("another agent", |status| {
        status["agent"]["ready"] == true && status["phase"] == "passing"
    });
    drop(observer);
    server.wait_for_instances("demo", (1, 1));
    let seen = Worker::of(worker, &supervisor);
    record(
        "agent's disk full",
        "its data folder filled, KILL to the agent, room made after some attempts",
        Entry::EndsPassing,
        seen,
        Exit::GoesOn,
    );
}

#[test]
fn all_servers_gone_and_back() {
    let mut server = Server::start();
    let supervisor = Setup::joining(server.serf, &[]).start();
    let worker = passing(&supervisor, &server);
    server.stop();
    supervisor.wait_for_status("no servers", |status| status["agent"]["ready"] == false);
    server.start_again();
    server.wait_for_instances("demo", (1, 1));
    supervisor.wait_for_phase("passing");
    let seen = Worker::of(worker, &supervisor);
    record(
        "all servers gone and back",
        "KILL to the only server, started again with its disk",
        Entry::EndsPassing,
        seen,
        Exit::GoesOn,
    );
}

#[test]
fn servers_state_lost() {
    let mut server = Server::start();
    let supervisor = Setup::joining(server.serf, &[]).start();
    let worker = passing(&supervisor, &server);
    let serf = server.serf;
    server.stop();
    let server = Server::start_on(serf);
    server.wait_for_instances("demo", (1, 1));
    supervisor.wait_for_phase("passing");
    let seen = Worker::of(worker, &supervisor);
    record(
        "servers' state lost",
        "KILL to the only server, another one with an empty disk in its place",
        Entry::EndsPassing,
        seen,
        Exit::GoesOn,
    );
}

#[test]
fn leader_lost() {
    let mut servers = Server::cluster();
    let setup = Setup::joining(servers[0].serf, &[]);
    let joined = servers
        .iter()
        .flat_map(|server| ["--agent-retry-join".to_owned(), format!("127.0.0.1:{}", server.serf)]);
    let mut setup = setup;
    setup.options.extend(joined);
    let supervisor = setup.start();
    let worker = passing(&supervisor, &servers[0]);
    let leader = wait_for("a leader", || servers.iter().position(Server::leads));
    let other = (leader + 1) % servers.len();
    let observer = Observer::begin(&servers[other], "demo");
    servers[leader].stop();
    let others: Vec<usize> = (0..servers.len()).filter(|number| *number != leader).collect();
    wait_for("another leader", || others.iter().any(|number| servers[*number].leads()).then_some(()));
    supervisor.wait_for_phase("passing");
    let entry = Entry::of(&observer, &servers[other], "demo");
    record(
        "leader lost",
        "KILL to the leader of three servers",
        entry,
        Worker::of(worker, &supervisor),
        Exit::GoesOn,
    );
}

#[test]
fn token_revoked() {
    let locked = Locked::start();
    let setup = Setup::joining(locked.server.serf, &[]);
    let token = locked.token_for(&setup);
    let supervisor = locked.lock(setup, &token.secret).start();
    let worker = passing(&supervisor, &locked.server);
    locked.revoke(&token);
    supervisor.wait_for_status("the reason", |status| {
        status["reason"].as_str().is_some_and(|reason| reason.contains("token"))
    });
    let successor = locked.token(&format!("node-{}", supervisor.port));
    replace(&supervisor.path("token"), &successor.secret);
    locked.server.wait_for_instances("demo", (1, 1));
    supervisor.wait_for_phase("passing");
    let seen = Worker::of(worker, &supervisor);
    record(
        "ACL token revoked",
        "the token revoked, later another one put into its file",
        Entry::EndsPassing,
        seen,
        Exit::GoesOn,
    );
}

#[test]
fn token_wrong() {
    let locked = Locked::start();
    let setup = Setup::joining(locked.server.serf, &[]);
    let token = locked.token_for(&setup);
    let supervisor = locked.lock(setup, "00000000-0000-0000-0000-000000000000").start();
    let status = supervisor.wait_for_status("the reason", |status| {
        status["reason"].as_str().is_some_and(|reason| reason.contains("ACL not found"))
    });
    let worker = pid_of(&status, "worker");
    assert_eq!(locked.server.instances("demo").0, 0);
    let seen = Worker::of(worker, &supervisor);
    record(
        "ACL token wrong",
        "a token that Consul does not know; status says so",
        Entry::Never,
        seen,
        Exit::GoesOn,
    );
    replace(&supervisor.path("token"), &token.secret);
    locked.server.wait_for_instances("demo", (1, 1));
}

#[test]
fn certificate_wrong() {
    let locked = Locked::start();
    let other = Authority::new();
    let setup = locked.setup(&[]);
    let good = std::fs::read(setup.dir.path().join("ca.pem")).expect("a CA");
    replace(&setup.dir.path().join("ca.pem"), std::fs::read(other.ca()).expect("a CA"));
    let supervisor = setup.start();
    supervisor.wait_for_status("the reason", |status| {
        status["reason"].as_str().is_some_and(|reason| reason.contains("certificate"))
    });
    assert_eq!(locked.server.instances("demo"), (0, 0));
    let worker = pid_of(&supervisor.status().expect("a status"), "worker");
    record(
        "certificate wrong",
        "a CA that has not signed the servers' certificates; status says so",
        Entry::Never,
        Worker::of(worker, &supervisor),
        Exit::GoesOn,
    );
    replace(&supervisor.path("ca.pem"), good);
    locked.server.wait_for_instances("demo", (1, 1));
}
