//! ACLs that deny by default, TLS and encrypted gossip: with real agents and servers that have all of it on, what is wrong is said, and
//! mended without a restart.

mod harness;

use harness::secure::{Authority, Locked, replace};
use harness::{Server, Setup, Supervisor, pid_of, wait_for};
use serde_json::{Value, json};

fn is_passing(server: &Server) -> bool {
    server.instances("demo") == (1, 1)
}

/// Waits until the reason in the status has all these words.
fn wait_for_reason(supervisor: &Supervisor, words: &[&str]) -> Value {
    supervisor.wait_for_status(&format!("{words:?} in the reason"), |status| {
        words.iter().all(|word| text(status, "/reason").contains(word))
    })
}

fn text<'a>(status: &'a Value, pointer: &str) -> &'a str {
    status.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

#[test]
fn with_everything_locked_the_shipped_policy_is_enough_from_start_to_stop() {
    let locked = Locked::start();
    let mut supervisor = locked.setup(&[]).start();
    let status = supervisor.wait_for_phase("passing");
    assert!(is_passing(&locked.server));
    let agent = &status["agent"];
    assert_eq!((&agent["members"], &agent["ready"]), (&json!(2), &json!(true)), "{agent}");
    assert!(agent["leader"].as_str().expect("leader").starts_with("127.0.0.1:"), "{agent}");
    assert!(agent["version"].as_str().expect("version").contains('.'), "{agent}");
    supervisor.set_health("503");
    locked.server.wait_for_instances("demo", (1, 0));
    supervisor.set_health("200");
    locked.server.wait_for_instances("demo", (1, 1));
    // Nobody else can use the agent's API, the worker beside it included.
    let socket = supervisor.path("consul.sock");
    let asked = std::process::Command::new(harness::consul())
        .args(["catalog", "services"])
        .env("CONSUL_HTTP_ADDR", format!("unix://{}", socket.display()))
        .output()
        .expect("consul");
    assert_eq!(String::from_utf8_lossy(&asked.stdout).trim(), "", "nothing is shown without a token");
    supervisor.signal(libc::SIGTERM);
    assert_eq!(supervisor.wait().code(), Some(0), "{}", supervisor.log());
    assert_eq!(locked.server.instances("demo").0, 0);
    assert!(!supervisor.log().contains("nobody can tell"), "{}", supervisor.log());
}

#[test]
fn a_token_is_rotated_without_a_restart_of_anything() {
    let locked = Locked::start();
    let setup = Setup::joining(locked.server.serf, &[]);
    let old = locked.token_for(&setup);
    let new = locked.token_for(&setup);
    let supervisor = locked.lock(setup, &old.secret).start();
    let before = supervisor.wait_for_phase("passing");
    replace(&supervisor.path("token"), &new.secret);
    let taken = || {
        let log = supervisor.log();
        let rest = log.split("the agent takes what was replaced").nth(1)?;
        rest.contains("phase=\"passing\"").then_some(())
    };
    wait_for("the new token, all the time in the passing set", || {
        assert_eq!(locked.server.instances("demo"), (1, 1), "{:?}", locked.server.checks("demo"));
        taken()
    });
    locked.revoke(&old);
    // The agent delivers a check's news with the token that the entry was registered with.
    supervisor.set_health("503");
    locked.server.wait_for_instances("demo", (1, 0));
    supervisor.set_health("200");
    locked.server.wait_for_instances("demo", (1, 1));
    let after = supervisor.wait_for_phase("passing");
    for role in ["agent", "worker"] {
        assert_eq!(pid_of(&before, role), pid_of(&after, role));
    }
    let written = std::fs::read_to_string(supervisor.path("agent/supervisor.json")).expect("configuration");
    assert!(written.contains(&new.secret) && !written.contains(&old.secret));
}

#[test]
fn a_token_that_is_wrong_is_named_and_a_right_one_in_its_place_is_taken() {
    let locked = Locked::start();
    let setup = Setup::joining(locked.server.serf, &[]);
    let right = locked.token_for(&setup);
    let supervisor = locked.lock(setup, "6e6f7065-0000-0000-0000-000000000000").start();
    let file = supervisor.path("token").display().to_string();
    let status = wait_for_reason(&supervisor, &["403 ACL not found", &file, "put a valid one there"]);
    assert_eq!((&status["phase"], &status["healthy"]), (&json!("starting"), &json!(true)));
    replace(&supervisor.path("token"), &right.secret);
    let status = supervisor.wait_for_phase("passing");
    assert_eq!(status["agent"]["restarts"], 0);
}

#[test]
fn a_token_that_is_revoked_is_noticed_and_its_successor_is_taken() {
    let locked = Locked::start();
    let setup = Setup::joining(locked.server.serf, &[]);
    let (old, new) = (locked.token_for(&setup), locked.token_for(&setup));
    let supervisor = locked.lock(setup, &old.secret).option("check-ttl", "3s").start();
    supervisor.wait_for_phase("passing");
    locked.revoke(&old);
    wait_for_reason(&supervisor, &["403 ACL not found", "wrong, expired or revoked"]);
    replace(&supervisor.path("token"), &new.secret);
    supervisor.wait_for_phase("passing");
    assert!(is_passing(&locked.server));
}

#[test]
fn a_permission_that_is_missing_is_named_as_it_stands_in_a_policy() {
    let locked = Locked::start();
    let setup = Setup::joining(locked.server.serf, &[]);
    let node = format!("node-{}", setup.port);
    let whole = Locked::policy("demo", &node);
    let service = "service \"demo\" { policy = \"write\" }";
    let agent = format!("agent \"{node}\" {{ policy = \"read\" }}");
    let nodes = ["read", "write"].map(|access| format!("node \"{node}\" {{ policy = \"{access}\" }}"));
    locked.set_policy(&node, service);
    let token = locked.token(&node);
    let supervisor = locked.lock(setup, &token.secret).start();
    wait_for_reason(&supervisor, &["403 Permission denied", "add to its policy", &agent]);
    locked.set_policy(&node, &format!("{service} {agent}"));
    wait_for_reason(&supervisor, &["add to its policy", &nodes[0]]);
    locked.set_policy(&node, &format!("{service} {agent} {}", nodes[0]));
    // That is enough for the entry, and the agent says what it would still do.
    supervisor.wait_for_phase("passing");
    supervisor.wait_for_status("the agent's own permission", |status| {
        let detail = status["agent"]["detail"].as_str().unwrap_or_default();
        detail.contains("add to its policy") && detail.contains(&nodes[1])
    });
    locked.set_policy(&node, &whole);
    supervisor.wait_for_status("nothing to mend", |status| {
        let detail = status["agent"]["detail"].as_str().unwrap_or_default();
        status["phase"] == "passing" && !detail.contains("policy")
    });
}

#[test]
fn an_entry_that_may_not_be_written_is_named_as_it_stands_in_a_policy() {
    let locked = Locked::start();
    let setup = Setup::joining(locked.server.serf, &[]);
    let node = format!("node-{}", setup.port);
    let whole = Locked::policy("demo", &node);
    locked.set_policy(&node, &whole.replace("service \"demo\"", "service \"other\""));
    let token = locked.token(&node);
    let supervisor = locked.lock(setup, &token.secret).start();
    let service = "service \"demo\" { policy = \"write\" }";
    wait_for_reason(&supervisor, &["catalog: 403 Permission denied", "add to its policy", service]);
    locked.set_policy(&node, &whole);
    wait_for("passing", || supervisor.status().filter(|status| status["phase"] == "passing"));
}

#[test]
fn a_removal_that_nobody_may_look_at_is_not_called_confirmed() {
    let locked = Locked::start();
    let setup = Setup::joining(locked.server.serf, &[]);
    let node = format!("node-{}", setup.port);
    let whole = Locked::policy("demo", &node);
    locked.set_policy(&node, &whole);
    let token = locked.token(&node);
    let mut supervisor = locked.lock(setup, &token.secret).start();
    supervisor.wait_for_phase("passing");
    let blind = format!("service \"demo\" {{ policy = \"write\" }} agent \"{node}\" {{ policy = \"read\" }}");
    locked.set_policy(&node, &blind);
    let rule = format!("node \"{node}\" {{ policy = \"read\" }}");
    wait_for_reason(&supervisor, &["add to its policy", &rule]);
    supervisor.signal(libc::SIGTERM);
    assert_eq!(supervisor.wait().code(), Some(0), "{}", supervisor.log());
    let log = supervisor.log();
    let line = log.lines().find(|line| line.contains("nobody can tell whether it is gone"));
    assert!(line.is_some_and(|line| line.contains("node-")), "{log}");
}

fn wait_for_detail(supervisor: &Supervisor, words: &[&str]) {
    supervisor.wait_for_status(&format!("{words:?} in the agent's detail"), |status| {
        words.iter().all(|word| text(status, "/agent/detail").contains(word))
    });
}

#[test]
fn servers_of_another_ca_are_named_and_the_right_ca_in_its_place_is_taken() {
    let locked = Locked::start();
    let setup = locked.setup(&[]);
    let dir = setup.dir.path().to_owned();
    replace(&dir.join("ca.pem"), std::fs::read(Authority::new().ca()).expect("CA"));
    let supervisor = setup.start();
    wait_for_detail(
        &supervisor,
        &["x509: certificate signed by unknown authority", "agent.ca-file holds another CA"],
    );
    assert_eq!(supervisor.status().expect("status")["worker"]["state"], "running");
    replace(&dir.join("ca.pem"), std::fs::read(locked.authority.ca()).expect("CA"));
    let status = supervisor.wait_for_phase("passing");
    assert_eq!(status["agent"]["restarts"], 0);
}

#[test]
fn a_certificate_that_the_servers_do_not_take_is_named_and_a_right_one_in_its_place_is_taken() {
    let locked = Locked::start();
    let setup = locked.setup(&[]);
    let dir = setup.dir.path().to_owned();
    let stranger = Authority::new();
    let put = |of: [std::path::PathBuf; 2]| {
        for (from, to) in of.iter().zip(["cert.pem", "key.pem"]) {
            replace(&dir.join(to), std::fs::read(from).expect("PEM"));
        }
    };
    let right = ["cert.pem", "key.pem"].map(|name| {
        let kept = dir.join(format!("right-{name}"));
        std::fs::copy(dir.join(name), &kept).expect("copied");
        kept
    });
    put(stranger.client());
    let supervisor = setup.start();
    wait_for_detail(&supervisor, &["the servers hang up", "agent.cert-file must be a valid certificate"]);
    put(right);
    let status = supervisor.wait_for_phase("passing");
    assert_eq!(status["agent"]["restarts"], 0);
}

#[test]
fn another_gossip_key_is_named_and_the_right_one_is_taken_with_the_next_agent() {
    let locked = Locked::start();
    let setup = locked.setup(&[]);
    let file = setup.dir.path().join("gossip-key");
    replace(&file, "c29tZWJvZHkgZWxzZSdzIGtleSBvZiAzMiBieXRlcy4=");
    let supervisor = setup.start();
    wait_for_detail(
        &supervisor,
        &["500 No known Consul servers", "its gossip key is another (agent.encrypt-file)"],
    );
    replace(&file, &locked.gossip_key);
    for words in [&["reload"][..], &["restart", "agent", "--no-wait"]] {
        let output = supervisor.cli(words);
        assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
    }
    supervisor.wait_for_phase("passing");
}

#[test]
fn with_auto_encrypt_the_ca_alone_is_enough() {
    let locked = Locked::start();
    let mut setup = locked.setup(&[]);
    for flag in ["--agent-cert-file", "--agent-key-file"] {
        let at = setup.options.iter().position(|word| word == flag).expect("there");
        setup.options.drain(at..at + 2);
    }
    setup.options.push("--agent-auto-encrypt".to_owned());
    let mut supervisor = setup.start();
    supervisor.wait_for_phase("passing");
    supervisor.signal(libc::SIGTERM);
    assert_eq!(supervisor.wait().code(), Some(0), "{}", supervisor.log());
    assert_eq!(locked.server.instances("demo").0, 0);
}

/// An instance that uses the server's own agent over HTTPS, told everything by Consul's own variables. Its files: `ca.pem`, `cert.pem`,
/// `key.pem`, `token`.
fn external(locked: &Locked) -> Setup {
    let setup = Setup::joining(locked.server.serf, &[]).option("agent", "external");
    locked.set_policy("external", &Locked::policy("demo", "server"));
    let token = locked.token("external").secret;
    let mut setup = locked.lock(setup, &token);
    for flag in ["http-addr", "encrypt-file", "ca-file", "cert-file", "key-file", "token-file"] {
        let flag = format!("--agent-{flag}");
        let at = setup.options.iter().position(|word| *word == flag).expect("there");
        setup.options.drain(at..at + 2);
    }
    let dir = setup.dir.path().display().to_string();
    setup
        .variable("CONSUL_HTTP_ADDR", &format!("127.0.0.1:{}", locked.https))
        .variable("CONSUL_HTTP_SSL", "true")
        .variable("CONSUL_CACERT", &format!("{dir}/ca.pem"))
        .variable("CONSUL_CLIENT_CERT", &format!("{dir}/cert.pem"))
        .variable("CONSUL_CLIENT_KEY", &format!("{dir}/key.pem"))
        .variable("CONSUL_TLS_SERVER_NAME", "server.dc1.consul")
        .variable("CONSUL_HTTP_TOKEN_FILE", &format!("{dir}/token"))
}

#[test]
fn an_agent_that_is_not_ours_is_asked_by_mutual_tls_as_consuls_own_variables_say() {
    let locked = Locked::start();
    let mut supervisor = external(&locked).start();
    let status = supervisor.wait_for_phase("passing");
    assert!(is_passing(&locked.server));
    assert_eq!(status["agent"]["api"], json!(format!("https://127.0.0.1:{}", locked.https)));
    assert_eq!(status["agent"]["members"], 1);
    supervisor.signal(libc::SIGTERM);
    assert_eq!(supervisor.wait().code(), Some(0), "{}", supervisor.log());
    assert_eq!(locked.server.instances("demo").0, 0);
}

#[test]
fn https_that_goes_wrong_is_named_with_the_variable_that_mends_it() {
    let locked = Locked::start();
    let set = |name: &str, value: &str| {
        let mut setup = external(&locked);
        setup.variables.retain(|(known, _)| known != name);
        if value.is_empty() { setup } else { setup.variable(name, value) }
    };
    let stranger = Authority::new();
    let plain = format!("http://127.0.0.1:{}", locked.server.http);
    let address = format!("127.0.0.1:{}", locked.https);
    for (setup, words) in [
        (set("CONSUL_CACERT", &stranger.ca().display().to_string()), "(CONSUL_CACERT)"),
        (set("CONSUL_TLS_SERVER_NAME", "elsewhere.example"), "(CONSUL_TLS_SERVER_NAME)"),
        (set("CONSUL_HTTP_ADDR", &plain), "use http:// in agent.http-addr (CONSUL_HTTP_ADDR)"),
        (
            set("CONSUL_HTTP_SSL", "0").variable("CONSUL_HTTP_ADDR", &address),
            "use https:// in agent.http-addr",
        ),
    ] {
        let supervisor = setup.start();
        wait_for_reason(&supervisor, &["agent: ", words]);
    }
    let mut without = external(&locked);
    without.variables.retain(|(name, _)| !name.starts_with("CONSUL_CLIENT"));
    wait_for_reason(&without.start(), &["agent: ", "(CONSUL_CLIENT_CERT, CONSUL_CLIENT_KEY)"]);
    // Whoever asks for it has no verification.
    let mut unverified = set("CONSUL_CACERT", "").variable("CONSUL_HTTP_SSL_VERIFY", "false");
    unverified.variables.retain(|(name, _)| name != "CONSUL_TLS_SERVER_NAME");
    unverified.start().wait_for_phase("passing");
}

#[test]
fn a_client_certificate_is_renewed_without_a_restart() {
    let locked = Locked::start();
    let setup = external(&locked);
    let dir = setup.dir.path().to_owned();
    let right = std::fs::read(dir.join("ca.pem")).expect("CA");
    replace(&dir.join("ca.pem"), std::fs::read(Authority::new().ca()).expect("CA"));
    let supervisor = setup.start();
    wait_for_reason(&supervisor, &["(CONSUL_CACERT)"]);
    replace(&dir.join("ca.pem"), "not a certificate");
    wait_for_reason(
        &supervisor,
        &["ca.pem holds no certificate or key in PEM; the earlier one is still used"],
    );
    replace(&dir.join("ca.pem"), right);
    supervisor.wait_for_phase("passing");
}

#[test]
fn an_agent_behind_a_unix_socket_is_asked_as_consuls_own_variable_says() {
    let server = Server::start();
    let host = Setup::joining(server.serf, &[]).option("service-name", "host").start();
    host.wait_for_phase("passing");
    let mut setup = Setup::joining(server.serf, &[]).option("agent", "external");
    let at = setup.options.iter().position(|word| word == "--agent-http-addr").expect("there");
    setup.options.drain(at..at + 2);
    let socket = format!("unix://{}", host.path("consul.sock").display());
    let supervisor = setup.variable("CONSUL_HTTP_ADDR", &socket).start();
    let status = supervisor.wait_for_phase("passing");
    assert_eq!(status["agent"]["api"], json!(socket));
    assert!(is_passing(&server));
}

/// The process and all below it, by `/proc`.
fn family(root: i32) -> Vec<i32> {
    let parent = |pid: i32| -> Option<i32> {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()
    };
    let all: Vec<i32> = std::fs::read_dir("/proc")
        .expect("proc")
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .collect();
    let mut family = vec![root];
    while let Some(next) =
        all.iter().find(|pid| !family.contains(pid) && parent(**pid).is_some_and(|pid| family.contains(&pid)))
    {
        family.push(*next);
    }
    family
}

#[test]
fn no_secret_is_in_any_command_line_environment_log_or_status() {
    let locked = Locked::start();
    let setup = Setup::joining(locked.server.serf, &[]);
    let (token, own) = (locked.token_for(&setup), locked.token_for(&setup));
    let mut setup = locked.lock(setup, &token.secret);
    // The token itself in the variable, and the agent's own in a file.
    let at = setup.options.iter().position(|word| word == "--agent-token-file").expect("there");
    let file = setup.options.drain(at..at + 2).next_back().expect("a file");
    replace(file.as_ref(), &own.secret);
    let setup = setup
        .option("agent-own-token-file", &file)
        .option("log-level", "trace")
        .option("agent-log-level", "trace")
        .variable("CONSUL_HTTP_TOKEN", &token.secret)
        .variable("CONSUL_HTTP_AUTH", "user:passw0rd");
    let key = std::fs::read_to_string(setup.dir.path().join("key.pem")).expect("key");
    let secrets = [
        token.secret.as_str(),
        &own.secret,
        &locked.gossip_key,
        "passw0rd",
        key.lines().nth(1).expect("a line of the key"),
    ];
    let shown = setup.output_of(&["config", "show"]);
    assert!(String::from_utf8_lossy(&shown.stdout).contains("(set)"), "{shown:?}");
    let mut supervisor = setup.start();
    let status = supervisor.wait_for_phase("passing");
    let mut places = vec![
        ("config show".to_owned(), [shown.stdout, shown.stderr].concat()),
        ("status".to_owned(), supervisor.cli(&["status"]).stdout),
        ("status --json".to_owned(), status.to_string().into_bytes()),
    ];
    let family = family(supervisor.pid());
    assert_eq!(family.len(), 3, "the supervisor, the agent and the worker");
    for pid in family {
        let mut look = |what: &str| {
            let path = format!("/proc/{pid}/{what}");
            places
                .push((path.clone(), std::fs::read(&path).unwrap_or_else(|error| panic!("{path}: {error}"))));
        };
        look("cmdline");
        // The supervisor's own is where the token was put; who can read it is the next test's.
        if pid != supervisor.pid() {
            look("environ");
        }
    }
    // Where a secret has to be, nobody else can read it.
    use std::os::unix::fs::PermissionsExt;
    let mut holders = 0;
    for file in files_below(&supervisor.path("agent")) {
        let text = std::fs::read(&file).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        if secrets.iter().any(|secret| text.contains(secret)) {
            let mode = std::fs::metadata(&file).expect("metadata").permissions().mode();
            assert_eq!(mode & 0o077, 0, "{} is {mode:o}", file.display());
            holders += 1;
        }
    }
    assert!(holders >= 2, "the configuration and the registration: {holders}");
    supervisor.signal(libc::SIGTERM);
    assert_eq!(supervisor.wait().code(), Some(0), "{}", supervisor.log());
    places.push(("the log".to_owned(), supervisor.log().into_bytes()));
    assert!(supervisor.log().len() > 10_000, "everything is logged");
    for (place, text) in &places {
        let text = String::from_utf8_lossy(text);
        for secret in secrets {
            assert!(!text.contains(secret), "a secret is in {place}: {text}");
        }
    }
}

#[test]
fn a_supervisor_with_secrets_can_be_looked_into_by_root_only() {
    use std::os::unix::fs::{MetadataExt, PermissionsExt};
    use std::os::unix::process::CommandExt;
    const NOBODY: u32 = 65534;
    // Where nobody can run it.
    let dir = tempfile::tempdir().expect("folder");
    std::fs::set_permissions(dir.path(), PermissionsExt::from_mode(0o777)).expect("open to all");
    let program = dir.path().join("supervisor");
    std::fs::copy(harness::SUPERVISOR, &program).expect("copied");
    let owners = |token: &str| {
        let mut command = std::process::Command::new(&program);
        command.args(["run", "--no-agent", "--control-socket"]).arg(dir.path().join("control.sock"));
        command.args(["--", "sleep", "60"]).env("CONSUL_HTTP_TOKEN", token).current_dir(dir.path());
        // SAFETY: geteuid(2) takes nothing and cannot fail.
        let root = unsafe { libc::geteuid() } == 0;
        if root {
            command.uid(NOBODY).gid(NOBODY);
        }
        let mut child = Ended(command.spawn().expect("supervisor"));
        let pid = i32::try_from(child.0.id()).expect("a pid");
        let worker = wait_for("the worker", || family(pid).get(1).copied().filter(|pid| is_sleep(*pid)));
        let owners =
            [pid, worker].map(|pid| std::fs::metadata(format!("/proc/{pid}/environ")).expect("proc").uid());
        harness::signal(pid, libc::SIGTERM);
        child.0.wait().expect("waited");
        let us = if root { NOBODY } else { std::fs::metadata(dir.path()).expect("folder").uid() };
        owners.map(|owner| {
            if owner == us {
                "us"
            } else if owner == 0 {
                "root"
            } else {
                "somebody"
            }
        })
    };
    // proc(5): what belongs to root there belongs to a process that leaves no core file and that its own user cannot trace.
    assert_eq!(owners("s3cr3t"), ["root", "us"], "the supervisor's, and the worker's as ever");
    assert_eq!(owners(""), ["us", "us"]);
}

/// Ended with the test, and its children with it.
struct Ended(std::process::Child);

impl Drop for Ended {
    fn drop(&mut self) {
        let _gone = self.0.kill();
        let _reaped = self.0.wait();
    }
}

fn is_sleep(pid: i32) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name.trim() == "sleep")
}

fn files_below(dir: &std::path::Path) -> Vec<std::path::PathBuf> {
    let entries = std::fs::read_dir(dir).expect("a folder").map(|entry| entry.expect("an entry").path());
    let (dirs, mut files): (Vec<_>, Vec<_>) = entries.partition(|path| path.is_dir());
    files.extend(dirs.iter().flat_map(|dir| files_below(dir)));
    files
}

#[test]
fn an_agent_whose_own_token_is_wrong_works_and_says_so() {
    let locked = Locked::start();
    let setup = locked.setup(&[]);
    let right = locked.token_for(&setup);
    let file = setup.dir.path().join("own-token");
    replace(&file, "6e6f7065-0000-0000-0000-000000000000");
    let supervisor = setup.option("agent-own-token-file", &file.display().to_string()).start();
    supervisor.wait_for_phase("passing");
    wait_for_detail(&supervisor, &["leader ", "the agent's own token", "unknown to Consul"]);
    replace(&file, &right.secret);
    supervisor.wait_for_status("nothing to mend", |status| {
        status["phase"] == "passing" && !text(status, "/agent/detail").contains("token")
    });
}

#[test]
fn that_there_is_no_token_where_there_must_be_one_is_said() {
    let locked = Locked::start();
    let mut setup = locked.setup(&[]);
    let at = setup.options.iter().position(|word| word == "--agent-token-file").expect("there");
    setup.options.drain(at..at + 2);
    let supervisor = setup.start();
    let rule = format!("node \"node-{}\" {{ policy = \"read\" }}", supervisor.port);
    wait_for_reason(&supervisor, &["the servers show nothing of the catalog", "no token is given", &rule]);
}
