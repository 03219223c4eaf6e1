//! The supervisor's own log, and what becomes of the children's lines.

mod harness;

use std::fmt::Write as _;
use std::fs::File;
use std::io::{BufRead as _, BufReader, Read, Write as _, pipe};
use std::process::Stdio;
use std::time::{Duration, Instant};

use harness::{Server, Setup, alive, pid_of, signal, wait_for};
use serde_json::Value;

/// The stop timeout's default, and a second.
const STOP: Duration = Duration::from_secs(10);

fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Without prefixes, with the pieces of long lines together again.
fn unprefixed(text: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(text.len());
    for line in text.split_inclusive(|byte| *byte == b'\n') {
        let (prefix, line) = line.split_at_checked(9).unwrap_or((line, &[]));
        if prefix == b"worker + " {
            assert_eq!(bytes.pop(), Some(b'\n'), "a further piece follows an earlier one");
        } else {
            assert_eq!(prefix, b"worker | ");
        }
        bytes.extend_from_slice(line);
    }
    bytes
}

/// The names of the supervisor's threads, and where its descriptors lead.
fn threads_and_descriptors(pid: i32) -> (Vec<String>, Vec<String>) {
    let list = |folder: &str| std::fs::read_dir(format!("/proc/{pid}/{folder}")).expect("proc").flatten();
    let threads = list("task").filter_map(|task| std::fs::read_to_string(task.path().join("comm")).ok());
    let descriptors = list("fd").filter_map(|fd| std::fs::read_link(fd.path()).ok());
    (
        threads.map(|name| name.trim().to_owned()).collect(),
        descriptors.map(|target| target.display().to_string()).collect(),
    )
}

#[test]
fn by_default_children_write_to_our_own_output_and_nothing_is_in_between() {
    let supervisor = Setup::plain(&[]).start();
    let status = supervisor.wait_for_phase("running");
    let leads_to = |pid: i32, fd: u8| std::fs::read_link(format!("/proc/{pid}/fd/{fd}")).expect("open");
    for fd in [1, 2] {
        assert_eq!(leads_to(pid_of(&status, "worker"), fd), leads_to(supervisor.pid(), fd));
    }
    let (threads, descriptors) = threads_and_descriptors(supervisor.pid());
    assert!(!threads.iter().any(|name| name.starts_with("worker")), "{threads:?}");
    // Those that whoever runs the tests has left open are there too.
    let (_, inherited) = threads_and_descriptors(i32::try_from(std::process::id()).expect("a pid"));
    let pipe = |target: &&String| target.starts_with("pipe:") && !inherited.contains(target);
    assert_eq!(descriptors.iter().find(pipe), None, "{descriptors:?}");
}

#[test]
fn prefixed_lines_say_who_wrote_them_and_stay_in_their_stream() {
    let script = "printf 'a\\n\\nb\\n'; echo c >&2; printf 'no line feed'";
    let output = Setup::shell(script).option("log-children", "prefixed").output();
    assert_eq!(lossy(&output.stdout), "worker | a\nworker | \nworker | b\nworker | no line feed\n");
    let stderr = lossy(&output.stderr);
    assert!(stderr.lines().any(|line| line == "worker | c"), "{stderr}");
    assert!(stderr.contains("INFO phase phase=\"running\""), "our own log is not prefixed: {stderr}");
}

#[test]
fn a_burst_of_lines_arrives_complete_and_in_order() {
    let output = Setup::shell("seq 1 500000").option("log-children", "prefixed").output();
    let mut expected = String::new();
    for number in 1..=500_000 {
        writeln!(expected, "worker | {number}").expect("written");
    }
    assert!(lossy(&output.stdout) == expected, "{} bytes, expected {}", output.stdout.len(), expected.len());
}

#[test]
fn lines_of_any_length_and_content_arrive_complete() {
    let mut setup = Setup::plain(&[]).option("log-children", "prefixed");
    let file = setup.dir.path().join("copy");
    let script = format!(
        "{{ head -c 10000000 /dev/zero | tr '\\0' x; echo; head -c 3000000 /dev/urandom; echo; }} | tee {}",
        file.display()
    );
    setup.worker = ["sh", "-c", &script].map(str::to_owned).to_vec();
    let output = setup.output();
    assert!(unprefixed(&output.stdout) == std::fs::read(&file).expect("copy"));
}

#[test]
fn in_json_every_line_is_an_object_and_long_ones_come_in_marked_pieces() {
    let script = "printf 'one \"quoted\"\\n'; head -c 100000 /dev/zero | tr '\\0' x; echo; echo error >&2; \
                  printf 'caf\\351'; exit 3";
    let setup = Setup::shell(script).option("log-children", "json").option("log-format", "json");
    let output = setup.option("log-level", "debug").output();
    assert_eq!(output.status.code(), Some(3));
    let objects = |bytes: &[u8]| -> Vec<Value> {
        let text = String::from_utf8(bytes.to_vec()).expect("UTF-8");
        text.lines().map(|line| serde_json::from_str(line).expect(line)).collect()
    };
    let stdout = objects(&output.stdout);
    assert!(stdout.iter().all(|line| line["source"] == "worker" && line["stream"] == "stdout"), "{stdout:?}");
    assert_eq!(stdout[0]["message"], "one \"quoted\"");
    let long: Vec<&Value> = stdout
        .iter()
        .filter(|line| line["message"].as_str().is_some_and(|text| text.starts_with('x')))
        .collect();
    assert!(long.len() > 1);
    let (last, others) = long.split_last().expect("pieces");
    assert!(others.iter().all(|line| line["partial"] == true) && last["partial"] == Value::Null);
    assert_eq!(long.iter().map(|line| line["message"].as_str().expect("text").len()).sum::<usize>(), 100_000);
    let end = stdout.last().expect("a line");
    assert_eq!((&end["message"], &end["base64"]), (&"caf\u{fffd}".into(), &"Y2Fm6Q==".into()));

    let stderr = objects(&output.stderr);
    assert!(
        stderr.iter().all(|line| line["timestamp"].is_string() && line["message"].is_string()),
        "{stderr:?}"
    );
    let of = |source: &'static str| stderr.iter().filter(move |line| line["source"] == source);
    assert_eq!(of("worker").map(|line| &line["message"]).collect::<Vec<_>>(), ["error"]);
    assert!(
        of("supervisor").any(|line| line["message"] == "phase" && line["phase"] == "running"),
        "{stderr:?}"
    );
    assert_eq!(of("worker").count() + of("supervisor").count(), stderr.len());
}

#[test]
fn what_is_written_right_before_a_death_by_signal_arrives() {
    let script = "i=0; while [ $i -lt 2000 ]; do echo $i; i=$((i+1)); done; printf last; kill -9 $$";
    let output = Setup::shell(script).option("log-children", "prefixed").output();
    assert_eq!(output.status.code(), Some(137));
    let expected =
        (0..2000).map(|number| format!("worker | {number}\n")).collect::<String>() + "worker | last\n";
    assert_eq!(lossy(&output.stdout), expected);
}

#[test]
fn whoever_keeps_the_pipe_open_does_not_hold_up_the_end() {
    let (out, stdout) = pipe().expect("pipe");
    let setup = Setup::shell("echo ready; exec sleep 1000").option("log-children", "prefixed");
    let log = File::create(setup.dir.path().join("log")).expect("log");
    let mut supervisor = setup.start_to(stdout, log);
    let worker = pid_of(&supervisor.wait_for_phase("running"), "worker");
    let mut out = BufReader::new(out);
    let mut text = String::new();
    out.read_line(&mut text).expect("the first line");
    assert_eq!(text, "worker | ready\n");
    // Not a descendant of the supervisor, so nothing that it could kill: this very test.
    let mut holder = wait_for("the worker's pipe", || {
        File::options().write(true).open(format!("/proc/{worker}/fd/1")).ok()
    });
    holder.write_all(b"from outside, and no line feed").expect("written");
    let began = Instant::now();
    supervisor.signal(libc::SIGTERM);
    assert_eq!(supervisor.wait().code(), Some(0));
    assert!(began.elapsed() < STOP, "{:?}", began.elapsed());
    out.read_to_string(&mut text).expect("read");
    assert!(text.starts_with("worker | ready\nworker | from outside"), "{text}");
}

#[test]
fn orphans_that_keep_the_pipe_end_with_their_worker_and_their_lines_arrive() {
    let setup = Setup::plain(&[]);
    let dir = setup.dir.path().display().to_string();
    // The first run leaves an orphan in a session of its own, which has written by the time the run ends.
    let script = format!(
        "cd {dir}; if [ -e orphan ]; then exec sleep 1000; fi; \
         setsid sh -c 'echo orphan; echo $$ > new; mv new orphan; exec sleep 1000' & \
         while [ ! -e orphan ]; do sleep 0.01; done; echo worker; exit 1"
    );
    let mut setup = setup.option("log-children", "prefixed").option("restart-policy", "always");
    setup.worker = ["sh", "-c", &script].map(str::to_owned).to_vec();
    let mut supervisor = setup.start();
    supervisor.wait_for_status("the second run", |status| status["worker"]["restarts"] == 1);
    let orphan = std::fs::read_to_string(supervisor.path("orphan")).expect("a pid");
    let orphan: i32 = orphan.trim().parse().expect("a pid");
    wait_for("the orphan to die", || (!alive(orphan)).then_some(()));
    supervisor.signal(libc::SIGTERM);
    supervisor.wait();
    for line in ["worker | worker\n", "worker | orphan\n"] {
        assert!(supervisor.log().contains(line), "{}", supervisor.log());
    }
}

#[test]
fn output_that_nobody_reads_makes_the_worker_wait_and_not_the_supervisor() {
    for form in ["prefixed", "json"] {
        let (out, stdout) = pipe().expect("pipe");
        let mut setup = Setup::plain(&[]).option("log-children", form);
        setup.worker = ["yes", "a line like any other"].map(str::to_owned).to_vec();
        let log = File::create(setup.dir.path().join("log")).expect("log");
        let mut supervisor = setup.start_to(stdout, log);
        let worker = pid_of(&supervisor.wait_for_phase("running"), "worker");
        // wchan would say it in one word where the kernel gives it; the bytes written stand still everywhere (proc_pid_io(5)).
        let written = || std::fs::read_to_string(format!("/proc/{worker}/io")).unwrap_or_default();
        let mut last = String::new();
        let mut still = 0;
        wait_for("the worker to wait", || {
            let now = written();
            still = if now == last { still + 1 } else { 0 };
            last = now;
            (still > 20).then_some(())
        });
        assert!(supervisor.status().is_some(), "the supervisor answers meanwhile");
        let began = Instant::now();
        supervisor.signal(libc::SIGTERM);
        assert_eq!(supervisor.wait().code(), Some(0));
        assert!(began.elapsed() < STOP, "{:?}", began.elapsed());
        assert!(!alive(worker));
        drop(out);
    }
}

#[test]
fn a_reader_that_is_slow_gets_everything() {
    let (mut out, stdout) = pipe().expect("pipe");
    let setup = Setup::shell("seq 1 100000").option("log-children", "prefixed");
    let log = File::create(setup.dir.path().join("log")).expect("log");
    let mut supervisor = setup.start_to(stdout, log);
    let mut text = Vec::new();
    let mut some = [0; 4096];
    while let Ok(count @ 1..) = out.read(&mut some) {
        text.extend_from_slice(&some[..count]);
        std::thread::yield_now();
    }
    assert_eq!(supervisor.wait().code(), Some(0));
    let expected = (1..=100_000).map(|number| format!("{number}\n")).collect::<String>();
    assert!(unprefixed(&text) == expected.as_bytes(), "{} bytes", text.len());
}

#[test]
fn a_reader_that_is_gone_costs_lines_and_not_the_worker() {
    let (out, stdout) = pipe().expect("pipe");
    drop(out);
    let setup = Setup::plain(&[]);
    let file = setup.dir.path().join("written");
    let script = format!("seq 1 100000; touch {}; exec sleep 1000", file.display());
    let mut setup = setup.option("log-children", "prefixed");
    setup.worker = ["sh", "-c", &script].map(str::to_owned).to_vec();
    let log = File::create(setup.dir.path().join("log")).expect("log");
    let mut supervisor = setup.start_to(stdout, log);
    wait_for("the worker to have written", || file.exists().then_some(()));
    wait_for("the warning", || supervisor.log().contains("children's lines cannot be written").then_some(()));
    supervisor.signal(libc::SIGTERM);
    assert_eq!(supervisor.wait().code(), Some(0));
    assert_eq!(
        supervisor.log().matches("children's lines cannot be written").count(),
        1,
        "{}",
        supervisor.log()
    );
}

#[test]
fn lines_of_all_writers_stay_whole_where_both_streams_lead_to_one_place() {
    let script = "(seq 100000 150000 | sed s/$/$(head -c 6000 /dev/zero | tr '\\0' o)/ | head -n 3000) & \
                  (seq 100000 150000 | sed s/$/$(head -c 6000 /dev/zero | tr '\\0' e)/ | head -n 3000) >&2 & wait";
    let (mut out, stdout) = pipe().expect("pipe");
    let stderr = stdout.try_clone().expect("pipe");
    let mut supervisor = Setup::shell(script).option("log-children", "prefixed").start_to(stdout, stderr);
    let mut text = String::new();
    let reader = std::thread::spawn(move || {
        out.read_to_string(&mut text).expect("UTF-8");
        text
    });
    assert_eq!(supervisor.wait().code(), Some(0));
    let text = reader.join().expect("read");
    let whole = |line: &str, letter: char| {
        line.strip_prefix("worker | 10").is_some_and(|rest| {
            rest.len() == 6004 && rest.chars().skip(4).all(|character| character == letter)
        })
    };
    let ours = text.lines().filter(|line| line.contains(" INFO ") && line.starts_with("20")).count();
    let (o, e) =
        (text.lines().filter(|l| whole(l, 'o')).count(), text.lines().filter(|l| whole(l, 'e')).count());
    assert_eq!((o, e), (3000, 3000));
    assert!(ours > 2);
    let others = text.lines().filter(|line| !line.starts_with("20")).count();
    assert_eq!(others, 6000, "no line is broken");
}

#[test]
fn the_agents_lines_are_treated_likewise() {
    let server = Server::start();
    let supervisor = Setup::joining(server.serf, &[])
        .option("log-children", "json")
        .option("agent-log-level", "info")
        .start();
    supervisor.wait_for_phase("passing");
    wait_for("the agent's lines", || {
        let log = supervisor.log();
        let mut objects = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        objects.find(|line| {
            line["source"] == "agent" && line["message"].as_str().is_some_and(|text| text.contains("agent:"))
        })
    });
}

#[test]
fn log_lines_that_nobody_reads_are_dropped_counted_and_told_about_later() {
    const SIGNALS: usize = 2000;
    let (mut out, stderr) = pipe().expect("pipe");
    let setup = Setup::plain(&[]).option("log-level", "debug");
    let mut supervisor = setup.start_to(Stdio::null(), stderr);
    supervisor.wait_for_phase("running");
    // Real-time signals queue (signal(7)); each is worth two lines. A pipe holds about 600 of them, the log's queue 1,024.
    for _ in 0..SIGNALS {
        signal(supervisor.pid(), 34);
    }
    wait_for("the signals to be read", || {
        let status = std::fs::read_to_string(format!("/proc/{}/status", supervisor.pid())).expect("proc");
        status.lines().any(|line| line == "ShdPnd:\t0000000000000000").then_some(())
    });
    let reader = std::thread::spawn(move || {
        let mut text = String::new();
        out.read_to_string(&mut text).expect("UTF-8");
        text
    });
    supervisor.signal(libc::SIGTERM);
    assert_eq!(supervisor.wait().code(), Some(0));
    let text = reader.join().expect("read");
    let notice = "WARN log lines were dropped: standard error was not read lines=";
    let told: usize = text.lines().filter_map(|line| line.split_once(notice)?.1.parse::<usize>().ok()).sum();
    let lines = text.lines().filter(|line| line.contains("signal=\"signal 34\"")).count();
    assert!(lines > 1000, "{lines} lines");
    // Those told about may be others, such as the one about the worker's exit.
    assert!((2 * SIGNALS..2 * SIGNALS + 20).contains(&(lines + told)), "{lines} lines and {told} dropped");
}
