//! Settings and models changed while requests are answered: by the admin socket, with no request the worse for it.

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Output;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::{Server, copy_of, model_dir, other_model, program, replace, resident_kib};

/// A server with an admin socket.
struct Changeable {
    server: Server,
    dir: tempfile::TempDir,
}

impl Changeable {
    fn of(model: &Path, flags: &[&str]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("admin.sock");
        let mut all = vec!["--admin-socket", socket.to_str().unwrap()];
        all.extend(flags);
        let server = Server::of(model, &all);
        Self { server, dir }
    }

    fn socket(&self) -> PathBuf {
        self.dir.path().join("admin.sock")
    }

    /// One line there, one line back.
    fn ask(&self, request: &str) -> Value {
        let stream = UnixStream::connect(self.socket()).unwrap();
        // A model is loaded in a second; a busy machine may need many.
        stream.set_read_timeout(Some(Duration::from_secs(120))).unwrap();
        (&stream).write_all(format!("{request}\n").as_bytes()).unwrap();
        let mut line = String::new();
        BufReader::new(&stream).read_line(&mut line).unwrap();
        serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}"))
    }

    fn show(&self) -> Value {
        self.ask(r#"{"command":"show"}"#)["state"].take()
    }

    fn apply(&self, settings: &Value) -> Value {
        self.ask(&json!({"command": "apply", "settings": settings}).to_string())
    }

    async fn info(&self) -> Value {
        self.server.get("/info").await.1
    }

    /// A sample of `/metrics`.
    async fn metric(&self, name: &str) -> f64 {
        let text = reqwest::get(format!("{}/metrics", self.server.url)).await.unwrap().text().await.unwrap();
        let line = text.lines().find(|line| line.starts_with(name) && line[name.len()..].starts_with(' '));
        line.unwrap_or_else(|| panic!("no {name} in {text}"))[name.len()..].trim().parse().unwrap()
    }
}

/// The model under another version, and by another aggregation, so that its answers tell it apart.
fn other_version(model: &Path, version: &str) -> tempfile::TempDir {
    let copy = copy_of(model);
    let file = std::fs::read_to_string(model.join("runtime.toml")).unwrap();
    let line = |line: &str| match line.split_once(" = ") {
        Some(("aggregation", _)) => "aggregation = \"none\"".to_owned(),
        Some(("version", _)) => format!("version = \"{version}\""),
        _ => line.to_owned(),
    };
    let file: Vec<String> = file.lines().map(line).collect();
    replace(copy.path(), "runtime.toml", file.join("\n").as_bytes());
    copy
}

mod load {
    use super::*;

    /// What the clients saw.
    #[derive(Debug, Default)]
    pub(super) struct Seen {
        pub(super) entities: usize,
        pub(super) tokens: usize,
    }

    /// Clients that ask until they are told to stop. Whatever is not an answer of one of the two models is a panic.
    pub(super) struct Clients {
        stop: Arc<AtomicBool>,
        tasks: tokio::task::JoinSet<Seen>,
    }

    impl Clients {
        pub(super) fn start(url: &str, count: usize) -> Self {
            let (stop, mut tasks) = (Arc::new(AtomicBool::new(false)), tokio::task::JoinSet::new());
            for client in 0..count {
                let (stop, url) = (Arc::clone(&stop), format!("{url}/predict"));
                tasks.spawn(async move {
                    let (http, mut seen) = (reqwest::Client::new(), Seen::default());
                    // Some new connections, some kept.
                    let texts =
                        ["Zoë Müller lives in Berlin.", "My name is Alex Rivera and my SSN is 472-81-0094."];
                    while !stop.load(Ordering::SeqCst) {
                        let text = texts[client % texts.len()];
                        let answer = http.post(&url).json(&json!({"inputs": text})).send().await.unwrap();
                        assert_eq!(answer.status(), 200, "{}", answer.text().await.unwrap());
                        let found: Vec<Value> = answer.json().await.unwrap();
                        let of = |key: &str| {
                            !found.is_empty() && found.iter().all(|entity| entity[key].is_string())
                        };
                        match (of("entity_group"), of("entity")) {
                            (true, false) => seen.entities += 1,
                            (false, true) => seen.tokens += 1,
                            _ => panic!("an answer of neither model, or of both: {found:?}"),
                        }
                    }
                    seen
                });
            }
            Self { stop, tasks }
        }

        pub(super) async fn stop(self) -> Seen {
            self.stop.store(true, Ordering::SeqCst);
            self.tasks.join_all().await.into_iter().fold(Seen::default(), |sum, seen| Seen {
                entities: sum.entities + seen.entities,
                tokens: sum.tokens + seen.tokens,
            })
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn models_are_swapped_under_load_and_no_request_fails() {
    let other = other_version(&model_dir(), "2.0.0");
    let server = Changeable::of(&model_dir(), &[]);
    let clients = load::Clients::start(&server.server.url, 4);
    for round in 0..4 {
        let to_other = round % 2 == 0;
        let settings = if to_other { json!({"model_path": other.path()}) } else { json!({}) };
        let answer = tokio::task::block_in_place(|| server.apply(&settings));
        assert_eq!((&answer["ok"], &answer["outcome"]), (&json!(true), &json!("swapped")), "{answer}");
        let version = if to_other { "2.0.0" } else { "1.4.0" };
        assert_eq!(answer["state"]["model"]["version"], version);
        // From the answer on every new request is the new model's.
        let asked = server.server.predict(&json!({"inputs": "Zoë Müller"})).await;
        let key = if to_other { "entity" } else { "entity_group" };
        assert!(asked.json::<Value>().await.unwrap()[0][key].is_string());
    }
    let seen = clients.stop().await;
    assert!(seen.entities > 0 && seen.tokens > 0, "{seen:?}");
    assert_eq!(server.metric("model_runtime_settings_change_count{outcome=\"swapped\"}").await, 4.0);
    assert_eq!(server.metric("model_runtime_model_load_duration_count").await, 5.0);
    assert_eq!(server.metric("model_runtime_model_info{device=\"cpu\",model=\"rampart\",precision=\"fp32\",version=\"1.4.0\"}").await, 1.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_concerns_batching_changes_in_place_under_load_and_goes_back_when_left_out() {
    let server = Changeable::of(&model_dir(), &["--max-queue", "100"]);
    let clients = load::Clients::start(&server.server.url, 4);
    let set = json!({"max_batch_size": "2", "max_batch_delay": "1ms", "max_queue": 50, "body_limit": "1KiB", "request_timeout": "20s"});
    let request = json!({"command": "apply", "settings": set, "version": "17"}).to_string();
    let answer = tokio::task::block_in_place(|| server.ask(&request));
    assert_eq!(answer["outcome"], "adjusted", "{answer}");
    let change =
        answer["changes"].as_array().unwrap().iter().find(|change| change["key"] == "max_queue").unwrap();
    assert_eq!((&change["old"], &change["new"]), (&json!(100), &json!(50)));
    assert_eq!(answer["state"]["settings"]["max_queue"], json!({"value": 50, "source": "override"}));

    let info = server.info().await;
    assert_eq!((&info["max_batch_size"], &info["max_queue"]), (&json!(2), &json!(50)), "{info}");
    assert_eq!(info["settings_version"], "17");
    let (_, health) = server.server.get("/health").await;
    assert_eq!((&health["queue_capacity"], &health["settings_version"]), (&json!(50), &json!("17")));
    let large = server.server.predict(&json!({"inputs": "a".repeat(2000)})).await;
    assert_eq!(large.status(), 413);
    assert_eq!(server.metric("model_runtime_queue_capacity").await, 50.0);

    let again = tokio::task::block_in_place(|| server.ask(&request));
    assert_eq!((&again["outcome"], &again["changes"]), (&json!("unchanged"), &json!([])), "{again}");
    let back = tokio::task::block_in_place(|| server.apply(&json!({})));
    assert_eq!(back["outcome"], "adjusted");
    assert_eq!(back["state"]["settings"]["max_queue"], json!({"value": 100, "source": "flag"}));
    assert_eq!(back["state"]["settings"]["max_batch_size"], json!({"value": 32, "source": "default"}));
    assert_eq!(server.info().await.get("settings_version"), None);
    clients.stop().await;
    assert_eq!(
        server.metric("model_runtime_model_load_duration_count").await,
        1.0,
        "no model was loaded for it"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_set_that_cannot_be_adopted_is_refused_with_the_reason_and_changes_nothing() {
    let truncated = copy_of(&model_dir());
    let whole = std::fs::read(model_dir().join("model.pt")).unwrap();
    replace(truncated.path(), "model.pt", &whole[..whole.len() / 2]);
    let other_task = copy_of(&model_dir());
    replace(other_task.path(), "runtime.toml", b"task = \"feature-extraction\"\n");
    let bad_file = copy_of(&model_dir());
    replace(bad_file.path(), "runtime.toml", b"max_batch_sise = 3\n");
    let wrong_labels = copy_of(&model_dir());
    let config = std::fs::read_to_string(model_dir().join("config.json")).unwrap();
    let mut config: Value = serde_json::from_str(&config).unwrap();
    config["id2label"] = json!({"0": "O", "1": "B-X"});
    replace(wrong_labels.path(), "config.json", config.to_string().as_bytes());

    let server = Changeable::of(&model_dir(), &[]);
    let accepted = tokio::task::block_in_place(|| server.apply(&json!({"max_queue": 99})));
    assert_eq!(accepted["ok"], true, "{accepted}");
    let (info, settings) = (server.info().await, server.show()["settings"].take());
    let clients = load::Clients::start(&server.server.url, 2);
    // Beside the wrong value each set has a right one, which must not be adopted either.
    let with = |key: &str, value: Value| json!({"max_batch_size": 7, key: value});
    for (set, says) in [
        (with("model_path", json!("/no/such/dir")), "does not exist"),
        (with("model_path", json!(truncated.path())), "model.pt"),
        (with("model_path", json!(other_task.path())), "feature-extraction"),
        (with("model_path", json!(bad_file.path())), "max_batch_sise"),
        (with("model_path", json!(wrong_labels.path())), "35 labels"),
        (with("max_seq_length", json!(100_000)), "at most 512"),
        (with("device", json!("cuda")), "restart it with --device"),
        (with("max_queue", json!("many")), "max_queue is \"many\""),
        (with("max_batch", json!(3)), "max_batch is not a setting"),
        (with("listen", json!("127.0.0.1:1")), "restart"),
        (with("max_batch_delay", json!("11m")), "request-timeout"),
    ] {
        let answer = tokio::task::block_in_place(|| server.apply(&set));
        assert_eq!(
            (&answer["ok"], &answer["error_type"]),
            (&json!(false), &json!("refused")),
            "{set}: {answer}"
        );
        let error = answer["error"].as_str().unwrap();
        assert!(error.contains(says) && !error.contains("Traceback"), "`{says}` is not in `{error}`");
        assert_eq!(server.info().await, info);
        let state = server.show();
        assert_eq!(state["settings"], settings);
        assert_eq!(state["refused"]["error"], error);
    }
    let several = tokio::task::block_in_place(|| server.apply(&json!({"max_queue": 0, "threads": "x"})));
    let keys: Vec<&Value> =
        several["problems"].as_array().unwrap().iter().map(|problem| &problem["key"]).collect();
    assert_eq!(keys, ["max_queue", "threads"]);
    clients.stop().await;

    let accepted = tokio::task::block_in_place(|| server.apply(&json!({})));
    assert_eq!((&accepted["ok"], &accepted["state"]["refused"]), (&json!(true), &Value::Null));
    let (status, health) = server.server.get("/health").await;
    assert_eq!((status, &health["failed_batches"]), (200, &json!(0)));
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_that_began_with_the_old_model_are_answered_by_it() {
    // They wait for company, and so are in the old model's queue when the new one takes over.
    let tiny = other_model("tiny");
    let other = other_version(&tiny, "2");
    let flags = ["--max-batch-size", "3", "--max-batch-delay", "100s", "--request-timeout", "101s"];
    let server = Changeable::of(&tiny, &flags);
    let ask = |text: &str| {
        reqwest::Client::new()
            .post(format!("{}/predict", server.server.url))
            .json(&json!({"inputs": text}))
            .send()
    };
    let waiting = tokio::spawn(ask("Zoë Müller"));
    server.server.wait_for_health(|_, health| health["queue_depth"] == 1).await;
    let swapped = tokio::task::block_in_place(|| {
        server.apply(&json!({"model_path": other.path(), "max_batch_delay": "0"}))
    });
    assert_eq!(swapped["outcome"], "swapped", "{swapped}");
    // Nobody comes to the old model any more, so that whoever is there need not wait for company.
    let old: Value = waiting.await.unwrap().unwrap().json().await.unwrap();
    assert!(old[0]["entity_group"].is_string(), "{old}");
    let new: Value = ask("Zoë Müller").await.unwrap().json().await.unwrap();
    assert!(new[0]["entity"].is_string(), "{new}");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_set_at_a_time_and_the_first_model_before_any() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("admin.sock");
    let server = Server::listening(&model_dir(), &["--admin-socket", socket.to_str().unwrap()]);
    let mut changeable = Changeable { server, dir };
    // Loading takes most of a second; this a millisecond.
    let early = changeable.apply(&json!({"max_queue": 9}));
    assert_eq!(
        (&early["error_type"], &early["state"]["phase"]),
        (&json!("busy"), &json!("loading")),
        "{early}"
    );
    changeable.server.wait_for_log("ready");

    let other = other_version(&model_dir(), "2.0.0");
    let slow = UnixStream::connect(changeable.socket()).unwrap();
    let request = json!({"command": "apply", "settings": {"model_path": other.path()}}).to_string();
    (&slow).write_all(format!("{request}\n").as_bytes()).unwrap();
    // The two race for their turn; one has it, and the other is told so unless it came when the first was done.
    let second = changeable.apply(&json!({"model_path": other.path(), "max_queue": 9}));
    let mut line = String::new();
    BufReader::new(&slow).read_line(&mut line).unwrap();
    let first: Value = serde_json::from_str(&line).unwrap();
    let busy = [&first, &second].into_iter().filter(|answer| answer["error_type"] == "busy").count();
    let done = [&first, &second].into_iter().filter(|answer| answer["ok"] == true).count();
    assert_eq!((busy, done), (1, 1), "{first} {second}");
    assert_eq!(changeable.show()["refused"], Value::Null, "who is told to come again is not refused");
}

#[test]
fn sigterm_while_a_model_is_loaded_beside_ends_at_once_with_0() {
    let mut server = Changeable::of(&model_dir(), &[]);
    let other = other_version(&model_dir(), "2.0.0");
    let stream = UnixStream::connect(server.socket()).unwrap();
    let request = json!({"command": "apply", "settings": {"model_path": other.path()}}).to_string();
    (&stream).write_all(format!("{request}\n").as_bytes()).unwrap();
    assert_eq!(server.server.stop().code(), Some(0), "{}", server.server.log.join("\n"));
    assert!(!server.socket().exists(), "the socket's file is removed");
}

#[test]
fn the_socket_is_the_owners_alone_and_a_stale_one_is_taken_over() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("made/admin.sock");
    let flags = ["--admin-socket", path.to_str().unwrap()];
    let mut killed = Server::of(&other_model("tiny"), &flags);
    assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    let mut serve = program();
    serve.args(["serve", "--listen", "127.0.0.1:0", "--model"]).arg(other_model("tiny")).args(flags);
    let second = serve.output().unwrap();
    let message = String::from_utf8_lossy(&second.stderr);
    assert_eq!(second.status.code(), Some(4), "{message}");
    assert!(message.contains("another model-runtime is serving it"), "{message}");
    killed.signal(libc::SIGKILL);
    killed.wait();
    assert!(path.exists());
    assert!(Server::of(&other_model("tiny"), &flags).stop().success());
}

#[test]
fn a_request_that_is_not_understood_is_told_what_is_wrong_with_it() {
    let server = Changeable::of(&other_model("tiny"), &[]);
    for (request, says) in [
        ("{", "not a request"),
        (r#"{"command":"reload"}"#, "`apply`"),
        (r#"{"command":"apply"}"#, "takes settings"),
        (r#"{"command":"apply","settings":{},"dry_run":true}"#, "dry_run"),
        (&" ".repeat(70_000), "65536 bytes"),
    ] {
        let answer = server.ask(request);
        assert_eq!(answer["ok"], false);
        assert!(answer["error"].as_str().unwrap().contains(says), "{answer}");
    }
    assert_eq!(server.show()["phase"], "ready");
}

mod command {
    use super::*;

    fn run(server: &Changeable, arguments: &[&str]) -> Output {
        program().arg("settings").args(arguments).arg("--admin-socket").arg(server.socket()).output().unwrap()
    }

    fn stdout(output: &Output) -> String {
        assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout.clone()).unwrap()
    }

    #[test]
    fn settings_are_shown_and_applied_by_the_command_line() {
        let server = Changeable::of(&other_model("tiny"), &["--max-queue", "9"]);
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "max_batch_size = 4\nmax_batch_delay = \"1ms\"\n").unwrap();
        let path = file.path().to_str().unwrap();
        let applied = run(&server, &["apply", "--file", path, "max_batch_size=5", "--version", "v2"]);
        let text = stdout(&applied);
        assert!(text.starts_with("adjusted\n") && text.contains("max_batch_size   32 -> 5\n"), "{text}");

        let text = stdout(&run(&server, &["show"]));
        assert!(text.contains("version  v2\n"), "{text}");
        let row = |key: &str| {
            let line = text.lines().find(|line| line.trim_start().starts_with(key)).unwrap();
            line.split_whitespace().skip(1).collect::<Vec<_>>().join(" ")
        };
        assert_eq!((row("max_batch_size"), row("max_queue")), ("5 override".to_owned(), "9 flag".to_owned()));
        let json: Value = serde_json::from_str(&stdout(&run(&server, &["show", "--json"]))).unwrap();
        assert_eq!(json["state"]["settings"]["max_batch_delay"]["value"], "1ms");

        let refused = run(&server, &["apply", "max_batch_size=0", "threads=no"]);
        let message = String::from_utf8_lossy(&refused.stderr);
        assert_eq!((refused.status.code(), message.lines().count()), (Some(5), 2), "{message}");
        assert_eq!(run(&server, &["apply"]).status.code(), Some(2), "no set is not the empty set");
        let text = stdout(&run(&server, &["apply", "--none"]));
        assert!(text.contains("max_batch_size   5 -> 32\n"), "{text}");
    }

    #[test]
    fn where_nobody_serves_the_command_line_says_so() {
        let output =
            program().args(["settings", "show", "--admin-socket", "/no/such.sock"]).output().unwrap();
        let message = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(5), "{message}");
        assert!(message.contains("no model-runtime at /no/such.sock"), "{message}");
    }
}

/// As a test it takes seconds. `SWAPS=1000 cargo test --release -p model-runtime --test server memory -- --nocapture` is the long run, which prints the memory as
/// it goes; `SWAP_MODEL=ner` names another model than the tiny one.
mod memory {
    use super::*;
    use std::time::Instant;

    /// So many swaps before the growth is measured: the allocator's arenas and libtorch's caches fill in the first ones.
    const SETTLING: usize = 10;
    const SWAPS: usize = 40;
    /// Of a leak of one tiny model a swap (2.6 MB), 40 swaps would leave 100 MiB.
    const GROWTH: u64 = 16 << 10;
    const CLIENTS: usize = 2;

    /// Asks until it is told to stop; how long each answer took. Anything but an answer is a panic.
    async fn ask(url: String, stop: Arc<AtomicBool>) -> Vec<Duration> {
        let (http, mut times) = (reqwest::Client::new(), Vec::new());
        while !stop.load(Ordering::SeqCst) {
            let began = Instant::now();
            let answer =
                http.post(&url).json(&json!({"inputs": "Zoë Müller lives in Berlin."})).send().await.unwrap();
            assert_eq!(answer.status(), 200, "{}", answer.text().await.unwrap());
            times.push(began.elapsed());
        }
        times
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn models_that_were_swapped_out_leave_no_memory_behind_and_no_request_fails() {
        let swaps = std::env::var("SWAPS").map_or(SWAPS, |count| count.parse().expect("a number"));
        let model =
            std::env::var("SWAP_MODEL").map_or_else(|_| other_model("tiny"), |name| other_model(&name));
        let other = other_version(&model, "2");
        let server = Changeable::of(&model, &[]);
        let (stop, mut clients) = (Arc::new(AtomicBool::new(false)), tokio::task::JoinSet::new());
        for _ in 0..CLIENTS {
            clients.spawn(ask(format!("{}/predict", server.server.url), Arc::clone(&stop)));
        }
        let (settling, mut settled) = (SETTLING.max(swaps / 10), 0);
        for swap in 0..settling + swaps {
            let now = resident_kib(server.server.pid());
            if swap == settling {
                settled = now;
            }
            if swap % swaps.div_ceil(20) == 0 {
                println!("{swap:>6} swaps  {now:>8} KiB");
            }
            let settings = if swap % 2 == 0 { json!({"model_path": other.path()}) } else { json!({}) };
            let answer = tokio::task::block_in_place(|| server.apply(&settings));
            assert_eq!(answer["outcome"], "swapped", "{answer}");
        }
        let after = resident_kib(server.server.pid());
        stop.store(true, Ordering::SeqCst);
        let mut times = clients.join_all().await.concat();
        times.sort_unstable();
        println!(
            "{} requests meanwhile, the slowest {:?}, p99 {:?}",
            times.len(),
            times[times.len() - 1],
            times[times.len() * 99 / 100]
        );
        assert!(after < settled + GROWTH, "{settled} KiB after {settling} swaps, {after} after {swaps} more");
    }
}
