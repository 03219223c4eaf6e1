//! Starts the real `model-runtime` on the real model, and stops it again whatever the test does.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use serde_json::Value;

/// Loading takes a second here; a busy machine may need many.
const PATIENCE: Duration = Duration::from_secs(120);

/// The model directory; a test that needs it fails without, it does not skip.
pub(crate) fn model_dir() -> PathBuf {
    let dir = std::env::var_os("PILOTLIGHT_NER_MODEL").map(PathBuf::from);
    let dir = dir
        .expect("PILOTLIGHT_NER_MODEL is not set: run .ci/install/model, then eval \"$(.ci/install/env)\"");
    assert!(dir.join("model.pt").is_file(), "{} has no model.pt: run .ci/install/model", dir.display());
    dir
}

/// Where the models of the other tasks lie.
fn models() -> PathBuf {
    let dir = std::env::var_os("PILOTLIGHT_MODELS").map(PathBuf::from);
    dir.expect("PILOTLIGHT_MODELS is not set: eval \"$(.ci/install/env)\"")
}

/// The directory of one of them.
pub(crate) fn other_model(name: &str) -> PathBuf {
    let dir = models().join(name);
    assert!(
        dir.join("model.pt").is_file(),
        "{} has no model.pt: run .ci/install/model {name}",
        dir.display()
    );
    dir
}

/// What Python answers with it.
pub(crate) fn expected_of(name: &str) -> String {
    let file = models().join(format!("{name}.expected.json"));
    std::fs::read_to_string(&file)
        .unwrap_or_else(|error| panic!("{}: {error}: run .ci/install/model {name}", file.display()))
}

/// A directory with the model's files as links, so that a test can replace one of them.
pub(crate) fn model_copy() -> tempfile::TempDir {
    copy_of(&model_dir())
}

/// The same of any model.
pub(crate) fn copy_of(model: &Path) -> tempfile::TempDir {
    let copy = tempfile::tempdir().unwrap();
    for entry in std::fs::read_dir(model).unwrap() {
        let entry = entry.unwrap();
        std::os::unix::fs::symlink(entry.path(), copy.path().join(entry.file_name())).unwrap();
    }
    copy
}

/// A file of keys.
pub(crate) fn key_file(text: &str) -> tempfile::NamedTempFile {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), text).unwrap();
    file
}

/// Replaces one file of a copied model directory.
pub(crate) fn replace(dir: &Path, name: &str, content: &[u8]) {
    std::fs::remove_file(dir.join(name)).unwrap();
    std::fs::write(dir.join(name), content).unwrap();
}

/// The program, without any variable of the caller's that it reads.
pub(crate) fn program() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_model-runtime"));
    for (name, _) in std::env::vars_os() {
        if ["MODEL_RUNTIME_", "OTEL_"].iter().any(|prefix| name.to_string_lossy().starts_with(prefix)) {
            command.env_remove(name);
        }
    }
    // On a busy machine forty long texts take longer than a client would wait.
    command.env("MODEL_RUNTIME_REQUEST_TIMEOUT", "10m");
    command
}

/// What a process holds in memory (proc(5), VmRSS), in KiB.
pub(crate) fn resident_kib(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

/// A running server.
pub(crate) struct Server {
    child: Child,
    lines: Receiver<String>,
    /// All log lines read so far.
    pub(crate) log: Vec<String>,
    /// `http://127.0.0.1:…`.
    pub(crate) url: String,
    /// `127.0.0.1:…`.
    pub(crate) address: String,
}

impl Server {
    /// Starts it and waits until it is ready.
    pub(crate) fn ready(flags: &[&str]) -> Self {
        Self::of(&model_dir(), flags)
    }

    /// Starts it with this model and waits until it is ready.
    pub(crate) fn of(model: &Path, flags: &[&str]) -> Self {
        let mut server = Self::listening(model, flags);
        server.wait_for_log("ready");
        server
    }

    /// Starts it and waits until it listens; the model is still loading.
    pub(crate) fn listening(model: &Path, flags: &[&str]) -> Self {
        Self::start(program(), model, flags)
    }

    /// The same of a program whose environment a test has set.
    pub(crate) fn start(mut command: Command, model: &Path, flags: &[&str]) -> Self {
        // In a build of the whole workspace reqwest has the supervisor's TLS, and wants a provider chosen even for plain HTTP.
        let _chosen_already = rustls::crypto::ring::default_provider().install_default();
        command.arg("serve").arg("--model").arg(model);
        // On a GPU `auto` would take half the digits; a test that wants them says so by the flag.
        command.env("MODEL_RUNTIME_PRECISION", "fp32");
        command.args(["--listen", "127.0.0.1:0", "--log-format", "json"]).args(flags);
        let mut child = command.stdin(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let stderr = child.stderr.take().unwrap();
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
        let mut server = Self { child, lines, log: Vec::new(), url: String::new(), address: String::new() };
        let event = server.wait_for_log("listening");
        server.address = event["address"].as_str().unwrap().to_owned();
        server.url = format!("http://{}", server.address);
        server
    }

    /// The next event in the log whose message starts so.
    pub(crate) fn wait_for_log(&mut self, start: &str) -> Value {
        let give_up = Instant::now() + PATIENCE;
        loop {
            match self.lines.recv_timeout(give_up.saturating_duration_since(Instant::now())) {
                Ok(line) => {
                    let event: Value = serde_json::from_str(&line).unwrap_or_default();
                    self.log.push(line);
                    if event["message"].as_str().is_some_and(|message| message.starts_with(start)) {
                        return event;
                    }
                }
                Err(RecvTimeoutError::Timeout) => panic!("no `{start}` in the log:\n{}", self.log.join("\n")),
                Err(RecvTimeoutError::Disconnected) => {
                    panic!("ended without `{start}`:\n{}", self.log.join("\n"))
                }
            }
        }
    }

    /// Sends a signal.
    pub(crate) fn signal(&self, signal: i32) {
        let pid = i32::try_from(self.child.id()).unwrap();
        // SAFETY: kill only sends a signal; the child has not been waited for, so the pid is still its own.
        assert_eq!(unsafe { libc::kill(pid, signal) }, 0);
    }

    /// Its process.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits for its end.
    pub(crate) fn wait(&mut self) -> ExitStatus {
        // The log's end of file is the process's end; after it `wait` does not block.
        while let Ok(line) = self.lines.recv_timeout(PATIENCE) {
            self.log.push(line);
        }
        self.child.wait().unwrap()
    }

    /// Asks for its end and waits for it.
    pub(crate) fn stop(&mut self) -> ExitStatus {
        self.signal(libc::SIGTERM);
        self.wait()
    }

    /// `GET`, as status and JSON.
    pub(crate) async fn get(&self, path: &str) -> (u16, Value) {
        let response = reqwest::get(format!("{}{path}", self.url)).await.unwrap();
        let status = response.status().as_u16();
        (status, serde_json::from_str(&response.text().await.unwrap()).unwrap_or_default())
    }

    /// `POST /predict`.
    pub(crate) async fn predict(&self, body: &Value) -> reqwest::Response {
        reqwest::Client::new().post(format!("{}/predict", self.url)).json(body).send().await.unwrap()
    }

    /// Asks `/health` until it says so.
    pub(crate) async fn wait_for_health(&self, wanted: impl Fn(u16, &Value) -> bool) -> (u16, Value) {
        let give_up = Instant::now() + PATIENCE;
        loop {
            let (status, health) = self.get("/health").await;
            if wanted(status, &health) {
                return (status, health);
            }
            assert!(Instant::now() < give_up, "health never came to that: {health}");
            tokio::task::yield_now().await;
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
