//! The control socket under bad input, many clients and foreign users, and the client before a supervisor that hangs.

mod harness;

use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::process::Command;
use std::time::Instant;

use harness::{PATIENCE, SUPERVISOR, Setup, Supervisor, wait_for};

fn connect(supervisor: &Supervisor) -> UnixStream {
    let stream = UnixStream::connect(supervisor.path("control.sock")).expect("connected");
    stream.set_read_timeout(Some(PATIENCE)).expect("set");
    stream
}

fn reply(mut stream: UnixStream) -> String {
    let mut reply = Vec::new();
    // What is closed with unread input ends in a reset, behind the answer.
    let _reset = stream.read_to_end(&mut reply);
    String::from_utf8(reply).expect("UTF-8")
}

fn ask(supervisor: &Supervisor, bytes: &[u8]) -> String {
    let mut stream = connect(supervisor);
    // A request that is too long is answered before it has been read to its end.
    let _refused_early = stream.write_all(bytes);
    let _closed_early = stream.shutdown(std::net::Shutdown::Write);
    reply(stream)
}

fn stderr(output: &std::process::Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn bad_requests_are_refused_with_the_reason_and_harm_nobody() {
    let supervisor = Setup::plain(&[]).start();
    supervisor.wait_for_phase("running");
    for (request, words) in [
        (b"\n".to_vec(), "not a request"),
        (b"{\"command\":\"fly\"}\n".to_vec(), "unknown variant `fly`"),
        (b"{\"command\":\"restart\"}\n".to_vec(), "restart takes a process: worker or agent"),
        (b"{\"command\":\"restart\",\"process\":\"consul\"}\n".to_vec(), "unknown variant `consul`"),
        (b"{\"command\":\"drain\",\"for\":\"1s\"}\n".to_vec(), "unknown field `for`"),
        (b"{\"command\":\"stop\",\"process\":\"worker\"}\n".to_vec(), "only restart takes a process"),
        (b"{\"command\":\"status\"".to_vec(), "a request is one line"),
        (b"\xff\xfe\n".to_vec(), "a line of UTF-8"),
        (vec![b'['; 60_000].into_iter().chain([b'\n']).collect(), "not a request: expected value"),
        (vec![b'['; 200_000], "a request is one line of at most 65536 bytes"),
        (b"".to_vec(), "a request is one line"),
    ] {
        let reply = ask(&supervisor, &request);
        assert!(reply.starts_with("{\"ok\":false") && reply.contains(words), "{words}: {reply}");
    }
    let twice = ask(&supervisor, b"{\"command\":\"status\"}\n{\"command\":\"stop\"}\n");
    assert!(
        twice.starts_with("{\"ok\":true") && twice.lines().count() == 1,
        "one request a connection: {twice}"
    );
    assert_eq!(supervisor.wait_for_phase("running")["stopping"], false);
}

#[test]
fn half_a_request_is_given_up_on_and_says_so() {
    let supervisor = Setup::plain(&[]).start();
    supervisor.wait_for_phase("running");
    let mut stream = connect(&supervisor);
    stream.write_all(b"{\"command\":").expect("written");
    assert!(reply(stream).contains("no request within 5 s"));
}

#[test]
fn those_who_connect_and_say_nothing_starve_nobody_and_leave_nothing_behind() {
    let supervisor = Setup::plain(&[]).start();
    supervisor.wait_for_phase("running");
    let descriptors = || std::fs::read_dir(format!("/proc/{}/fd", supervisor.pid())).expect("/proc").count();
    let before = descriptors();
    let silent: Vec<UnixStream> = (0..200).map(|_| connect(&supervisor)).collect();
    // The client's own patience is shorter than the time that a silent one is given.
    let output = supervisor.cli(&["status"]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let mut silent = silent.into_iter();
    assert!(reply(silent.next().expect("the oldest")).contains("too many clients"));
    drop(silent);
    for _ in 0..500 {
        drop(UnixStream::connect(supervisor.path("control.sock")).expect("connected"));
    }
    wait_for("the descriptors to be closed", || (descriptors() <= before).then_some(()));
    assert_eq!(supervisor.cli(&["status"]).status.code(), Some(0));
}

#[test]
fn watchers_beyond_the_limit_are_refused_and_the_others_served() {
    let supervisor = Setup::plain(&[]).start();
    supervisor.wait_for_phase("running");
    let watching: Vec<UnixStream> = (0..16)
        .map(|_| {
            let mut stream = connect(&supervisor);
            stream.write_all(b"{\"command\":\"watch\"}\n").expect("written");
            let mut first = [0; 10];
            stream.read_exact(&mut first).expect("a status at once");
            stream
        })
        .collect();
    assert!(ask(&supervisor, b"{\"command\":\"watch\"}\n").contains("16 clients are watching already"));
    assert_eq!(supervisor.cli(&["status"]).status.code(), Some(0));
    drop(watching);
    wait_for("a free place", || {
        let mut stream = connect(&supervisor);
        stream.write_all(b"{\"command\":\"watch\"}\n").expect("written");
        let mut first = [0; 10];
        stream.read_exact(&mut first).expect("an answer");
        (&first == b"{\"ok\":true").then_some(())
    });
}

#[test]
fn another_user_is_refused_even_where_the_mode_lets_him_in() {
    // Another user's socket needs root, as in `make test`.
    let supervisor = Setup::plain(&[]).start();
    supervisor.wait_for_phase("running");
    for path in [supervisor.dir.path().to_owned(), supervisor.path("control.sock")] {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o777)).expect("changed");
    }
    let path = supervisor.path("control.sock");
    // The bare system call changes this thread alone.
    let as_nobody = std::thread::spawn(move || {
        // SAFETY: setresuid(2) takes three integers.
        let done = unsafe { libc::syscall(libc::SYS_setresuid, 65534, 65534, 65534) };
        assert_eq!(done, 0, "this test needs root");
        let mut stream = UnixStream::connect(path).expect("connected");
        let _refused_early = stream.write_all(b"{\"command\":\"stop\"}\n");
        reply(stream)
    });
    let reply = as_nobody.join().expect("joined");
    assert!(
        reply.contains("only root and the supervisor's own user are served, and this is user 65534"),
        "{reply}"
    );
    assert_eq!(supervisor.wait_for_phase("running")["stopping"], false);
}

#[test]
fn a_supervisor_that_hangs_is_called_so_within_seconds() {
    let supervisor = Setup::plain(&[]).start();
    supervisor.wait_for_phase("running");
    supervisor.signal(libc::SIGSTOP);
    for words in [["status"], ["health"], ["stop"]] {
        let began = Instant::now();
        let output = supervisor.cli(&words);
        let said = stderr(&output) + &String::from_utf8_lossy(&output.stdout);
        assert!(said.contains("does not answer within 3 s: it is hung or suspended"), "{said}");
        assert_eq!(output.status.code(), Some(1), "there is one: not 3");
        assert!(began.elapsed().as_secs() < 10, "{:?}", began.elapsed());
    }
    supervisor.signal(libc::SIGCONT);
}

#[test]
fn a_listener_that_accepts_nobody_does_not_hold_the_client() {
    let dir = tempfile::tempdir().expect("folder");
    let path = dir.path().join("control.sock");
    let listener = UnixListener::bind(&path).expect("bound");
    // SAFETY: listen(2) on a socket of ours; a backlog of 0 has room for one.
    assert_eq!(unsafe { libc::listen(std::os::fd::AsRawFd::as_raw_fd(&listener), 0) }, 0);
    let _fills_the_queue = UnixStream::connect(&path).expect("connected");
    let output = Command::new(SUPERVISOR)
        .arg("status")
        .arg("--control-socket")
        .arg(&path)
        .output()
        .expect("supervisor");
    assert!(stderr(&output).contains("does not answer within 3 s"), "{}", stderr(&output));
    assert_eq!(output.status.code(), Some(1));
}

#[test]
fn what_makes_no_sense_is_refused_with_the_reason() {
    let supervisor = Setup::plain(&["--ignore-term"]).option("stop-timeout", "5s").start();
    supervisor.wait_for_phase("running");
    for (words, reason) in [
        (vec!["drain"], "there is no catalog entry"),
        (vec!["resume"], "the instance is not drained, it is running"),
        (vec!["restart", "agent"], "there is no agent to restart"),
    ] {
        let output = supervisor.cli(&words);
        assert!(stderr(&output).contains(reason), "{}", stderr(&output));
        assert_eq!(output.status.code(), Some(1));
    }
    assert_eq!(supervisor.cli(&["stop"]).status.code(), Some(0));
    supervisor.wait_for_status("stopping", |status| status["stopping"] == true);
    for words in [vec!["drain"], vec!["resume"], vec!["reload"], vec!["restart", "worker"]] {
        let output = supervisor.cli(&words);
        assert!(stderr(&output).contains("the instance is stopping: stop requested"), "{}", stderr(&output));
        assert_eq!(output.status.code(), Some(1));
    }
    assert_eq!(supervisor.cli(&["stop"]).status.code(), Some(0), "a second one hurries");
}

#[test]
fn nobody_there_is_3_and_1_for_health() {
    let mut supervisor = Setup::plain(&["--exit", "0"]).start();
    supervisor.wait();
    for words in [
        vec!["status"],
        vec!["drain"],
        vec!["resume"],
        vec!["reload"],
        vec!["restart", "worker"],
        vec!["stop"],
    ] {
        let output = supervisor.cli(&words);
        assert_eq!(output.status.code(), Some(3), "{words:?}");
        assert!(stderr(&output).contains("no supervisor at"));
    }
    assert_eq!(supervisor.cli(&["health"]).status.code(), Some(1));
}

#[test]
fn a_folder_that_is_missing_is_made_for_the_owner_alone() {
    let setup = Setup::plain(&[]);
    let folder = setup.dir.path().join("run/pilotlight");
    let socket = folder.join("s").display().to_string();
    let supervisor = setup.option("control-socket", &socket).start();
    wait_for("the socket", || folder.join("s").exists().then_some(()));
    let mode = |path: &std::path::Path| path.metadata().expect("there").permissions().mode() & 0o777;
    assert_eq!((mode(&folder), mode(&folder.join("s"))), (0o700, 0o600));
    drop(supervisor);
}
