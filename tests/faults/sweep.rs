//! SIGTERM at every point of the life: no ghost in the catalog, no process left, no late exit.
//!
//! The moments lie on a grid over each stretch of the life, so the time that passes before each is the subject here, not a way to wait
//! for something. `PILOTLIGHT_SWEEP=300` takes that many moments; the default is what a test run has time for.

use std::collections::BTreeMap;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::harness::{self, Server, Setup, Supervisor, pid_of, show, signal, wait_for};
use crate::matrix::{Entry, Exit, Worker, record};

/// At once: instances spend most of a stop waiting.
const SIDE_BY_SIDE: usize = 8;
const MOMENTS: usize = 48;
/// The default of stop-timeout, what may come on top of it for the children's last lines, and what this machine may be late by while it
/// runs eight instances and their agents.
const LATEST: Duration = Duration::from_millis(9000 + 300 + 1000);
/// Tells the processes of one instance from all others.
const MARK: &str = "PILOTLIGHT_SWEEP_MARK";

/// A stretch of the life, and how long it takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Stretch {
    /// From exec to passing, and a little more.
    Start,
    /// From the worker's death over the back-off to its return.
    Backoff,
    /// From a request to drain until it is drained.
    Drain,
    /// From a request to restart the worker until it is back.
    Restart,
    /// From the agent's death until its successor is ready.
    AgentRestart,
    /// From a first SIGTERM to the exit.
    Stop,
}

const STRETCHES: [Stretch; 6] = [
    Stretch::Start,
    Stretch::Backoff,
    Stretch::Drain,
    Stretch::Restart,
    Stretch::AgentRestart,
    Stretch::Stop,
];

impl Stretch {
    /// So long that the last moments lie behind its end.
    fn length(self) -> Duration {
        match self {
            Self::Start => Duration::from_millis(1000),
            Self::Backoff => Duration::from_millis(500),
            Self::Drain => Duration::from_millis(1300),
            Self::Restart => Duration::from_millis(1800),
            Self::AgentRestart => Duration::from_millis(600),
            Self::Stop => Duration::from_millis(5500),
        }
    }

    /// Goes to its beginning.
    fn enter(self, server: &Server, setup: Setup, name: &str) -> Supervisor {
        let supervisor = setup.start();
        if self == Self::Start {
            return supervisor;
        }
        server.wait_for_instances(name, (1, 1));
        let status = supervisor.wait_for_phase("passing");
        match self {
            Self::Start => {}
            Self::Backoff => signal(pid_of(&status, "worker"), libc::SIGKILL),
            Self::AgentRestart => signal(pid_of(&status, "agent"), libc::SIGKILL),
            Self::Drain => assert!(supervisor.cli(&["drain", "--no-wait"]).status.success()),
            Self::Restart => assert!(supervisor.cli(&["restart", "worker", "--no-wait"]).status.success()),
            Self::Stop => supervisor.signal(libc::SIGTERM),
        }
        supervisor
    }
}

/// What was wrong after one stop.
#[derive(Debug, Default)]
struct Findings {
    ghosts: Vec<String>,
    survivors: Vec<String>,
    late: Vec<String>,
    statuses: Vec<String>,
}

#[test]
fn sigterm_at_any_moment_leaves_no_ghost_no_process_and_no_late_exit() {
    let moments =
        std::env::var("PILOTLIGHT_SWEEP").ok().and_then(|text| text.parse().ok()).unwrap_or(MOMENTS);
    let server = Server::start();
    let findings = Mutex::new(Findings::default());
    let longest = Mutex::new(BTreeMap::<Stretch, Duration>::new());
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..SIDE_BY_SIDE {
            scope.spawn(|| {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= moments {
                        return;
                    }
                    let (stretch, took) = one(&server, number, moments, &findings);
                    let mut longest = longest.lock().expect("not poisoned");
                    let known = longest.entry(stretch).or_default();
                    *known = took.max(*known);
                }
            });
        }
    });
    let mut findings = findings.into_inner().expect("not poisoned");
    // An entry that has come back since.
    for number in 0..moments {
        if server.instances(&name(number)).0 != 0 {
            findings.ghosts.push(format!("{number}, at the end"));
        }
    }
    show(&format!(
        "{moments} moments: {} ghosts, {} survivors, {} late exits, {} wrong statuses; longest from TERM to exit: {:?}",
        findings.ghosts.len(),
        findings.survivors.len(),
        findings.late.len(),
        findings.statuses.len(),
        longest.into_inner().expect("not poisoned"),
    ));
    let wrong = [&findings.ghosts, &findings.survivors, &findings.late, &findings.statuses];
    assert!(wrong.iter().all(|list| list.is_empty()), "{findings:#?}");
    let done =
        "TERM on a grid from exec to passing, over back-off, drain, restarts of either process, and a stop";
    record("SIGTERM at any point of the life", done, Entry::Gone, Worker::Dead, Exit::WithTheWorkers);
}

fn name(number: usize) -> String {
    format!("sweep-{number}")
}

/// One life, stopped at one moment.
fn one(server: &Server, number: usize, moments: usize, findings: &Mutex<Findings>) -> (Stretch, Duration) {
    let stretch = *STRETCHES.get(number % STRETCHES.len()).expect("in range");
    let of_stretch = (number / STRETCHES.len()) as u32;
    let grid = (moments.div_ceil(STRETCHES.len()) as u32).max(2) - 1;
    let moment = stretch.length() * of_stretch / grid;
    let name = name(number);
    let setup = Setup::joining(server.serf, &["--exit-on-term", "7"])
        .option("service-name", &name)
        .option("restart-backoff-min", "300ms")
        .variable(MARK, &name);
    let mut supervisor = stretch.enter(server, setup, &name);
    std::thread::sleep(moment);
    let told = Instant::now();
    // In the stretch of the stop it may be gone already.
    // SAFETY: kill(2) takes two integers; the pid is that of a child that was not waited for.
    unsafe { libc::kill(supervisor.pid(), libc::SIGTERM) };
    let status = supervisor.wait();
    let took = told.elapsed();
    let what = || format!("{stretch:?} + {moment:?}: {status}");
    let mut findings = findings.lock().expect("not poisoned");
    if server.instances(&name).0 != 0 {
        findings.ghosts.push(what());
    }
    if !marked(&name).is_empty() {
        findings.survivors.push(format!("{}: {:?}", what(), marked(&name)));
    }
    if took > LATEST {
        findings.late.push(format!("{} after {took:?}", what()));
    }
    if !is_right(stretch, status) {
        findings.statuses.push(format!("{}\n{}", what(), supervisor.log()));
    }
    (stretch, took)
}

/// The worker's own status: 7 by our TERM, 0 where TERM came before it could listen, 137 where the test had killed it, and the supervisor's
/// death by TERM where it was not even listening itself, in the first milliseconds.
fn is_right(stretch: Stretch, status: ExitStatus) -> bool {
    match (status.code(), status.signal()) {
        (Some(7), _) => true,
        (Some(0), _) => matches!(stretch, Stretch::Start | Stretch::Backoff | Stretch::Restart),
        (Some(137), _) => stretch == Stretch::Backoff,
        (_, Some(libc::SIGTERM)) => stretch == Stretch::Start,
        _ => false,
    }
}

/// The processes that carry an instance's mark.
fn marked(name: &str) -> Vec<String> {
    let mark = format!("{MARK}={name}");
    let has_mark = |pid: &str| {
        let environment = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        environment.split(|byte| *byte == 0).any(|variable| variable == mark.as_bytes())
    };
    let entries = std::fs::read_dir("/proc")
        .expect("/proc")
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    entries.filter(|pid| pid.parse::<i32>().is_ok_and(harness::alive) && has_mark(pid)).collect()
}

#[test]
fn as_pid_1_a_term_right_after_the_start_is_heard() {
    // Before its first milliseconds the kernel drops the signal, as pid_namespaces(7) says; from the moment it has a child it hears it.
    for _ in 0..20 {
        let mut setup = Setup::shell("exec sleep 1000");
        let file = setup.dir.path().join("born").display().to_string();
        setup.worker = ["sh", "-c", &format!("> {file}; exec sleep 1000")].map(str::to_owned).to_vec();
        let mut supervisor =
            setup.start_under(&["unshare", "--pid", "--fork", "--mount-proc", "--kill-child", "--"]);
        wait_for("the worker", || std::path::Path::new(&file).exists().then_some(()));
        let children = format!("/proc/{0}/task/{0}/children", supervisor.pid());
        let init = std::fs::read_to_string(children).expect("children");
        signal(init.trim().parse().expect("one child"), libc::SIGTERM);
        assert_eq!(supervisor.wait().code(), Some(0));
    }
}
