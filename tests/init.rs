//! The supervisor as an init: exit statuses, signals, what children inherit, orphans.

mod harness;

use harness::{STUB_WORKER, SUPERVISOR, Setup, alive, pid_of, wait_for};

fn lines(path: &std::path::Path) -> Vec<String> {
    std::fs::read_to_string(path).unwrap_or_default().lines().map(str::to_owned).collect()
}

#[test]
fn the_exit_status_is_the_workers() {
    for (script, status) in
        [("exit 0", 0), ("exit 42", 42), ("kill -9 $$", 137), ("kill -TERM $$", 143), ("kill -35 $$", 163)]
    {
        let mut setup = Setup::plain(&[]);
        setup.worker = ["sh", "-c", script].map(str::to_owned).to_vec();
        let output = setup.output();
        assert_eq!(
            output.status.code(),
            Some(status),
            "{script}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
}

#[test]
fn a_worker_that_is_not_there_is_127_and_one_that_may_not_run_126() {
    let folder = tempfile::tempdir().expect("folder");
    let file = folder.path().join("no-x");
    std::fs::write(&file, "#!/bin/sh\n").expect("written");
    for (worker, status, words) in [
        ("no-such-program", 127, "worker no-such-program: not found"),
        (file.to_str().expect("UTF-8"), 126, "may not be executed"),
        (folder.path().to_str().expect("UTF-8"), 126, "may not be executed"),
    ] {
        let mut setup = Setup::plain(&[]);
        setup.worker = vec![worker.to_owned()];
        let output = setup.output();
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(status), "{stderr}");
        assert!(stderr.contains(words), "{stderr}");
    }
}

#[test]
fn arguments_that_are_not_utf8_reach_the_worker() {
    use std::os::unix::ffi::OsStrExt;
    let mut setup = Setup::plain(&[]);
    setup.worker.clear();
    let out = setup.dir.path().join("out");
    let status = std::process::Command::new(SUPERVISOR)
        .args(["run", "--no-agent", "--control-socket"])
        .arg(setup.dir.path().join("s.sock"))
        .args(["--", "sh", "-c", "printf %s \"$1\" > \"$2\"", "sh"])
        .arg(std::ffi::OsStr::from_bytes(b"caf\xe9"))
        .arg(&out)
        .status()
        .expect("supervisor");
    assert!(status.success());
    assert_eq!(std::fs::read(out).expect("written"), b"caf\xe9");
}

#[test]
fn signals_for_the_worker_reach_it_and_real_time_ones_too() {
    let mut setup = Setup::plain(&[]);
    let file = setup.dir.path().join("signals");
    setup.worker.extend(["--signals".to_owned(), file.display().to_string()]);
    let mut supervisor = setup.start();
    wait_for("the worker", || (lines(&file) == ["ready"]).then_some(()));
    let mut expected = vec!["ready".to_owned()];
    for number in [libc::SIGUSR1, libc::SIGUSR2, libc::SIGWINCH, 34] {
        supervisor.signal(number);
        expected.push(number.to_string());
        wait_for("the signal", || (lines(&file) == expected).then_some(()));
    }
    supervisor.signal(libc::SIGINT);
    assert_eq!(supervisor.wait().code(), Some(0));
    expected.push("15".to_owned());
    assert_eq!(lines(&file), expected, "INT stops in order, which means TERM for the worker");
}

#[test]
fn children_start_with_clean_signals_no_foreign_descriptors_and_no_secrets() {
    let setup = Setup::plain(&[]).variable("CONSUL_HTTP_TOKEN", "s3cr3t").variable("KEEP", "this");
    let file = setup.dir.path().join("report");
    let mut setup = setup;
    setup.worker.extend([
        "--report".to_owned(),
        file.display().to_string(),
        "--exit".to_owned(),
        "0".to_owned(),
    ]);
    let dir = setup.dir.path().display();
    // Descriptor 7 is left open by whoever starts the supervisor; a HUP that nohup has ignored stays ignored.
    let script = format!("exec 7</dev/null; trap '' HUP; exec {SUPERVISOR} run {}", setup.quoted());
    let mut command = std::process::Command::new("sh");
    command.args(["-c", &script]).envs(setup.variables.iter().map(|(name, value)| (name, value)));
    let output = command.output().expect("supervisor");
    assert!(output.status.success(), "{dir}: {}", String::from_utf8_lossy(&output.stderr));
    let report = lines(&file);
    let field = |name: &str| {
        let line =
            report.iter().find(|line| line.starts_with(name)).unwrap_or_else(|| panic!("{name}: {report:?}"));
        line.split_whitespace().nth(1).unwrap_or_default().to_owned()
    };
    assert_eq!(field("SigBlk:"), "0000000000000000");
    // Bit 0 is HUP. Rust's runtime, in the stub itself, ignores PIPE (bit 12). From bit 31 on they are the C library's own business.
    let ignored = u64::from_str_radix(&field("SigIgn:"), 16).expect("a mask");
    assert_eq!(ignored & 0x7fff_ffff, 0x1001, "{ignored:x}");
    let descriptors: Vec<&String> = report.iter().filter(|line| line.starts_with("descriptor ")).collect();
    assert_eq!(descriptors, ["descriptor 0", "descriptor 1", "descriptor 2"]);
    let text = report.join("\n");
    assert!(text.contains("variable KEEP=this") && !text.contains("s3cr3t"), "{text}");
}

#[test]
fn orphans_are_adopted_and_do_not_outlive_the_supervisor() {
    let mut setup = Setup::plain(&[]);
    let file = setup.dir.path().join("orphan");
    setup.worker.extend(["--orphan".to_owned(), file.display().to_string()]);
    let mut supervisor = setup.start();
    let orphan: i32 = wait_for("the orphan", || lines(&file).first()?.parse().ok());
    let parent = || {
        let stat = std::fs::read_to_string(format!("/proc/{orphan}/stat")).ok()?;
        stat.rsplit_once(") ")?.1.split_whitespace().nth(1)?.parse::<i32>().ok()
    };
    wait_for("the adoption", || (parent() == Some(supervisor.pid())).then_some(()));
    supervisor.signal(libc::SIGTERM);
    assert_eq!(supervisor.wait().code(), Some(0));
    assert!(!alive(orphan), "in a session of its own, and ended all the same");
}

#[test]
fn children_die_with_a_supervisor_that_is_killed() {
    let mut supervisor = Setup::plain(&[]).start();
    let worker = pid_of(&supervisor.wait_for_phase("running"), "worker");
    supervisor.signal(libc::SIGKILL);
    supervisor.wait();
    wait_for("the worker to die", || (!alive(worker)).then_some(()));
}

#[test]
fn as_pid_1_it_hears_term_from_the_first_moment_and_hands_the_status_on() {
    // A PID namespace needs root, as in `make test`.
    let mut setup = Setup::plain(&[]);
    let script = format!("{STUB_WORKER} --orphan {0}/orphan & wait $!; exit 9", setup.dir.path().display());
    setup.worker = ["sh", "-c", &script].map(str::to_owned).to_vec();
    let mut supervisor =
        setup.start_under(&["unshare", "--pid", "--fork", "--mount-proc", "--kill-child", "--"]);
    let status = supervisor.wait_for_phase("running");
    assert_eq!(status["supervisor"]["pid"], 1);
    // From outside: unshare hands nothing on, so its child is asked.
    let children =
        std::fs::read_to_string(format!("/proc/{0}/task/{0}/children", supervisor.pid())).expect("children");
    let init: i32 = children.trim().parse().expect("one child");
    harness::signal(init, libc::SIGTERM);
    assert_eq!(supervisor.wait().code(), Some(0), "the shell ends by our TERM: {}", supervisor.log());
    assert!(!alive(init));
}

#[test]
fn a_blocked_or_closed_output_does_not_stop_the_supervisor() {
    let setup = Setup::plain(&["--exit", "4"]).option("log-level", "trace");
    for redirection in [">&- 2>&-", "> /dev/full 2>&1", "2>&1 | sleep 0"] {
        let script = format!(
            "{{ {SUPERVISOR} run {}; echo $? > {}/status; }} {redirection}",
            setup.quoted(),
            setup.dir.path().display()
        );
        std::process::Command::new("sh").args(["-c", &script]).status().expect("a shell");
        let status = wait_for("the status", || lines(&setup.dir.path().join("status")).pop());
        assert_eq!(status, "4", "{redirection}");
        std::fs::remove_file(setup.dir.path().join("status")).expect("removed");
    }
}

#[test]
fn where_nothing_can_be_written_and_there_is_no_proc_a_plain_init_still_runs() {
    // A mount namespace needs root, as in `make test`.
    let script = format!(
        "mount --bind /run /run && mount -o remount,bind,ro /run && mount -t tmpfs none /proc && \
         exec {SUPERVISOR} run --no-agent -- {STUB_WORKER} --exit 6"
    );
    let output = std::process::Command::new("unshare")
        .args(["--mount", "sh", "-c", &script])
        .output()
        .expect("unshare");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(6), "{stderr}");
    assert!(
        stderr.contains("control socket /run/pilotlight/supervisor.sock: "),
        "it says what is missing: {stderr}"
    );
}

#[test]
fn an_output_that_nobody_reads_does_not_hold_up_the_end() {
    use std::process::{Command, Stdio};
    let setup = Setup::plain(&[]).option("log-level", "trace");
    let signals = setup.dir.path().join("signals");
    let (reader, writer) = std::io::pipe().expect("a pipe");
    // The worker itself must not be the one that blocks.
    let mut child = Command::new(SUPERVISOR)
        .arg("run")
        .args(&setup.options)
        .args([
            "--",
            "sh",
            "-c",
            &format!("exec {STUB_WORKER} --signals {} > /dev/null 2>&1", signals.display()),
        ])
        .stdin(Stdio::null())
        .stdout(writer.try_clone().expect("a pipe"))
        .stderr(writer)
        .spawn()
        .expect("supervisor");
    let pid = i32::try_from(child.id()).expect("a pid");
    wait_for("the worker", || lines(&signals).contains(&"ready".to_owned()).then_some(()));
    // Two lines each: more than the pipe (64 KiB) and the queue (1,024 lines) hold together.
    for _ in 0..20_000 {
        harness::signal(pid, libc::SIGUSR1);
        std::thread::yield_now();
    }
    harness::signal(pid, libc::SIGTERM);
    let status = wait_for("the end", || child.try_wait().expect("waited"));
    assert_eq!(status.code(), Some(0));
    drop(reader);
}

#[test]
fn a_script_whose_interpreter_is_missing_is_127_and_says_which() {
    use std::os::unix::fs::PermissionsExt;
    for (first_line, named) in
        [("#!/no/such/python3 -u", "\"/no/such/python3\""), ("#!/bin/sh\r", "\"/bin/sh\\r\"")]
    {
        let mut setup = Setup::plain(&[]);
        let script = setup.dir.path().join("app");
        std::fs::write(&script, format!("{first_line}\nexit 0\n")).expect("written");
        std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755)).expect("executable");
        setup.worker = vec![script.display().to_string()];
        let output = setup.output();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(127), "{said}");
        assert!(said.contains(&format!("its first line wants {named}, which is not there")), "{said}");
    }
}

#[test]
fn without_a_path_programs_are_found_where_they_usually_are() {
    let setup = Setup::shell("exit 3");
    let words: Vec<&str> = setup.options.iter().map(String::as_str).collect();
    let output = std::process::Command::new(SUPERVISOR)
        .env_remove("PATH")
        .arg("run")
        .args(words)
        .args(["--", "sh", "-c", "exit 3"])
        .output()
        .expect("supervisor");
    assert_eq!(output.status.code(), Some(3), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn the_worker_runs_as_the_user_it_is_told_and_still_dies_with_the_supervisor() {
    use std::os::unix::fs::PermissionsExt;
    // Another user takes root, as in `make test`.
    let setup = Setup::plain(&[]).option("worker-user", "nobody");
    let file = setup.dir.path().join("who");
    std::fs::write(&file, "").expect("written");
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o666)).expect("writable");
    std::fs::set_permissions(setup.dir.path(), std::fs::Permissions::from_mode(0o755))
        .expect("to be entered");
    let mut setup = setup;
    let script = format!("{{ id -un; id -Gn; echo $HOME $USER; }} > {}; exec sleep 1000", file.display());
    setup.worker = ["sh", "-c", &script].map(str::to_owned).to_vec();
    let mut supervisor = setup.start();
    wait_for("the worker's word", || {
        (lines(&file) == ["nobody", "nogroup", "/nonexistent nobody"]).then_some(())
    });
    let worker = pid_of(&supervisor.wait_for_phase("running"), "worker");
    let status = std::fs::read_to_string(format!("/proc/{worker}/status")).expect("a process");
    assert!(status.contains("Uid:\t65534\t65534\t65534\t65534"), "{status}");
    supervisor.signal(libc::SIGKILL);
    supervisor.wait();
    wait_for("the worker to die", || (!alive(worker)).then_some(()));

    for (user, expected) in [
        ("no-such-user", "a user of this system"),
        ("4242", "UID:GID"),
        ("nobody:no-such-group", "a group of this system"),
    ] {
        let output = Setup::plain(&[]).option("worker-user", user).output();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.code() == Some(2) && said.contains(expected), "{said}");
    }
    let output = Setup::shell("exit $(id -u | tail -c 3)").option("worker-user", "4207:4207").output();
    assert_eq!(output.status.code(), Some(7), "a number without a name: {output:?}");
}

#[test]
fn what_a_worker_leaves_behind_ends_before_the_next_one_is_old_and_nobody_else_does() {
    let server = harness::Server::start();
    let mut setup = Setup::joining(server.serf, &[]).option("restart-backoff-min", "10ms");
    let file = setup.dir.path().join("orphan");
    setup.worker.extend(["--orphan".to_owned(), file.display().to_string()]);
    let supervisor = setup.start();
    let before = supervisor.wait_for_phase("passing");
    let orphan: i32 = lines(&file).first().and_then(|pid| pid.parse().ok()).expect("a pid");
    harness::signal(pid_of(&before, "worker"), libc::SIGKILL);
    wait_for("the orphan to die", || (!alive(orphan)).then_some(()));
    let after = supervisor.wait_for_status("another worker", |status| {
        status["worker"]["restarts"] == 1 && status["phase"] == "passing"
    });
    assert_eq!(pid_of(&after, "agent"), pid_of(&before, "agent"));
    let next: i32 =
        wait_for("another orphan", || lines(&file).first()?.parse().ok().filter(|pid| *pid != orphan));
    assert!(alive(next), "the new worker's own");
}

#[test]
fn a_thousand_orphans_and_a_storm_of_signals_change_nothing() {
    let mut setup = Setup::plain(&[]);
    let file = setup.dir.path().join("done").display().to_string();
    let script = format!(
        "i=0; while [ $i -lt 1000 ]; do (setsid sh -c : &); i=$((i + 1)); done; touch {file}; trap '' USR1; exec {STUB_WORKER}"
    );
    setup.worker = ["sh", "-c", &script].map(str::to_owned).to_vec();
    let mut supervisor = setup.option("log-level", "warn").start();
    wait_for("the orphans", || {
        supervisor.signal(libc::SIGWINCH);
        std::path::Path::new(&file).exists().then_some(())
    });
    for _ in 0..50_000 {
        supervisor.signal(libc::SIGURG);
    }
    let pid = supervisor.pid();
    wait_for("only the worker to be left", || {
        let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).ok()?;
        (children.split_whitespace().count() == 1).then_some(())
    });
    supervisor.signal(libc::SIGTERM);
    assert_eq!(supervisor.wait().code(), Some(0), "{}", supervisor.log());
}

#[test]
fn where_the_caller_ignores_sigchld_children_are_reaped_all_the_same() {
    let setup = Setup::shell("exit 8");
    let script = format!("trap '' CHLD; exec {SUPERVISOR} run {}", setup.quoted());
    // bash, since dash lets nobody ignore it.
    let status = std::process::Command::new("bash").args(["-c", &script]).status().expect("a shell");
    assert_eq!(status.code(), Some(8));
}
