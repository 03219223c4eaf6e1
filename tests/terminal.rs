//! Terminals and job control: a real pseudo-terminal, and a real shell that has the supervisor as a job.

mod harness;

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};

use harness::{SUPERVISOR, Server, Setup, wait_for};

/// A session on a terminal, and all that was written to it.
struct Session {
    child: Child,
    keyboard: File,
    screen: Arc<Mutex<String>>,
}

impl Session {
    /// Runs a program as the leader of a session on a new terminal.
    fn start(mut command: Command) -> Self {
        let pty = nix::pty::openpty(None, None).expect("a pseudo-terminal");
        let (master, slave): (OwnedFd, OwnedFd) = (pty.master, pty.slave);
        let copy = |descriptor: &OwnedFd| Stdio::from(descriptor.try_clone().expect("a descriptor"));
        command.stdin(copy(&slave)).stdout(copy(&slave)).stderr(copy(&slave));
        // SAFETY: setsid(2) and ioctl(2) are async-signal-safe.
        unsafe {
            command.pre_exec(|| {
                if libc::setsid() == -1 || libc::ioctl(0, libc::TIOCSCTTY, 0) == -1 {
                    return Err(std::io::Error::last_os_error());
                }
                Ok(())
            });
        }
        let child = command.spawn().expect("started");
        drop((command, slave));
        let screen = Arc::new(Mutex::new(String::new()));
        let keyboard = File::from(master);
        let (mut reader, shown) = (keyboard.try_clone().expect("a descriptor"), Arc::clone(&screen));
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            // EIO: the other side is closed (pty(7)).
            while let Ok(read @ 1..) = reader.read(&mut buffer) {
                let text = String::from_utf8_lossy(buffer.get(..read).unwrap_or_default()).into_owned();
                shown.lock().expect("not poisoned").push_str(&text);
            }
        });
        Self { child, keyboard, screen }
    }

    fn supervisor(setup: &Setup) -> Self {
        let mut command = Command::new(SUPERVISOR);
        command.arg("run").args(&setup.options).arg("--").args(&setup.worker);
        Self::start(command)
    }

    fn type_in(&mut self, text: &str) {
        self.keyboard.write_all(text.as_bytes()).expect("typed");
    }

    fn screen(&self) -> String {
        self.screen.lock().expect("not poisoned").clone()
    }

    /// Waits until this has been written this often: what is typed is shown, too.
    fn shows(&self, text: &str, times: usize) {
        wait_for(&format!("{times} times {text:?} on the screen"), || {
            let seen = self.screen().matches(text).count() >= times;
            seen.then_some(())
        });
    }

    fn foreground(&self) -> i32 {
        // SAFETY: tcgetpgrp(3) on the master's side tells the foreground group of the terminal (ioctl_tty(2), TIOCGPGRP).
        unsafe { libc::tcgetpgrp(self.keyboard.as_raw_fd()) }
    }

    fn wait(&mut self) -> Option<i32> {
        wait_for("the end of the session", || self.child.try_wait().expect("waited")).code()
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        if std::thread::panicking() {
            harness::show(&format!("--- screen ---\n{}", self.screen()));
        }
        let _gone = self.child.kill();
        let _reaped = self.child.wait();
    }
}

#[test]
fn a_plain_inits_worker_has_the_terminal_from_its_first_moment() {
    let mut session = Session::supervisor(&Setup::shell("read line; echo \"<$line>\"; exit 7"));
    session.type_in("hello\n");
    session.shows("<hello>", 1);
    assert_eq!(session.wait(), Some(7));
}

#[test]
fn ctrl_c_reaches_a_plain_inits_worker_and_nobody_else() {
    let setup = Setup::shell("trap 'echo caught; exit 3' INT; echo on; while :; do read line; done");
    let mut session = Session::supervisor(&setup);
    session.shows("on\r\n", 1);
    session.type_in("\u{3}");
    session.shows("caught", 1);
    assert_eq!(session.wait(), Some(3));
}

#[test]
fn each_worker_gets_the_terminal_anew() {
    let setup = Setup::shell("read line; echo \"<$line>\"; test \"$line\" = end")
        .option("restart-policy", "on-failure")
        .option("restart-backoff-min", "1ms");
    let mut session = Session::supervisor(&setup);
    for word in ["one", "two"] {
        session.type_in(&format!("{word}\n"));
        session.shows(&format!("<{word}>"), 1);
    }
    session.type_in("end\n");
    assert_eq!(session.wait(), Some(0));
}

#[test]
fn a_worker_beside_an_agent_gets_the_terminal_when_it_reads_it_and_until_then_ctrl_c_stops_in_order() {
    let server = Server::start();
    let start = |script: &str| {
        let mut setup = Setup::joining(server.serf, &[]);
        let stub: Vec<String> = setup.worker.iter().map(|word| format!("'{word}'")).collect();
        setup.worker = ["sh", "-c", &format!("{} & {script}", stub.join(" "))].map(str::to_owned).to_vec();
        let session = Session::supervisor(&setup);
        server.wait_for_instances("demo", (1, 1));
        (session, setup)
    };
    let (mut session, _setup) = start("read line; echo \"<$line>\"; wait");
    session.type_in("debug\n");
    session.shows("<debug>", 1);
    let own = i32::try_from(session.child.id()).expect("a pid");
    assert_ne!(session.foreground(), own, "now it is the worker's");
    harness::signal(own, libc::SIGTERM);
    assert_eq!(session.wait(), Some(0));

    let (mut session, _setup) = start("wait");
    session.type_in("\u{3}");
    assert_eq!(session.wait(), Some(0));
    assert!(session.screen().contains("SIGINT"), "{}", session.screen());
    server.wait_for_instances("demo", (0, 0));
}

#[test]
fn a_shell_can_suspend_it_and_bring_it_back() {
    let setup = Setup::shell("while read line; do echo \"<$line>\"; done; exit 5");
    let mut shell = Command::new("bash");
    shell.args(["--norc", "--noprofile", "-i"]).env("PS1", "ready> ").env("TERM", "dumb");
    let mut session = Session::start(shell);
    session.shows("ready> ", 1);
    let script = setup.dir.path().join("job");
    std::fs::write(&script, format!("exec '{SUPERVISOR}' run {}\n", setup.quoted())).expect("written");
    session.type_in(&format!("sh {}\n", script.display()));
    session.type_in("one\n");
    session.shows("<one>", 1);
    session.type_in("\u{1a}");
    session.shows("Stopped", 1);
    session.type_in("echo the $((20+1))st shell\n");
    session.shows("the 21st shell", 1);
    session.type_in("fg\n");
    session.type_in("two\n");
    session.shows("<two>", 1);
    // Ctrl-D: the end of the worker's input, and then of the shell's.
    session.type_in("\u{4}");
    session.shows("ready> ", 3);
    session.type_in("echo status $?\n");
    session.shows("status 5", 1);
    session.type_in("exit\n");
    session.wait();
}

#[test]
fn without_a_terminal_or_any_descriptor_at_all_it_runs_too() {
    let setup = Setup::shell("test -e /proc/self/fd/0 && exit 6");
    let script = format!("exec '{SUPERVISOR}' run {} <&- >&- 2>&-", setup.quoted());
    let status = Command::new("sh").args(["-c", &script]).status().expect("a shell");
    assert_eq!(status.code(), Some(6));
}
