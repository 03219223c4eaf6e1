//! The command line: what it waits for, what it shows, and what is made from its own definition.

mod harness;

use std::io::{BufRead, BufReader, Read, Write};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, Output, Stdio};

use harness::{SUPERVISOR, Server, Setup, Supervisor, pid_of, wait_for};
use serde_json::Value;

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// The program with these words, and none of our own settings.
fn command(words: &[&str]) -> Command {
    let mut command = Command::new(SUPERVISOR);
    for (name, _) in
        std::env::vars().filter(|(name, _)| name.starts_with("SUPERVISOR_") || name.starts_with("CONSUL_"))
    {
        command.env_remove(name);
    }
    command.args(words).stdin(Stdio::null());
    command
}

fn run(words: &[&str]) -> Output {
    command(words).output().expect("supervisor")
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).expect("UTF-8")
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn is_valid(schema: &Value, instance: &Value) -> bool {
    jsonschema::draft202012::is_valid(schema, instance)
}

fn status_schema() -> Value {
    let text = std::fs::read_to_string(format!("{ROOT}/docs/status.schema.json")).expect("the schema");
    serde_json::from_str(&text).expect("JSON")
}

fn assert_follows_the_schema(status: &Value) {
    let schema = status_schema();
    let validator = jsonschema::draft202012::new(&schema).expect("a schema");
    let errors: Vec<String> = validator.iter_errors(status).map(|error| error.to_string()).collect();
    assert!(errors.is_empty(), "{errors:?}\n{status:#}");
}

/// What a request printed, once it has exited with 0.
fn done(supervisor: &Supervisor, words: &[&str]) -> String {
    let output = supervisor.cli(words);
    assert_eq!(output.status.code(), Some(0), "{words:?}: {}", stderr(&output));
    stdout(&output)
}

#[test]
fn drain_resume_and_restart_return_when_it_is_true() {
    let server = Server::start();
    let supervisor = Setup::joining(server.serf, &[]).start();
    assert_follows_the_schema(&supervisor.wait_for_phase("passing"));
    let drained = done(&supervisor, &["drain"]);
    assert_eq!(drained, "drained: somebody asked for it\n");
    server.wait_for_instances("demo", (1, 0));
    let status = supervisor.status().expect("a status");
    assert_eq!(status["phase"], "drained");
    assert_follows_the_schema(&status);
    assert!(done(&supervisor, &["drain"]).starts_with("drained: "), "once more is no harm");

    let old = pid_of(&status, "worker");
    let restarted = done(&supervisor, &["restart", "worker"]);
    let new = pid_of(&supervisor.status().expect("a status"), "worker");
    assert_eq!(restarted, format!("worker restarted, pid {old} is now {new}; drained\n"));

    assert!(done(&supervisor, &["resume"]).starts_with("passing: "));
    server.wait_for_instances("demo", (1, 1));
    let again = supervisor.cli(&["resume"]);
    assert_eq!(again.status.code(), Some(1));
    assert!(stderr(&again).contains("the instance is not drained, it is passing"), "{}", stderr(&again));

    let old = pid_of(&supervisor.status().expect("a status"), "agent");
    let restarted = done(&supervisor, &["restart", "agent"]);
    let new = pid_of(&supervisor.status().expect("a status"), "agent");
    assert_eq!(restarted, format!("agent restarted, pid {old} is now {new}; passing\n"));

    supervisor.set_health("503");
    supervisor.wait_for_phase("critical");
    let late = supervisor.cli(&["restart", "worker", "--timeout", "3s"]);
    assert_eq!(late.status.code(), Some(1));
    assert!(
        stderr(&late).contains("requested, and not done within 3 s; worker restarted, pid "),
        "{}",
        stderr(&late)
    );
    assert_eq!(done(&supervisor, &["drain", "--no-wait"]), "drain requested\n");
    assert_follows_the_schema(&supervisor.wait_for_phase("drained"));
}

#[test]
fn a_restart_of_a_plain_init_has_another_pid() {
    let supervisor = Setup::plain(&[]).option("restart-policy", "always").start();
    let old = pid_of(&supervisor.wait_for_phase("running"), "worker");
    let said = done(&supervisor, &["restart", "worker"]);
    let status = supervisor.status().expect("a status");
    assert_eq!(said, format!("worker restarted, pid {old} is now {}; running\n", pid_of(&status, "worker")));
    assert_follows_the_schema(&status);
}

#[test]
fn tags_change_without_a_restart() {
    let server = Server::start();
    let mut setup = Setup::joining(server.serf, &[]);
    let file = setup.dir.path().join("p.toml");
    std::fs::write(&file, "").expect("written");
    setup = setup.option("config", &file.display().to_string());
    let supervisor = setup.start();
    let worker = pid_of(&supervisor.wait_for_phase("passing"), "worker");
    std::fs::write(&file, "[service]\ntags = [\"canary\"]\nweight-passing = 7\n[check]\ninterval = \"3s\"\n")
        .expect("written");
    let said = done(&supervisor, &["reload"]);
    assert_eq!(said, "reloaded: applied service.tags, service.weight-passing, check.interval\n");
    wait_for("the tag", || {
        let entry = server.get("/v1/health/service/demo?passing")?.get(0).cloned()?;
        let service = &entry["Service"];
        (service["Tags"][0] == "canary" && service["Weights"]["Passing"] == 7).then_some(())
    });
    let status = supervisor.wait_for_phase("passing");
    assert_eq!(status["registration"]["tags"][0], "canary");
    assert_eq!(pid_of(&status, "worker"), worker);
}

#[test]
fn status_is_aligned_text_without_colour_where_nobody_looks() {
    let supervisor = Setup::plain(&[]).start();
    supervisor.wait_for_phase("running");
    let output = supervisor.cli(&["status"]);
    let text = stdout(&output);
    assert_eq!(output.status.code(), Some(0), "a plain init that runs is well");
    assert!(text.starts_with("phase         running for "), "{text}");
    assert!(text.contains("\nworker        running, pid "), "{text}");
    assert!(!text.contains('\x1b') && !text.contains("agent"), "{text}");
}

/// A program that is ended with the test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _gone = self.0.kill();
        let _reaped = self.0.wait();
    }
}

#[test]
fn a_watch_prints_each_change_and_finds_the_next_supervisor() {
    let setup = Setup::plain(&[]).option("restart-policy", "always");
    let (options, worker) = (setup.options.clone(), setup.worker.clone());
    let mut supervisor = setup.start();
    supervisor.wait_for_phase("running");
    let socket = supervisor.path("control.sock").display().to_string();
    let watch = |words: &[&str]| {
        let mut child = command(&[&["status", "--watch", "--control-socket", &socket], words].concat())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("supervisor");
        let (out, err) = (child.stdout.take().expect("piped"), child.stderr.take().expect("piped"));
        (Running(child), BufReader::new(out).lines(), BufReader::new(err).lines())
    };
    let (_json, mut lines, mut errors) = watch(&["--json"]);
    let (_text, mut blocks, _) = watch(&[]);
    let mut next = || -> Value {
        let line = lines.next().expect("a line").expect("read");
        serde_json::from_str(&line).expect("JSON in one line")
    };
    let first = next();
    assert_follows_the_schema(&first);
    let pid = pid_of(&first, "worker");
    assert!(blocks.next().expect("a line").expect("read").starts_with("phase         running"));
    done(&supervisor, &["restart", "worker"]);
    let mut seen = next();
    while seen["phase"] != "running" || pid_of(&seen, "worker") == pid {
        seen = next();
    }
    supervisor.signal(libc::SIGTERM);
    supervisor.wait();
    while !errors.next().expect("a line").expect("read").contains("no supervisor at") {}
    let mut gone = blocks.next();
    while !gone.as_ref().is_some_and(|line| {
        line.as_ref().is_ok_and(|line| line.starts_with("phase         gone: no supervisor"))
    }) {
        assert!(gone.is_some());
        gone = blocks.next();
    }
    let second =
        Running(command(&["run"]).args(&options).arg("--").args(&worker).spawn().expect("supervisor"));
    let mut seen = next();
    while seen["phase"] != "running" || seen["supervisor"]["pid"] != second.0.id() {
        seen = next();
    }
}

#[test]
fn a_watch_ends_when_nobody_reads() {
    let supervisor = Setup::plain(&[]).start();
    supervisor.wait_for_phase("running");
    let (reader, writer) = std::io::pipe().expect("a pipe");
    let mut child = Running(
        command(&["status", "--watch", "--json", "--control-socket"])
            .arg(supervisor.path("control.sock"))
            .stdout(writer)
            .spawn()
            .expect("supervisor"),
    );
    let mut first = String::new();
    BufReader::new(reader).read_line(&mut first).expect("a line");
    let status = wait_for("the end", || child.0.try_wait().expect("waited"));
    assert_eq!(status.code(), Some(0));
}

/// A terminal of 24 rows, and its other end.
fn terminal() -> (std::fs::File, OwnedFd) {
    let (mut main, mut end) = (-1, -1);
    let size = libc::winsize { ws_row: 24, ws_col: 80, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: openpty(3) writes two descriptors, which are owned from here on.
    unsafe {
        let null = std::ptr::null_mut();
        assert_eq!(
            libc::openpty(&raw mut main, &raw mut end, null, null.cast(), (&raw const size).cast_mut()),
            0
        );
        (std::fs::File::from_raw_fd(main), OwnedFd::from_raw_fd(end))
    }
}

fn read_until(terminal: &mut std::fs::File, words: &str) -> String {
    let mut seen = Vec::new();
    let mut chunk = [0; 1024];
    loop {
        // Whoever is on the other side has closed it: EIO (tty(4)).
        let read = terminal.read(&mut chunk).unwrap_or(0);
        seen.extend(chunk.iter().take(read));
        let text = String::from_utf8_lossy(&seen).into_owned();
        if text.contains(words) {
            return text;
        }
        assert!(read > 0, "{words:?} is not in {text:?}");
    }
}

#[test]
fn a_watch_on_a_terminal_redraws_in_colour_and_gives_the_screen_back() {
    let supervisor = Setup::plain(&[]).start();
    supervisor.wait_for_phase("running");
    let (mut main, end) = terminal();
    let mut command = command(&["status", "--watch", "--control-socket"]);
    command.arg(supervisor.path("control.sock")).env_remove("NO_COLOR");
    let copy = || Stdio::from(end.try_clone().expect("a descriptor"));
    command.stdin(copy()).stdout(copy()).stderr(copy());
    // SAFETY: setsid(2) and ioctl(2) are safe between fork and exec (signal-safety(7)).
    unsafe {
        command.pre_exec(|| {
            libc::setsid();
            libc::ioctl(0, libc::TIOCSCTTY, 0);
            Ok(())
        });
    }
    let mut child = Running(command.spawn().expect("supervisor"));
    // The command holds copies of its own.
    drop((end, command));
    let drawn = read_until(&mut main, "Ctrl-C ends");
    assert!(drawn.starts_with("\x1b[?1049h"), "{drawn:?}");
    assert!(drawn.contains("\x1b[H\x1b[1mphase\x1b[0m         \x1b[32mrunning\x1b[0m for "), "{drawn:?}");
    // The next heartbeat draws over it.
    read_until(&mut main, "\x1b[H");
    main.write_all(b"\x03").expect("Ctrl-C");
    let left = read_until(&mut main, "\x1b[?1049l");
    assert!(left.contains("\x1b[?25h"), "the cursor is back: {left:?}");
    let status = wait_for("the end", || child.0.try_wait().expect("waited"));
    assert_eq!(status.signal(), Some(libc::SIGINT), "the shell sees what ended it");
    assert!(main.as_raw_fd() >= 0);
}

#[test]
fn the_short_help_is_short_and_the_long_one_has_everything() {
    for words in [vec!["--help"], vec!["run", "-h"], vec!["run", "--help"], vec!["config", "show", "-h"]] {
        let text = stdout(&run(&words));
        let widest = text.lines().map(|line| line.chars().count()).max().unwrap_or_default();
        assert!(widest <= 100, "{words:?} is {widest} columns wide");
    }
    let short = stdout(&run(&["run", "-h"]));
    assert!(short.lines().count() <= 80, "{}", short.lines().count());
    let long = stdout(&run(&["run", "--help"]));
    for key in supervisor::config::keys::KEYS {
        let forms = [format!("--{} <", key.flag), format!("--{}[=<", key.flag)];
        assert!(forms.iter().any(|form| long.contains(form)), "{}", key.flag);
        assert!(long.contains(&format!("[env: {}]", key.variable())), "{}", key.flag);
    }
}

#[test]
fn completions_are_made_for_every_shell() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let output = run(&["completions", shell]);
        assert!(output.status.success() && stdout(&output).contains("drain-window"), "{shell}");
    }
    let script = run(&["completions", "bash"]).stdout;
    let mut bash = Command::new("bash").arg("-n").stdin(Stdio::piped()).spawn().expect("bash");
    bash.stdin.take().expect("piped").write_all(&script).expect("written");
    assert!(bash.wait().expect("waited").success(), "bash can read it");
}

#[test]
fn the_manual_pages_render_without_a_warning() {
    let dir = tempfile::tempdir().expect("folder");
    assert!(run(&["man", &dir.path().display().to_string()]).status.success());
    let mut pages: Vec<_> =
        std::fs::read_dir(&dir).expect("folder").map(|file| file.expect("file").path()).collect();
    pages.sort();
    let names: Vec<String> =
        pages.iter().map(|page| page.file_name().expect("a name").to_string_lossy().into_owned()).collect();
    for name in ["supervisor.1", "supervisor-run.1", "supervisor-config-show.1", "supervisor-restart.1"] {
        assert!(names.iter().any(|other| other == name), "{name} is not in {names:?}");
    }
    for page in &pages {
        let output = Command::new("groff")
            .args(["-ww", "-man", "-Tutf8", "-P-cbou"])
            .arg(page)
            .output()
            .expect("groff");
        let (text, warnings) = (String::from_utf8_lossy(&output.stdout), stderr(&output));
        assert!(warnings.is_empty() && text.contains("SYNOPSIS"), "{}: {warnings}", page.display());
    }
}

#[test]
fn config_check_says_all_that_is_wrong_or_nothing() {
    let good = ["config", "check", "--no-agent", "--", "true"];
    let output = run(&good);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert_eq!(stdout(&output), "the configuration is valid\n");
    let output =
        run(&["config", "check", "--no-agent", "--stop-timeout", "9", "--log-level", "loud", "--", "true"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("--stop-timeout") && stderr(&output).contains("--log-level"));
    let output = run(&["config", "check", "--no-agent", "--", "/nowhere/worker"]);
    assert!(output.status.code() == Some(2) && stderr(&output).contains("/nowhere/worker: not found"));
}

#[test]
fn config_show_says_where_each_value_comes_from_and_no_secrets() {
    let dir = tempfile::tempdir().expect("folder");
    let file = dir.path().join("p.toml");
    std::fs::write(&file, "[restart]\nlimit = 7\n").expect("written");
    let file = file.display().to_string();
    let words =
        ["config", "show", "--no-agent", "--config", &file, "--drain-window", "3s", "--", "sleep", "1"];
    let show = |more: &str| {
        let at = words.iter().position(|word| *word == "--").expect("there");
        let mut words = words.to_vec();
        if !more.is_empty() {
            words.insert(at, more);
        }
        command(&words)
            .env("SUPERVISOR_SERVICE_TAG", "a,b")
            .env("CONSUL_HTTP_TOKEN", "s3cr3t")
            .output()
            .expect("supervisor")
    };
    let output = show("");
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let text = stdout(&output);
    for words in [
        ["drain-window ", " 3s ", "--drain-window"],
        ["restart.limit ", " 7 ", ":2"],
        ["service.tags ", " a, b ", "environment variable SUPERVISOR_SERVICE_TAG"],
        ["stop-timeout ", " 9s ", "default"],
        ["service.name ", " - ", "not set"],
        ["worker.command ", " sleep, 1 ", "command line"],
        ["CONSUL_HTTP_TOKEN ", " (set) ", "environment variable CONSUL_HTTP_TOKEN"],
    ] {
        let found = text.lines().any(|line| words.iter().all(|word| line.contains(word)));
        assert!(found, "{words:?} is not in\n{text}");
    }
    assert!(!text.contains("s3cr3t") && !text.contains('\x1b'));
    let json: Value = serde_json::from_slice(&show("--json").stdout).expect("JSON");
    assert_eq!(json["drain-window"], serde_json::json!({ "value": "3s", "from": "--drain-window" }));
    assert_eq!(json["service.tags"]["value"], serde_json::json!(["a", "b"]));
    assert_eq!(json["service.name"], serde_json::json!({ "value": null, "from": null }));
    let wrong = run(&["config", "show", "--no-agent", "--stop-timeout", "9", "--", "true"]);
    assert_eq!(wrong.status.code(), Some(2));
    assert!(stdout(&wrong).contains("stop-timeout") && stderr(&wrong).contains("a duration with its unit"));
}

#[test]
fn the_schema_takes_what_the_program_takes_and_refuses_what_it_refuses() {
    let output = run(&["config", "schema"]);
    let schema: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert!(jsonschema::meta::is_valid(&schema), "it is a schema itself");
    let dir = tempfile::tempdir().expect("folder");
    let file = dir.path().join("p.toml");
    let by_program = |text: &str| {
        std::fs::write(&file, text).expect("written");
        let words =
            ["config", "check", "--agent-bin", "true", "--agent-data-dir", "/tmp", "--service-name", "demo"];
        let file = file.display().to_string();
        let mut words = words.to_vec();
        words.extend(["--advertise", "127.0.0.1", "--config", &file, "--", "true"]);
        run(&words).status.success()
    };
    let by_schema = |text: &str| {
        let table: toml::Table = text.parse().expect("TOML");
        is_valid(&schema, &serde_json::to_value(table).expect("JSON"))
    };
    for (text, good) in [
        ("", true),
        ("stop-timeout = \"20s\"\n", true),
        ("drain-window = \"1m 30s\"\nstop-timeout = \"3min\"\n", true),
        ("start-timeout = \"never\"\n", true),
        ("[agent]\ndns-port = 8600\n", true),
        ("[agent]\ndns-port = \"off\"\n", true),
        (
            "[service]\nport = \"8001\"\ntags = [\"a\", \"b\"]\nmeta = { team = \"nlp\" }\nversion = 2.6\n",
            true,
        ),
        ("[service]\nweight-warning = 0\n", true),
        ("[log]\nformat = \"json\"\n", true),
        ("[worker]\ncommand = [\"python\", \"app.py\"]\n", true),
        ("stop-timeout = 20\n", false),
        ("stop-timeout = \"20\"\n", false),
        ("stop-timeout = \"never\"\n", false),
        ("stop-timout = \"20s\"\n", false),
        ("[agent]\nserf-port = \"off\"\n", false),
        ("[service]\nport = 0\n", false),
        ("[service]\nport = 65536\n", false),
        ("[service]\ntags = \"a\"\n", false),
        ("[service]\nmeta = [\"team=nlp\"]\n", false),
        ("[service]\nweight-passing = 0\n", false),
        ("[service]\nport = [8000]\n", false),
        ("[restart]\nlimit = -1\n", false),
        ("[restart]\nlimit = 1.5\n", false),
        ("[log]\nlevel = \"loud\"\n", false),
        ("[logs]\nlevel = \"info\"\n", false),
    ] {
        assert_eq!((by_schema(text), by_program(text)), (good, good), "{text}");
    }
    let example =
        std::fs::read_to_string(format!("{ROOT}/examples/config/supervisor.toml")).expect("the example");
    assert!(by_schema(&example) && by_program(&example));
}

#[test]
fn the_socket_is_found_by_the_file_that_the_environment_names() {
    let supervisor = Setup::plain(&[]).start();
    supervisor.wait_for_phase("running");
    let file = supervisor.path("p.toml");
    std::fs::write(&file, format!("control-socket = {:?}\n", supervisor.path("control.sock")))
        .expect("written");
    let output = command(&["status"]).env("SUPERVISOR_CONFIG", &file).output().expect("supervisor");
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
}
