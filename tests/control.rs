//! The control socket under bad input, and what `status` prints.

mod harness;

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;

use harness::{PATIENCE, Setup, Supervisor};

fn ask(supervisor: &Supervisor, bytes: &[u8]) -> String {
    let mut stream = UnixStream::connect(supervisor.path("control.sock")).expect("connected");
    stream.set_read_timeout(Some(PATIENCE)).expect("set");
    // A request that is too long is answered before it has been read to its end.
    let _refused_early = stream.write_all(bytes);
    let _closed_early = stream.shutdown(std::net::Shutdown::Write);
    let mut reply = Vec::new();
    let _reset = stream.read_to_end(&mut reply);
    String::from_utf8(reply).expect("UTF-8")
}

#[test]
fn bad_requests_are_refused_with_the_reason_and_harm_nobody() {
    let supervisor = Setup::plain(&[]).start();
    supervisor.wait_for_phase("running");
    for (request, words) in [
        (b"\n".to_vec(), "not a request"),
        (b"{\"command\":\"fly\"}\n".to_vec(), "unknown variant `fly`"),
        (b"{\"command\":\"status\"".to_vec(), "a request is one line"),
        (b"\xff\xfe\n".to_vec(), "a line of UTF-8"),
        (vec![b'['; 200_000], "a request is one line of at most 65536 bytes"),
        (b"".to_vec(), "a request is one line"),
    ] {
        let reply = ask(&supervisor, &request);
        // A reset may swallow the answer to what was too long.
        assert!(reply.contains(words) || (request.len() > 65536 && reply.is_empty()), "{reply}");
    }
    let silent: Vec<UnixStream> =
        (0..15).map(|_| UnixStream::connect(supervisor.path("control.sock")).expect("connected")).collect();
    supervisor.wait_for_phase("running");
    drop(silent);
    assert!(ask(&supervisor, b"{\"command\":\"status\"}\n").starts_with("{\"ok\":true"));
}

#[test]
fn status_is_aligned_text_without_colour_where_nobody_looks() {
    let supervisor = Setup::plain(&[]).start();
    supervisor.wait_for_phase("running");
    let output = supervisor.cli(&["status"]);
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    assert_eq!(output.status.code(), Some(0), "a plain init that runs is well");
    assert!(text.starts_with("phase         running for "), "{text}");
    assert!(text.contains("\nworker        running, pid "), "{text}");
    assert!(!text.contains('\x1b') && !text.contains("agent"), "{text}");
}

#[test]
fn nobody_there_is_3_for_status_and_1_for_health() {
    let supervisor = Setup::plain(&["--exit", "0"]).start();
    let mut supervisor = supervisor;
    supervisor.wait();
    let status = supervisor.cli(&["status"]);
    assert_eq!(status.status.code(), Some(3));
    assert!(String::from_utf8_lossy(&status.stderr).contains("no supervisor at"));
    assert_eq!(supervisor.cli(&["health"]).status.code(), Some(1));
}
