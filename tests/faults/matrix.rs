//! What each fault did, as it was seen, and docs/faults.md, which says the same.

#![expect(clippy::indexing_slicing, clippy::panic, reason = "this is part of tests: it may fail them")]

use std::fs::File;
use std::io::{Read, Seek, Write};
use std::os::unix::process::ExitStatusExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::harness::{Server, Supervisor, alive};

/// The faults, in the order of the document.
pub(crate) const FAULTS: &[&str] = &[
    "agent killed",
    "agent hangs (SIGSTOP)",
    "agent's data lost",
    "agent's disk full",
    "all servers gone and back",
    "servers' state lost",
    "leader lost",
    "ACL token wrong",
    "ACL token revoked",
    "certificate wrong",
    "worker crashes",
    "worker in a crash loop",
    "worker hangs (SIGSTOP)",
    "worker ignores TERM",
    "worker leaves orphans",
    "worker killed for its memory",
    "supervisor killed",
    "supervisor killed beside a shared agent",
    "SIGTERM at any point of the life",
    "disk full from the start",
    "read-only root",
    "no /tmp",
    "another user than root",
    "no network",
    "slow DNS",
];

const DOCUMENT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/faults.md");
const BEGIN: &str =
    "<!-- the table: written by tests/faults (PILOTLIGHT_UPDATE_DOCS=1), compared by every other run -->\n";
const END: &str = "<!-- end of the table -->\n";

/// Looks at the servers' passing set all the while.
pub(crate) struct Observer {
    left: Arc<AtomicBool>,
    over: Arc<AtomicBool>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Observer {
    /// Begins while the instance is passing.
    pub(crate) fn begin(server: &Server, service: &str) -> Self {
        assert_eq!(server.instances(service), (1, 1));
        let (left, over) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
        let (its_left, its_over, looker) = (Arc::clone(&left), Arc::clone(&over), server.looker());
        let path = format!("/v1/health/service/{service}?passing");
        let thread = std::thread::spawn(move || {
            while !its_over.load(Ordering::Relaxed) {
                // A server that does not answer says nothing about the instance.
                if looker.get(&path).is_some_and(|entries| entries.as_array().is_some_and(Vec::is_empty)) {
                    its_left.store(true, Ordering::Relaxed);
                }
                std::thread::park_timeout(Duration::from_millis(5));
            }
        });
        Self { left, over, thread: Some(thread) }
    }

    /// Whether the instance was seen out of the passing set.
    pub(crate) fn has_left(&self) -> bool {
        self.left.load(Ordering::Relaxed)
    }
}

impl Drop for Observer {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        let _panicked = self.thread.take().map(std::thread::JoinHandle::join);
    }
}

/// What the catalog showed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Entry {
    /// In the passing set all the while.
    Stays,
    /// Out of the passing set, and back by itself.
    ComesBack,
    /// Out of the passing set, or not, as time will have it; at the end it is in.
    EndsPassing,
    /// Listed, and not passing.
    Critical,
    /// There is none any more.
    Gone,
    /// There never was one.
    Never,
    /// It comes as soon as it can.
    Late,
}

impl Entry {
    /// What an observer saw of an instance that goes on.
    pub(crate) fn of(observer: &Observer, server: &Server, service: &str) -> Self {
        match (observer.has_left(), server.instances(service)) {
            (false, (1, 1)) => Self::Stays,
            (true, (1, 1)) => Self::ComesBack,
            (_, (1, 0)) => Self::Critical,
            (_, (0, _)) => Self::Gone,
            (_, other) => panic!("{other:?} instances"),
        }
    }

    fn words(self) -> &'static str {
        match self {
            Self::Stays => "stays passing",
            Self::ComesBack => "leaves the passing set at once and comes back",
            Self::EndsPassing => "may leave the passing set for seconds, and is back",
            Self::Critical => "is listed as critical",
            Self::Gone => "is gone",
            Self::Never => "is not listed",
            Self::Late => "is passing as soon as the servers are found",
        }
    }
}

/// What became of the worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Worker {
    /// The same process serves on.
    Same,
    /// Another process serves.
    Another,
    /// It is dead.
    Dead,
}

impl Worker {
    /// By its pid before, and the status now.
    pub(crate) fn of(before: i32, supervisor: &Supervisor) -> Self {
        let now = supervisor.status().and_then(|status| status["worker"]["pid"].as_i64());
        match now {
            Some(pid) if pid == i64::from(before) => Self::Same,
            Some(_) => Self::Another,
            None if alive(before) => panic!("pid {before} lives and is not told of"),
            None => Self::Dead,
        }
    }

    fn words(self) -> &'static str {
        match self {
            Self::Same => "serves on",
            Self::Another => "is started anew",
            Self::Dead => "is dead",
        }
    }
}

/// How the supervisor ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    /// Not at all.
    GoesOn,
    /// With this status.
    With(i32),
    /// With that of the worker.
    WithTheWorkers,
}

impl Exit {
    /// As a shell tells it.
    pub(crate) fn of(status: std::process::ExitStatus) -> Self {
        Self::With(status.code().or(status.signal().map(|signal| 128 + signal)).expect("an end"))
    }

    fn words(self) -> String {
        match self {
            Self::GoesOn => "goes on".to_owned(),
            Self::With(status) => format!("exits with {status}"),
            Self::WithTheWorkers => "exits with the worker's status".to_owned(),
        }
    }
}

/// Compares what was seen with the document, or writes it there.
pub(crate) fn record(fault: &str, done: &str, entry: Entry, worker: Worker, exit: Exit) {
    assert!(FAULTS.contains(&fault), "{fault} is no fault of the list");
    let row = format!("| {fault} | {done} | {} | {} | {} |\n", entry.words(), worker.words(), exit.words());
    let mut file = File::options().read(true).write(true).open(DOCUMENT).expect("docs/faults.md");
    // Each test is a process of its own.
    rustix::fs::flock(&file, rustix::fs::FlockOperation::LockExclusive).expect("locked");
    let mut text = String::new();
    file.read_to_string(&mut text).expect("read");
    let (before, rest) = text.split_once(BEGIN).expect("the table's beginning");
    let (table, after) = rest.split_once(END).expect("the table's end");
    let start = format!("| {fault} | ");
    if std::env::var_os("PILOTLIGHT_UPDATE_DOCS").is_none() {
        let written = table.lines().find(|line| line.starts_with(&start)).unwrap_or("no such row");
        assert_eq!(written, row.trim_end(), "docs/faults.md; PILOTLIGHT_UPDATE_DOCS=1 has it rewritten");
        return;
    }
    let mut rows: Vec<&str> = table.split_inclusive('\n').filter(|line| !line.starts_with(&start)).collect();
    rows.push(&row);
    let place = |row: &&str| {
        let name = row.trim_start_matches("| ").split(" | ").next().unwrap_or_default();
        FAULTS.iter().position(|fault| *fault == name).map_or(0, |place| place + 1)
    };
    rows.sort_by_key(place);
    let text = [before, BEGIN, &rows.concat(), END, after].concat();
    file.set_len(0).expect("emptied");
    file.rewind().expect("rewound");
    file.write_all(text.as_bytes()).expect("written");
}

#[test]
fn the_document_has_every_fault_once_and_no_other() {
    let text = std::fs::read_to_string(DOCUMENT).expect("docs/faults.md");
    let table = text.split_once(BEGIN).and_then(|(_, rest)| rest.split_once(END)).expect("the table").0;
    let rows: Vec<&str> =
        table.lines().skip(2).filter_map(|row| row.strip_prefix("| ")?.split(" | ").next()).collect();
    assert_eq!(rows, FAULTS);
}

/// Waits until the instance is in the passing set, and the supervisor knows; gives the worker's pid.
pub(crate) fn passing(supervisor: &Supervisor, server: &Server) -> i32 {
    server.wait_for_instances("demo", (1, 1));
    crate::harness::pid_of(&supervisor.wait_for_phase("passing"), "worker")
}
