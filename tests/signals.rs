//! Signals on their way through the supervisor to the worker.

mod harness;

use harness::{STUB_WORKER, SUPERVISOR, Setup, Supervisor, alive, pid_of, signal, wait_for};

const TSTP: i32 = libc::SIGTSTP;
/// What no process can catch.
const UNCATCHABLE: [i32; 2] = [libc::SIGKILL, libc::SIGSTOP];
/// What the C library keeps for itself.
const INTERNAL: [i32; 2] = [32, 33];
/// What suspends the supervisor, once it has handed it on.
const SUSPENDING: [i32; 3] = [TSTP, libc::SIGTTIN, libc::SIGTTOU];

fn lines(path: &std::path::Path) -> Vec<String> {
    std::fs::read_to_string(path).unwrap_or_default().lines().map(str::to_owned).collect()
}

/// A plain init of a worker that writes every signal down.
struct Listening {
    supervisor: Supervisor,
    expected: Vec<String>,
}

impl Listening {
    fn start(options: &[&str]) -> Self {
        let mut setup = Setup::plain(&[]);
        let file = setup.dir.path().join("signals").display().to_string();
        setup.options.extend(options.iter().map(|word| (*word).to_owned()));
        setup.worker.extend(["--all-signals".to_owned(), file]);
        let mut listening = Self { supervisor: setup.start(), expected: vec!["ready".to_owned()] };
        listening.hears(&[]);
        listening
    }

    /// The worker has heard what was expected before, and then this.
    fn hears(&mut self, signals: &[i32]) {
        self.expected.extend(signals.iter().map(ToString::to_string));
        let path = self.supervisor.path("signals");
        wait_for(&format!("{:?}", self.expected), || (lines(&path) == self.expected).then_some(()));
    }

    fn is_suspended(&self) -> bool {
        let stat =
            std::fs::read_to_string(format!("/proc/{}/stat", self.supervisor.pid())).unwrap_or_default();
        stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('T'))
    }

    fn worker(&self) -> i32 {
        pid_of(&self.supervisor.status().expect("a status"), "worker")
    }
}

/// All signals that can be handed on, without those that are left out.
fn all_but(left_out: &[i32]) -> impl Iterator<Item = i32> {
    let left_out: Vec<i32> = [left_out, &UNCATCHABLE, &INTERNAL, &SUSPENDING, &[libc::SIGCHLD]].concat();
    (1..=64).filter(move |number| !left_out.contains(number))
}

#[test]
fn every_signal_that_is_not_ours_reaches_the_worker() {
    let mut listening = Listening::start(&[]);
    for number in all_but(&[libc::SIGHUP, libc::SIGINT, libc::SIGTERM]) {
        listening.supervisor.signal(number);
        listening.hears(&[number]);
    }
    let worker = listening.worker();
    listening.supervisor.signal(libc::SIGTERM);
    listening.hears(&[libc::SIGTERM]);
    signal(worker, libc::SIGKILL);
    assert_eq!(listening.supervisor.wait().code(), Some(137));
}

#[test]
fn a_proxy_hands_on_those_too_that_would_stop_or_reload_and_ends_with_its_worker() {
    let mut listening = Listening::start(&["--proxy-signals"]);
    for number in all_but(&[]) {
        listening.supervisor.signal(number);
        listening.hears(&[number]);
    }
    assert_eq!(listening.supervisor.wait_for_phase("running")["stopping"], false);
    signal(listening.worker(), libc::SIGUSR1);
    listening.hears(&[libc::SIGUSR1]);
    signal(listening.worker(), libc::SIGKILL);
    assert_eq!(listening.supervisor.wait().code(), Some(137), "as a shell has it");
}

#[test]
fn a_proxy_ends_with_the_signals_status_and_can_be_stopped_while_no_worker_lives() {
    let mut supervisor = Setup::shell("exec sleep 1000").switch("proxy-signals").start();
    supervisor.wait_for_phase("running");
    supervisor.signal(libc::SIGTERM);
    assert_eq!(supervisor.wait().code(), Some(143), "not our TERM: it was only handed on");

    let mut supervisor = Setup::shell("exit 3")
        .switch("proxy-signals")
        .option("restart-policy", "always")
        .option("restart-backoff-min", "1h")
        .option("restart-backoff-max", "1h")
        .start();
    supervisor.wait_for_status("back-off", |status| status["worker"]["state"] == "backoff");
    supervisor.signal(libc::SIGTERM);
    assert_eq!(supervisor.wait().code(), Some(3));
}

#[test]
fn a_suspended_supervisor_has_suspended_its_worker_first_and_both_go_on() {
    for number in SUSPENDING {
        let mut listening = Listening::start(&[]);
        listening.supervisor.signal(number);
        listening.hears(&[number]);
        wait_for("the supervisor to be suspended", || listening.is_suspended().then_some(()));
        listening.supervisor.signal(libc::SIGCONT);
        listening.hears(&[libc::SIGCONT]);
        wait_for("the supervisor to go on", || (!listening.is_suspended()).then_some(()));
        listening.supervisor.signal(libc::SIGUSR2);
        listening.hears(&[libc::SIGUSR2]);
    }
}

#[test]
fn rewritten_signals_reach_the_worker_as_others_or_not_at_all() {
    let mut listening = Listening::start(&[
        "--rewrite-signal=TERM:QUIT",
        "--rewrite-signal=SIGUSR1:RTMIN+2",
        "--rewrite-signal=28:0",
    ]);
    listening.supervisor.signal(libc::SIGWINCH);
    listening.supervisor.signal(libc::SIGUSR1);
    listening.hears(&[36]);
    listening.supervisor.signal(libc::SIGTERM);
    listening.hears(&[libc::SIGQUIT]);
}

#[test]
fn a_worker_that_ends_by_what_term_was_rewritten_to_has_ended_on_request() {
    let mut supervisor = Setup::shell("exec sleep 1000").option("rewrite-signal", "TERM:USR1").start();
    supervisor.wait_for_phase("running");
    supervisor.signal(libc::SIGTERM);
    assert_eq!(supervisor.wait().code(), Some(0));
}

#[test]
fn a_signal_reaches_the_group_or_the_child_alone_and_kill_always_the_group() {
    for (scope, reached) in [("group", true), ("child", false)] {
        let mut setup = Setup::plain(&[]);
        let (file, pid) = (setup.dir.path().join("signals"), setup.dir.path().join("pid"));
        let script = format!(
            "trap '' USR1; {STUB_WORKER} --all-signals {} & echo $! > {}; while :; do wait; done",
            file.display(),
            pid.display()
        );
        setup.worker = ["sh", "-c", &script].map(str::to_owned).to_vec();
        let mut supervisor = setup.option("signal-scope", scope).option("stop-timeout", "1s").start();
        wait_for("the grandchild", || (lines(&file) == ["ready"]).then_some(()));
        let grandchild: i32 = lines(&pid).first().and_then(|pid| pid.parse().ok()).expect("a pid");
        supervisor.signal(libc::SIGUSR1);
        // By the time the second one is counted the first has gone where it goes.
        supervisor.signal(libc::SIGUSR1);
        wait_for("two signals", || supervisor.log().contains("SIGUSR1").then_some(()));
        signal(grandchild, libc::SIGUSR2);
        let expected: &[&str] = if reached { &["ready", "10", "12"] } else { &["ready", "12"] };
        wait_for(scope, || {
            let mut heard = lines(&file);
            heard.dedup();
            (heard == expected).then_some(())
        });
        supervisor.signal(libc::SIGTERM);
        supervisor.wait();
        assert!(!alive(grandchild), "{scope}");
    }
}

#[test]
fn an_exit_status_that_is_ok_is_0_and_no_failure() {
    for (script, ok, expected) in
        [("exit 3", "3", 0), ("exit 3", "4", 3), ("kill -TERM $$", "143", 0), ("exit 5", "3,5", 0)]
    {
        let setup = Setup::shell(script).option("exit-ok", ok).option("restart-policy", "on-failure");
        let setup = setup.option("restart-limit", "0");
        assert_eq!(setup.output().status.code(), Some(expected), "{script} with {ok}");
    }
}

#[test]
fn the_supervisor_gets_the_signal_that_it_wants_when_its_parent_dies() {
    let setup = Setup::shell("exec sleep 1000").option("parent-death-signal", "TERM");
    let dir = setup.dir.path().display().to_string();
    let script = format!("{SUPERVISOR} run {} & echo $! > {dir}/pid; exec sleep 1000", setup.quoted());
    let mut parent = std::process::Command::new("sh").args(["-c", &script]).spawn().expect("a shell");
    wait_for("the socket", || setup.dir.path().join("control.sock").exists().then_some(()));
    let pid: i32 =
        lines(&setup.dir.path().join("pid")).first().and_then(|pid| pid.parse().ok()).expect("a pid");
    assert!(alive(pid));
    parent.kill().expect("killed");
    parent.wait().expect("reaped");
    wait_for("the end", || (!alive(pid)).then_some(()));
}

#[test]
fn what_cannot_be_is_refused_with_what_could() {
    let setup = Setup::plain(&[]).option("rewrite-signal", "KILL:TERM").option("exit-ok", "256");
    let setup = setup.option("parent-death-signal", "NONE").option("signal-scope", "all");
    let output = setup.output();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{said}");
    for expected in [
        "signals.rewrite = \"KILL:TERM\"",
        "worker.exit-ok = \"256\"",
        "signals.parent-death = \"NONE\"",
        "signals.scope = \"all\"",
    ] {
        assert!(said.contains(expected), "{expected}: {said}");
    }
    let mut setup = Setup::joining(1, &[]);
    setup.options.push("--proxy-signals".to_owned());
    let said = String::from_utf8_lossy(&setup.output().stderr).into_owned();
    assert!(said.contains("signals.proxy = \"true\" (--proxy-signals): --agent none"), "{said}");
}
